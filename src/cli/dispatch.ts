import { type Command, UsageError } from './command.ts';
import type { CliEnvironment } from './environment.ts';
import { ExitCode } from './exit.ts';
import { commandHelp, overview } from './help.ts';
import { parseInvocation } from './parse.ts';
import { COMMANDS, type CommandEntry } from './registry.ts';

/** The entry whose name is the longest prefix of the words, and how many words it took. */
function find(words: readonly string[]): { entry: CommandEntry; used: number } | undefined {
  for (const used of [2, 1]) {
    const name = words.slice(0, used).join(' ');
    const entry = COMMANDS.find((candidate) => candidate.name === name);
    if (entry !== undefined && words.length >= used) return { entry, used };
  }
  return undefined;
}

/** Finds the command, parses its words and runs it. @throws {UsageError} and whatever the command throws */
export async function dispatch(words: readonly string[], environment: CliEnvironment): Promise<number> {
  const first = words[0];
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
    const about = first === 'help' ? find(words.slice(1)) : undefined;
    const text = about === undefined ? overview(COMMANDS) : commandHelp(await about.entry.load());
    await environment.stdout.write(text);
    return first === undefined ? ExitCode.USAGE : ExitCode.OK;
  }
  const found = find(words);
  if (found === undefined) {
    const within = COMMANDS.filter(({ name }) => name.startsWith(`${first} `));
    if (within.length > 0 && (words[1] === undefined || words[1] === '--help' || words[1] === '-h')) {
      await environment.stdout.write(overview(within));
      return words[1] === undefined ? ExitCode.USAGE : ExitCode.OK;
    }
    const tried = within.length > 0 ? words.slice(0, 2).join(' ') : first;
    // Loaded here only: the rules' own did-you-mean comes with all of the rules.
    const { nearest } = await import('../rules/index.ts');
    const near = nearest(
      tried,
      COMMANDS.map(({ name }) => name),
    );
    throw new UsageError(
      `there is no command "${tried}"`,
      near === undefined ? 'see: sluice --help' : `did you mean "${near}"?`,
    );
  }
  const command: Command = await found.entry.load();
  const invocation = parseInvocation(command, words.slice(found.used));
  if (invocation.flag('help')) {
    await environment.stdout.write(commandHelp(command));
    return ExitCode.OK;
  }
  return await command.run(invocation, environment);
}
