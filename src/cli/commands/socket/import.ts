import { importBindings } from '../../../host/index.ts';
import { bindingFileJson, formatBindingFile } from '../../../sklookup/index.ts';
import type { Command } from '../../command.ts';
import { readInput } from '../../environment.ts';
import { ExitCode } from '../../exit.ts';

export const socketImport: Command = {
  name: 'socket import',
  summary: 'make a bindings file of TPROXY and REDIRECT rules, or of the JSON of tubular',
  description:
    'Prints the bindings file; what a binding cannot say is listed on standard error (with --json in the output), and the exit code is 1 then.',
  arguments: [{ name: 'FILE', summary: 'what iptables-save prints, or JSON; "-" for standard input' }],
  options: [],
  examples: [{ line: 'iptables-save -t mangle | sluice socket import -', says: 'then: socket apply' }],
  async run(invocation, environment) {
    const path = invocation.arguments[0]!;
    const text = new TextDecoder().decode(await readInput(path, environment));
    const { file, notImported, remarks } = importBindings(text, path === '-' ? '<stdin>' : path);
    if (invocation.flag('json')) {
      const left = notImported.map(({ what, reason, span }) => ({ what, reason, line: span.line }));
      const data = { ...bindingFileJson(file), notImported: left, remarks };
      await environment.stdout.write(`${JSON.stringify(data)}\n`);
    } else {
      const comments = remarks.map((remark) => `# ${remark}\n`).join('');
      await environment.stdout.write(`${comments}${formatBindingFile(file)}`);
      for (const { what, reason, span } of notImported)
        await environment.stderr.write(`${span.file}:${span.line}: not imported: ${reason}\n  ${what}\n`);
    }
    return notImported.length === 0 ? ExitCode.OK : ExitCode.FINDING;
  },
};
