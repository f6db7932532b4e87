/** What options require of each other once a rule ends (libxtables/xtoptions.c: xtables_options_fcheck). */
import { OptionError } from '../extension.ts';

/** Options by name, and whether each was given. */
export type GivenOptions = Readonly<Record<string, boolean>>;

function spell(names: readonly string[]): string {
  const dashed = names.map((name) => `--${name}`);
  return dashed.length < 2 ? dashed.join('') : `${dashed.slice(0, -1).join(', ')} or ${dashed.at(-1)}`;
}

/** @throws {OptionError} when one of the options is missing. */
export function requireAll(extension: string, options: GivenOptions): void {
  for (const [name, given] of Object.entries(options))
    if (!given) throw new OptionError(`${extension} needs --${name}`, { argument: -1 });
}

/** @throws {OptionError} when none of the options was given. */
export function requireAny(extension: string, options: GivenOptions): void {
  if (!Object.values(options).includes(true))
    throw new OptionError(`${extension} needs ${spell(Object.keys(options))}`, { argument: -1 });
}

/** @throws {OptionError} when more than one of the options was given. */
export function allowOne(options: GivenOptions): void {
  const given = Object.keys(options).filter((name) => options[name]);
  if (given.length > 1)
    throw new OptionError(`--${given[0]} cannot be used together with --${given[1]}`, { argument: -1 });
}

/** @throws {OptionError} when not exactly one of the options was given. */
export function requireOne(extension: string, options: GivenOptions): void {
  requireAny(extension, options);
  allowOne(options);
}

/** @throws {OptionError} when `option` was given without `other`. */
export function requireWith(option: string, given: boolean, other: string, otherGiven: boolean): void {
  if (given && !otherGiven) throw new OptionError(`--${option} also needs --${other}`, { argument: -1 });
}
