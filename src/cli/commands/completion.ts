import { type Command, UsageError } from '../command.ts';
import { completionScript, SHELLS, type Shell } from '../completion.ts';
import { ExitCode } from '../exit.ts';
import { COMMANDS } from '../registry.ts';

export const completion: Command = {
  name: 'completion',
  summary: 'print a completion script for bash, zsh or fish',
  arguments: [{ name: 'SHELL', summary: SHELLS.join(', ') }],
  options: [],
  examples: [{ line: 'source <(sluice completion bash)', says: 'complete in this shell' }],
  async run(invocation, environment) {
    const shell = invocation.arguments[0] as Shell;
    if (!SHELLS.includes(shell))
      throw new UsageError(`no completion for "${shell}"`, `known: ${SHELLS.join(', ')}`);
    const commands = await Promise.all(COMMANDS.map(async (entry) => await entry.load()));
    await environment.stdout.write(completionScript(shell, commands));
    return ExitCode.OK;
  },
};
