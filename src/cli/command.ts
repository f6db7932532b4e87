import type { CliEnvironment } from './environment.ts';

/**
 * A command, whole: its words, arguments, options, examples and work. Parsing, `--help`, completion, man pages and
 * docs/reference/cli.md are all made from this one table.
 */
export interface Command {
  /** One or two words: "check", "socket bind". */
  readonly name: string;
  readonly summary: string;
  /** Paragraphs for the man page and `--help`. */
  readonly description?: string;
  readonly arguments: readonly CommandArgument[];
  readonly options: readonly CommandOption[];
  /** All words go to the command as they are, in `rest`; only `--help` alone is ours. */
  readonly passesThrough?: true;
  readonly examples?: readonly { readonly line: string; readonly says: string }[];
  run(invocation: Invocation, environment: CliEnvironment): Promise<number>;
}

export interface CommandArgument {
  readonly name: string;
  readonly summary: string;
  readonly optional?: boolean;
  readonly repeatable?: boolean;
}

export interface CommandOption {
  /** Long name without dashes; may be absent for `-4` and `-6`. */
  readonly long?: string;
  readonly short?: string;
  /** Placeholder of the value; absent for a flag. */
  readonly value?: string;
  readonly choices?: readonly string[];
  readonly repeatable?: boolean;
  /** What completion offers for the value. */
  readonly completes?: 'file' | 'device' | 'netns' | 'choices';
  readonly summary: string;
}

/** The words of a command line, parsed by the command's table. */
export interface Invocation {
  readonly arguments: readonly string[];
  /** After `--`. */
  readonly rest: readonly string[];
  flag(name: string): boolean;
  text(name: string): string | undefined;
  list(name: string): readonly string[];
  /** A whole number within bounds. @throws {UsageError} */
  number(name: string, bounds: { readonly min: number; readonly max: number }): number | undefined;
}

/** The command line does not fit the command; exit code 2. */
export class UsageError extends Error {
  readonly code = 'CLI_USAGE';
  readonly hint: string | undefined;
  constructor(message: string, hint?: string) {
    super(message);
    this.name = 'UsageError';
    this.hint = hint;
  }
}

/** Every command takes these. */
export const COMMON_OPTIONS: readonly CommandOption[] = [
  { long: 'json', short: 'j', summary: 'print machine-readable JSON on standard output, errors too' },
  { long: 'help', short: 'h', summary: 'show how to use the command' },
];

/** The name by which {@link Invocation} knows an option. */
export function optionName(option: CommandOption): string {
  return option.long ?? option.short ?? '';
}
