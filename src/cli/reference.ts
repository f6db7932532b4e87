import { POLICY_CODES, SOCKET_HOST_CODES, SUPERVISOR_CODES } from '../host/index.ts';
import { DIAGNOSTIC_CODES, iptablesReference } from '../rules/index.ts';
import { BINDING_CODES, SOCKET_STATE_CODES } from '../sklookup/index.ts';
import { COMMON_OPTIONS, type Command, type CommandOption } from './command.ts';
import { optionSummary, optionWords, usageLine } from './help.ts';
import { hookReach } from './hookreach.ts';
import { manualPages } from './manual.ts';
import { COMMANDS } from './registry.ts';

const GENERATED = '<!-- Made from the code by `npm run docs`. -->\n\n';

function optionRow(option: CommandOption): string {
  return `| \`${optionWords(option)}\` | ${optionSummary(option)} |`;
}

function commandSection(command: Command): string {
  const parts = [
    `## sluice ${command.name}\n\n${command.summary}\n\n\`\`\`\n${usageLine(command)}\n\`\`\`\n`,
  ];
  if (command.description !== undefined) parts.push(`${command.description}\n`);
  if (command.arguments.length > 0) {
    const rows = command.arguments.map(({ name, summary }) => `| \`${name}\` | ${summary} |`);
    parts.push(`| argument | |\n|---|---|\n${rows.join('\n')}\n`);
  }
  if (command.options.length > 0)
    parts.push(`| option | |\n|---|---|\n${command.options.map(optionRow).join('\n')}\n`);
  for (const { line, says } of command.examples ?? []) parts.push(`\`${line}\`: ${says}\n`);
  return parts.join('\n');
}

function commandPage(commands: readonly Command[]): string {
  return `${GENERATED}# Commands

Data goes to standard output, talk to standard error. Every command takes:

| option | |
|---|---|
${COMMON_OPTIONS.map(optionRow).join('\n')}

| exit code | |
|---|---|
| 0 | done, nothing found |
| 1 | a finding: bad rules, a difference, a failed assertion |
| 2 | wrong usage of the command line |
| 3 | not supported here: by this hook, this engine, this build |
| 4 | the environment refuses: privilege, kernel, file |
| 70 | a defect of Sluice |

With \`--json\`, an error is one line on standard output:
\`{"error":{"code","message","file","line","column","hint"}}\`; what does not apply is left out.

${commands.map(commandSection).join('\n')}`;
}

function codeTable(codes: Readonly<Record<string, string>>): string {
  const rows = Object.entries(codes).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);
  return `| code | |\n|---|---|\n${rows.join('\n')}\n`;
}

function errorPage(): string {
  return `${GENERATED}# Codes of findings and errors

Stable: scripts may rely on them.

## Findings about rules

Each comes with file, line, column and, where there is one, a way out.

${codeTable(DIAGNOSTIC_CODES)}
## Findings about bindings files

Likewise with file, line and column.

${codeTable(BINDING_CODES)}
## Errors of live policies

${codeTable(POLICY_CODES)}
## Errors of supervised commands

${codeTable(SUPERVISOR_CODES)}
## Errors of socket steering

${codeTable({ ...SOCKET_HOST_CODES, ...SOCKET_STATE_CODES })}`;
}

/** All that is generated from code, by path in the package. */
export async function generatedPages(): Promise<Readonly<Record<string, string>>> {
  const commands = await Promise.all(COMMANDS.map(async (entry) => await entry.load()));
  const manual = Object.entries(manualPages(COMMANDS, commands));
  return {
    'docs/reference/cli.md': commandPage(commands),
    'docs/reference/errors.md': errorPage(),
    'docs/reference/iptables.md': iptablesReference(hookReach),
    ...Object.fromEntries(manual.map(([name, text]) => [`packaging/man/${name}`, text])),
  };
}
