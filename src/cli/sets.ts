/** How commands that read rules take the IP sets that the rules name: `--sets FILE`. */
import { type ParsedSets, parseSets, RulesetError } from '../rules/index.ts';
import type { CommandOption, Invocation } from './command.ts';
import { type CliEnvironment, readInput } from './environment.ts';

export const SETS_OPTION: CommandOption = {
  long: 'sets',
  value: 'FILE',
  completes: 'file',
  summary: 'the IP sets that rules name, as ipset save prints them',
};

/** The sets of `--sets`; `undefined` without it. */
export async function readSetFile(
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<ParsedSets | undefined> {
  const file = invocation.text('sets');
  if (file === undefined) return undefined;
  const text = new TextDecoder('utf-8').decode(await readInput(file, environment));
  return parseSets(text, { file: file === '-' ? '<stdin>' : file });
}

/** The same, sound. @throws {RulesetError} */
export async function requireSets(
  invocation: Invocation,
  environment: CliEnvironment,
): Promise<ParsedSets['sets'] | undefined> {
  const read = await readSetFile(invocation, environment);
  if (read !== undefined && read.diagnostics.length > 0) throw new RulesetError(read.diagnostics);
  return read?.sets;
}
