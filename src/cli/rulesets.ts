import { CompileError } from '../compile/index.ts';
import type { Family } from '../net/index.ts';
import {
  type Diagnostic,
  type ParseOptions,
  type ParseResult,
  parseRuleset,
  RulesetError,
  type Span,
  UnsupportedRulesError,
} from '../rules/index.ts';
import { type CommandArgument, type CommandOption, type Invocation, UsageError } from './command.ts';
import { type CliEnvironment, readInput } from './environment.ts';

/** How every command that reads rules names its files: `-4 FILE`, `-6 FILE`, or plain ones whose family their name says or is inferred. */
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
  {
    long: 'old-negation',
    summary: 'take "!" after an option too, as iptables before 1.4.3 did, with a warning',
  },
];
export const RULE_FILE_ARGUMENT: CommandArgument = {
  name: 'FILE',
  summary:
    'rules of either family, "-" for standard input; say -4 or -6 where the family does not follow from them, or call the file NAME.v4 or NAME.v6',
  optional: true,
  repeatable: true,
};

/** A file of rules. */
export interface RuleText {
  readonly file: string;
  /** What spans call it. */
  readonly name: string;
  readonly text: string;
  /** As far as the command line or the file's name says it. */
  readonly family: Family | undefined;
}

/** The same, read. */
export interface RuleFile extends RuleText, ParseResult {}

/** Debian's iptables-persistent calls its files rules.v4 and rules.v6. */
function familyOfName(file: string): Family | undefined {
  return file.endsWith('.v4') ? 'ipv4' : file.endsWith('.v6') ? 'ipv6' : undefined;
}

/** Reads every file that a command line names; none of them being there at all is wrong usage. */
export async function readRuleTexts(
  invocation: Invocation,
  environment: CliEnvironment,
  plain: readonly string[] = invocation.arguments,
): Promise<RuleText[]> {
  const named: [string, Family | undefined][] = [
    ...invocation.list('4').map((file): [string, Family] => [file, 'ipv4']),
    ...invocation.list('6').map((file): [string, Family] => [file, 'ipv6']),
    ...plain.map((file): [string, Family | undefined] => [file, familyOfName(file)]),
  ];
  if (named.length === 0) throw new UsageError('no rules given', 'name a file, or "-" for standard input');
  if (named.filter(([file]) => file === '-').length > 1)
    throw new UsageError('standard input can be read once only');
  const texts: RuleText[] = [];
  for (const [file, family] of named) {
    const text = new TextDecoder('utf-8').decode(await readInput(file, environment));
    texts.push({ file, name: file === '-' ? '<stdin>' : file, text, family });
  }
  return texts;
}

/** Parses a file of rules as a command line says. */
export function parseRuleText(
  source: RuleText,
  invocation: Invocation,
  more: Omit<ParseOptions, 'file' | 'family' | 'acceptOldNegation'> = {},
): RuleFile {
  const { name, text, family } = source;
  const options = {
    ...more,
    file: name,
    acceptOldNegation: invocation.flag('old-negation'),
    ...(family === undefined ? {} : { family }),
  };
  return { ...source, ...parseRuleset(text, options) };
}

/** Reads and parses every file that a command line names. */
export async function readRuleFiles(...words: Parameters<typeof readRuleTexts>): Promise<RuleFile[]> {
  return (await readRuleTexts(...words)).map((source) => parseRuleText(source, words[0]));
}

/** Errors of all files. @throws {RulesetError} when there are any */
export function requireSound(files: readonly RuleFile[], more: readonly Diagnostic[] = []): void {
  const errors = [...files.flatMap(({ diagnostics }) => diagnostics), ...more].filter(
    ({ severity }) => severity === 'error',
  );
  if (errors.length > 0) throw new RulesetError(errors);
}

/**
 * Files that make one policy: without errors, and no two of a family, of which one would be lost.
 * @throws {RulesetError} @throws {UsageError}
 */
export function requireOnePolicy(files: readonly RuleFile[]): void {
  requireSound(files);
  const names = new Map<Family, string>();
  for (const { name, ruleset } of files) {
    const other = names.get(ruleset.family);
    if (other !== undefined) {
      const family = ruleset.family === 'ipv4' ? 'IPv4' : 'IPv6';
      throw new UsageError(
        `${other} and ${name} both hold ${family} rules`,
        'put them into one file, each table once',
      );
    }
    names.set(ruleset.family, name);
  }
}

/** Rules that are sound but that the chosen engine or hook cannot run; exit code 3, every rule with its place. */
export class RefusedError extends Error {
  readonly code = 'COMPILE_REFUSED';
  readonly hint: string;
  readonly diagnostics: readonly Diagnostic[];
  constructor(diagnostics: readonly Diagnostic[], hint: string) {
    super(diagnostics[0]?.message ?? 'refused');
    this.name = 'RefusedError';
    this.diagnostics = diagnostics;
    this.hint = hint;
  }
}

/** Runs `work`; what it refuses of the files' rules is told with line and caret. @throws {RefusedError} */
export function refusing<T>(files: readonly RuleFile[], work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw withPlaces(files, error);
  }
}

/** The same for work that goes on later. @throws {RefusedError} */
export async function refusingLater<T>(files: readonly RuleFile[], work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw withPlaces(files, error);
  }
}

function withPlaces(files: readonly RuleFile[], error: unknown): unknown {
  if (error instanceof CompileError) {
    const found = error.refusals.map(({ code, span, what, reason, hooks, table, chain, rule }) =>
      located(files, span, {
        code,
        message: `${what}: ${reason} (${table} ${chain}${rule > 0 ? ` rule ${rule}` : ''})`,
        ...(hooks.length === 0 ? {} : { hint: `could run at ${hooks.join(', ')}` }),
      }),
    );
    return new RefusedError(found, error.hint);
  }
  if (error instanceof UnsupportedRulesError) {
    const found = error.rules.map(({ what, span, table, chain, number }) =>
      located(files, span, {
        code: 'UNSUPPORTED',
        message: `${what} cannot be run (${table} ${chain} rule ${number})`,
      }),
    );
    return new RefusedError(found, error.hint);
  }
  return error;
}

/** A finding with its source line. */
export function located(
  files: readonly RuleFile[],
  span: Span | undefined,
  finding: { readonly code: string; readonly message: string; readonly hint?: string },
): Diagnostic {
  const place = span ?? { file: files[0]?.file ?? '', line: 1, column: 1, length: 1 };
  const file = files.find((one) => one.name === place.file);
  const sourceLine = file?.text.split('\n', place.line)[place.line - 1] ?? '';
  return { ...finding, severity: 'error', span: place, sourceLine };
}
