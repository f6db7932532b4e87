import type { Family } from '../net/index.ts';
import { type Diagnostic, type ParseResult, parseRuleset, RulesetError } from '../rules/index.ts';
import { type CommandArgument, type CommandOption, type Invocation, UsageError } from './command.ts';
import { type CliEnvironment, readInput } from './environment.ts';

/** How every command that reads rules names its files: `-4 FILE`, `-6 FILE`, or plain ones whose family is inferred. */
export const RULE_FILES: readonly CommandOption[] = [
  {
    short: '4',
    value: 'FILE',
    repeatable: true,
    completes: 'file',
    summary: 'IPv4 rules, as iptables-save prints them',
  },
  {
    short: '6',
    value: 'FILE',
    repeatable: true,
    completes: 'file',
    summary: 'IPv6 rules, as ip6tables-save prints them',
  },
];
export const RULE_FILE_ARGUMENT: CommandArgument = {
  name: 'FILE',
  summary:
    'rules of either family, "-" for standard input; say -4 or -6 where the family does not follow from them',
  optional: true,
  repeatable: true,
};

/** A file of rules, read. */
export interface RuleFile extends ParseResult {
  readonly file: string;
  readonly text: string;
}

/** Reads and parses every file that a command line names; none of them being there at all is wrong usage. */
export async function readRuleFiles(
  invocation: Invocation,
  environment: CliEnvironment,
  plain: readonly string[] = invocation.arguments,
): Promise<RuleFile[]> {
  const named: [string, Family | undefined][] = [
    ...invocation.list('4').map((file): [string, Family] => [file, 'ipv4']),
    ...invocation.list('6').map((file): [string, Family] => [file, 'ipv6']),
    ...plain.map((file): [string, undefined] => [file, undefined]),
  ];
  if (named.length === 0) throw new UsageError('no rules given', 'name a file, or "-" for standard input');
  if (named.filter(([file]) => file === '-').length > 1)
    throw new UsageError('standard input can be read once only');
  const files: RuleFile[] = [];
  for (const [file, family] of named) {
    const text = new TextDecoder('utf-8').decode(await readInput(file, environment));
    const options = family === undefined ? {} : { family };
    files.push({ file, text, ...parseRuleset(text, { file: file === '-' ? '<stdin>' : file, ...options }) });
  }
  return files;
}

/** Errors of all files. @throws {RulesetError} when there are any */
export function requireSound(files: readonly RuleFile[], more: readonly Diagnostic[] = []): void {
  const errors = [...files.flatMap(({ diagnostics }) => diagnostics), ...more].filter(
    ({ severity }) => severity === 'error',
  );
  if (errors.length > 0) throw new RulesetError(errors);
}
