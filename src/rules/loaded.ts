/** The matches and the target that one rule has loaded so far, and their options. */
import type { Family } from '../net/index.ts';
import type { CommandContext } from './commandline.ts';
import {
  type MatchExtension,
  OptionError,
  type OptionSpec,
  type RuleContext,
  type TargetExtension,
} from './extension.ts';
import type { Word } from './lexer.ts';
import type { MatchUse, TableName } from './model.ts';
import { formatProtocol } from './names/protocols.ts';
import { allExtensions, findMatch, findTarget, matchNames } from './registry.ts';
import type { Place, Reporter } from './report.ts';
import { didYouMean } from './suggestion.ts';

/** One extension loaded by a rule. */
export interface ExtensionUse {
  readonly extension: MatchExtension | TargetExtension;
  readonly name: string;
  readonly state: unknown;
  readonly place: Place;
  /** By index of the option: the word that gave it. */
  readonly given: (Word | undefined)[];
}

/** {@link RuleContext} while the rule is being read. */
export interface LiveRuleContext extends RuleContext {
  family: Family;
  table: TableName;
  chain: string;
  protocol?: { readonly number: number; readonly negate: boolean };
  /** The match that an unknown option loads: the protocol by the name it was written with, a number by its name. */
  protocolMatch?: string;
}

/** Option names of an extension to their index, made once an extension. */
const optionIndex = new WeakMap<object, ReadonlyMap<string, number>>();

function optionsByName(extension: MatchExtension | TargetExtension): ReadonlyMap<string, number> {
  let index = optionIndex.get(extension);
  if (index === undefined) {
    const names = new Map<string, number>();
    for (const [position, option] of extension.options.entries())
      for (const name of [option.name, ...(option.aliases ?? [])]) names.set(name, position);
    index = names;
    optionIndex.set(extension, index);
  }
  return index;
}

export class LoadedExtensions {
  readonly context: LiveRuleContext;
  target: ExtensionUse | undefined;
  private readonly family: Family;
  private readonly reporter: Reporter;
  private readonly matches: ExtensionUse[] = [];
  /** Uses whose options are reachable, the latest loaded first; an earlier use of the same match is complete. */
  private reachable: ExtensionUse[] = [];
  private protocolTried = false;
  /** An unknown match or target was named: options that are not known may be its own. */
  private foreign = false;

  constructor(context: CommandContext) {
    this.family = context.family;
    this.reporter = context.reporter;
    this.context = { family: context.family, table: context.table, chain: '' };
  }

  loadMatch(name: Word, option: Word): void {
    const place = { column: option.column, length: name.column + name.length - option.column };
    const extension = findMatch(name.text, this.family);
    if (extension === undefined) {
      this.foreign = true;
      const other: Family = this.family === 'ipv4' ? 'ipv6' : 'ipv4';
      this.reporter.error(
        'UNKNOWN_MATCH',
        `unknown match "${name.text}"`,
        name,
        findMatch(name.text, other) !== undefined
          ? `the match is for ${other === 'ipv4' ? 'IPv4' : 'IPv6'} only`
          : didYouMean(name.text, matchNames(this.family)),
      );
      return;
    }
    this.addMatch(extension, place);
  }

  /**
   * load_proto (iptables/xshared.c): an unknown option loads, once, the match named after the protocol of `-p`.
   * Returns whether one was loaded.
   */
  loadProtocol(place: Place): boolean {
    const name = this.context.protocolMatch;
    if (this.protocolTried || name === undefined) return false;
    this.protocolTried = true;
    const extension = findMatch(name, this.family);
    if (extension === undefined) return false;
    this.addMatch(extension, place);
    return true;
  }

  private addMatch(extension: MatchExtension, place: Place): void {
    const use = this.makeUse(extension, extension.name, place);
    this.matches.push(use);
    const known = this.reachable.findIndex((other) => other.extension === extension);
    if (known >= 0) this.reachable[known] = use;
    else this.reachable.unshift(use);
  }

  /** Loads the target of this name; returns whether there is one. */
  loadTarget(name: Word): boolean {
    const extension = findTarget(name.text, this.family);
    if (extension === undefined) return false;
    this.target = this.makeUse(extension, extension.name, name);
    this.reachable.unshift(this.target);
    return true;
  }

  /** From now on unknown options are taken for those of an extension that is reported as unknown. */
  expectForeignOptions(): void {
    this.foreign = true;
  }

  get hasForeignOptions(): boolean {
    return this.foreign;
  }

  private makeUse(extension: MatchExtension | TargetExtension, name: string, place: Place): ExtensionUse {
    return { extension, name, state: extension.initial(this.context), place, given: [] };
  }

  findOption(name: string): { use: ExtensionUse; index: number } | undefined {
    for (const use of this.reachable) {
      const index = optionsByName(use.extension).get(name);
      if (index !== undefined) return { use, index };
    }
    return undefined;
  }

  *optionsStartingWith(prefix: string): Iterable<{ use: ExtensionUse; index: number }> {
    for (const use of this.reachable)
      for (const [name, index] of optionsByName(use.extension))
        if (name.startsWith(prefix)) yield { use, index };
  }

  *optionNames(): Iterable<string> {
    for (const use of this.reachable) yield* optionsByName(use.extension).keys();
  }

  /** "-m name" or "-j name" of an extension that has the option, for a hint. */
  extensionWithOption(name: string): string | undefined {
    for (const extension of allExtensions()) {
      if (!extension.families.includes(this.family) || !optionsByName(extension).has(name)) continue;
      const protocols = typeof extension.where === 'function' ? undefined : extension.where?.protocols;
      return protocols?.length === 1
        ? `-p ${formatProtocol(protocols[0]!)}`
        : `${extension.kind === 'match' ? '-m' : '-j'} ${extension.name}`;
    }
    return undefined;
  }

  apply(
    use: ExtensionUse,
    index: number,
    word: Word,
    values: readonly Word[],
    negation: Word | undefined,
  ): void {
    const spec: OptionSpec<unknown> = use.extension.options[index]!;
    if (negation !== undefined && spec.negatable !== true) {
      this.reporter.error('NEGATION', `"!" cannot stand before --${spec.name}`, negation);
      return;
    }
    if (use.given[index] !== undefined && spec.repeatable !== true) {
      this.reporter.error('DUPLICATE_OPTION', `option "--${spec.name}" stands twice`, word);
      return;
    }
    use.given[index] = word;
    try {
      spec.apply(
        use.state,
        values.map((value) => value.text),
        negation !== undefined,
        this.context,
      );
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      const place = values[error.argument] ?? word;
      this.reporter.error('BAD_VALUE', `--${spec.name}: ${error.message}`, place, error.hint);
    }
  }

  /** The final checks of every extension, matches first. */
  finish(): void {
    for (const use of this.matches) this.finishUse(use);
    if (this.target !== undefined) this.finishUse(this.target);
  }

  private finishUse(use: ExtensionUse): void {
    try {
      use.extension.finish?.(use.state, this.context);
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      this.reporter.error('BAD_OPTIONS', `${use.name}: ${error.message}`, use.place, error.hint);
    }
  }

  matchUses(): readonly MatchUse[] {
    return this.matches.map((use) => ({
      extension: use.extension as MatchExtension,
      name: use.name,
      state: use.state,
      span: this.reporter.span(use.place),
    }));
  }
}
