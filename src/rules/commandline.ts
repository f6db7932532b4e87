/**
 * From words to a command: getopt_long(3) over the options of iptables and of whatever extensions the words load,
 * in the order of do_command4 and do_command6 (iptables 1.8.9, iptables/iptables.c and ip6tables.c).
 *
 * Used for lines of a restore file and for the words of one iptables call alike. Errors go to the reporter; the
 * walk goes on after an error where the rest still makes sense.
 */
import type { Family } from '../net/index.ts';
import { BaseOptions } from './base.ts';
import type { Command, CommandLine, RuleCommand } from './command.ts';
import { WordCursor } from './cursor.ts';
import { GeneralOptions } from './general.ts';
import type { Word } from './lexer.ts';
import { type ExtensionUse, LoadedExtensions } from './loaded.ts';
import type { Counters, Rule, TableName } from './model.ts';
import { BASE_OPTION_LETTERS, BASE_OPTION_NAMES, type BaseOption, type BaseOptionKey } from './options.ts';
import type { Reporter } from './report.ts';
import { CommandSelection, type SelectedCommand } from './selection.ts';
import { didYouMean, nearest } from './suggestion.ts';
import { isVerdict, resolveTarget } from './target.ts';

/** Where a command is read and what is known there. */
export interface CommandContext {
  readonly family: Family;
  /** The table of a restore file, or the default. */
  readonly table: TableName;
  /** A line of a restore file: `-t` and `-w` are not allowed, and a line for the other family is passed over. */
  readonly restore: boolean;
  /** Takes "! " after an option with a warning, instead of refusing it as iptables 1.8.9 does. */
  readonly acceptOldNegation: boolean;
  readonly reporter: Reporter;
  isChain(name: string): boolean;
  chainNames(): Iterable<string>;
}

/** An option found for a word: of iptables, or of a loaded extension. */
type Resolved =
  | { readonly kind: 'base'; readonly option: BaseOption }
  | { readonly kind: 'extension'; readonly use: ExtensionUse; readonly index: number }
  | { readonly kind: 'ambiguous'; readonly names: readonly string[] };

export class CommandLineParser {
  private readonly context: CommandContext;
  private readonly reporter: Reporter;
  private readonly cursor: WordCursor;
  private readonly selection: CommandSelection;
  private readonly general: GeneralOptions;
  private readonly loaded: LoadedExtensions;
  private readonly base: BaseOptions;
  private negation: Word | undefined;

  constructor(words: readonly Word[], context: CommandContext, counters?: Counters) {
    this.context = context;
    this.reporter = context.reporter;
    this.cursor = new WordCursor(words);
    this.selection = new CommandSelection(context, this.cursor);
    this.general = new GeneralOptions(context, this.cursor);
    this.loaded = new LoadedExtensions(context);
    this.base = new BaseOptions(context, this.loaded.context, counters);
  }

  /** The command; `undefined` when there were errors or the line is for the other family. */
  parse(): CommandLine | undefined {
    const errorsBefore = this.reporter.errors;
    for (let word = this.cursor.take(); word !== undefined; word = this.cursor.take()) {
      this.readWord(word);
      if (this.general.otherFamily) return undefined;
    }
    if (this.negation !== undefined)
      this.reporter.error('NEGATION', 'nothing follows "!"', this.negation, 'put an option after it');
    this.loaded.finish();
    this.base.finish();
    const command = this.finishCommand(this.reporter.errors > errorsBefore);
    if (command === undefined || this.reporter.errors > errorsBefore) return undefined;
    return {
      command,
      place: this.selection.selected!.chainPlace,
      table: this.general.table,
      listing: this.general.listing(this.selection.zero),
      waitSec: this.general.waitSec,
    };
  }

  private readWord(word: Word): void {
    const { text } = word;
    if (text === '!') this.negate(word);
    else if (text === '--') this.refuseRest();
    else if (text.length > 1 && text.startsWith('-')) {
      if (text.startsWith('--')) this.longOption(word);
      else this.shortOptions(word);
      this.negation = undefined;
    } else this.badArgument(word);
  }

  private negate(word: Word): void {
    if (this.negation !== undefined)
      this.reporter.error('NEGATION', 'a second "!" in a row', word, 'remove one of the two');
    this.negation = word;
  }

  private badArgument(word: Word): void {
    this.negation = undefined;
    this.reporter.error(
      'BAD_ARGUMENT',
      `"${word.text}" is not an option`,
      word,
      this.argumentHint(word.text),
    );
  }

  private argumentHint(text: string): string {
    if (text.startsWith('*') && this.context.restore) return 'the table before is not ended by COMMIT';
    if (text === 'COMMIT') return 'COMMIT has to be alone on its line';
    const near = nearest(text, BASE_OPTION_NAMES.keys());
    if (near !== undefined) return `did you mean --${near}?`;
    return 'quote arguments that have blanks; a closing quote ends the word';
  }

  private refuseRest(): void {
    const rest = this.cursor.peek();
    if (rest !== undefined) this.reporter.error('BAD_ARGUMENT', 'nothing may follow "--"', rest);
    this.cursor.skipAll();
  }

  /** getopt_long: an exact name anywhere, iptables' own first, else an abbreviation that fits one option only. */
  private resolve(name: string): Resolved | undefined {
    const option = BASE_OPTION_NAMES.get(name);
    if (option !== undefined) return { kind: 'base', option };
    const exact = this.loaded.findOption(name);
    if (exact !== undefined) return { kind: 'extension', ...exact };
    // What could be an option of an unknown extension is not read as an abbreviation of another.
    if (this.loaded.hasForeignOptions) return undefined;
    const fitting = new Map<object, { name: string; resolved: Resolved }>();
    for (const [long, candidate] of BASE_OPTION_NAMES) {
      if (long.startsWith(name) && !fitting.has(candidate))
        fitting.set(candidate, { name: long, resolved: { kind: 'base', option: candidate } });
    }
    for (const candidate of this.loaded.optionsStartingWith(name)) {
      const spec = candidate.use.extension.options[candidate.index]!;
      if (!fitting.has(spec))
        fitting.set(spec, { name: spec.name, resolved: { kind: 'extension', ...candidate } });
    }
    if (fitting.size === 0) return undefined;
    const all = [...fitting.values()];
    return fitting.size === 1
      ? all[0]!.resolved
      : { kind: 'ambiguous', names: all.map((candidate) => candidate.name) };
  }

  private longOption(word: Word): void {
    const equals = word.text.indexOf('=');
    const name = word.text.slice(2, equals < 0 ? undefined : equals);
    const inline = equals < 0 ? undefined : word.text.slice(equals + 1);
    let resolved = this.resolve(name);
    if ((resolved === undefined || resolved.kind === 'ambiguous') && this.loaded.loadProtocol(word))
      resolved = this.resolve(name);
    if (resolved === undefined) {
      this.unknownOption(word, name);
      this.cursor.skipArguments();
    } else if (resolved.kind === 'ambiguous') {
      this.reporter.error(
        'AMBIGUOUS_OPTION',
        `option "--${name}" is ambiguous`,
        word,
        `it could be ${resolved.names.map((candidate) => `--${candidate}`).join(', ')}`,
      );
      this.cursor.skipArguments();
    } else if (resolved.kind === 'base') this.baseOption(resolved.option, word, inline);
    else this.extensionOption(resolved.use, resolved.index, word, inline);
  }

  private shortOptions(word: Word): void {
    for (let position = 1; position < word.text.length; position++) {
      const option = BASE_OPTION_LETTERS.get(word.text[position]!);
      if (option === undefined) {
        const name = word.text.slice(1);
        this.unknownOption(word, name);
        this.cursor.skipArguments();
        return;
      }
      const rest = word.text.slice(position + 1);
      if (option.argument !== 'none') {
        this.baseOption(option, word, rest === '' ? undefined : rest);
        return;
      }
      this.baseOption(option, word, undefined);
    }
  }

  private unknownOption(word: Word, name: string): void {
    if (this.loaded.hasForeignOptions) return;
    const candidates = [...BASE_OPTION_NAMES.keys(), ...this.loaded.optionNames()];
    const elsewhere = this.loaded.extensionWithOption(name);
    const hint =
      elsewhere !== undefined
        ? `--${name} belongs to ${elsewhere}, which has to come before it`
        : didYouMean(name, candidates, '--');
    this.reporter.error('UNKNOWN_OPTION', `unknown option "${word.text}"`, word, hint);
  }

  private missingArgument(word: Word, syntax: string): void {
    this.reporter.error(
      'MISSING_ARGUMENT',
      `option "${word.text}" requires an argument`,
      word,
      syntax === '' ? undefined : `${word.text} ${syntax.replace('[!] ', '')}`,
    );
  }

  /** Passes over the "!" of old files between an option and its argument. */
  private takeOldNegation(option: Word, negatable: boolean): void {
    const word = this.cursor.peek();
    if (!negatable || word?.text !== '!' || word.length !== 1 || !this.cursor.hasTwo) return;
    this.cursor.take();
    const hint = `write ! ${option.text} …`;
    const message = `"!" after ${option.text}: iptables takes it before the option only`;
    if (this.context.acceptOldNegation) this.reporter.warning('OLD_NEGATION', message, word, hint);
    else this.reporter.error('OLD_NEGATION', message, word, hint);
    if (this.negation !== undefined) this.reporter.error('NEGATION', 'negated twice', word);
    this.negation = word;
  }

  private extensionOption(use: ExtensionUse, index: number, word: Word, inline: string | undefined): void {
    const spec = use.extension.options[index]!;
    const values: Word[] = [];
    if (spec.arguments === 0) {
      if (inline !== undefined)
        this.reporter.error('BAD_VALUE', `option "--${spec.name}" takes no argument`, word);
    } else if (inline !== undefined) {
      values.push({ text: inline, column: word.column, length: word.length });
    } else if (spec.arguments === 'optional') {
      const value = this.cursor.takeArgument();
      if (value !== undefined) values.push(value);
    } else {
      this.takeOldNegation(word, spec.negatable === true);
      const value = this.cursor.take();
      if (value === undefined) {
        this.missingArgument(word, spec.syntax ?? '');
        return;
      }
      values.push(value);
    }
    if (spec.arguments === 2) {
      const second = this.cursor.takeArgument();
      if (second === undefined) {
        this.reporter.error(
          'MISSING_ARGUMENT',
          `option "--${spec.name}" requires two arguments`,
          word,
          spec.syntax === undefined ? undefined : `--${spec.name} ${spec.syntax}`,
        );
        return;
      }
      values.push(second);
    }
    this.loaded.apply(use, index, word, values, this.negation);
  }

  private baseOption(option: BaseOption, word: Word, inline: string | undefined): void {
    let value: Word | undefined;
    if (option.argument === 'none') {
      if (inline !== undefined)
        this.reporter.error('BAD_VALUE', `option "--${option.names[0]}" takes no argument`, word);
    } else if (inline !== undefined) {
      value = { text: inline, column: word.column, length: word.length };
      if (BaseOptions.needsOwnWord(option.key))
        this.reporter.error(
          'BAD_VALUE',
          `the argument of "${word.text}" has to be a word of its own`,
          word,
          `write it as iptables reads it: -${option.short} ${inline}`,
        );
    } else if (option.argument === 'required') {
      this.takeOldNegation(word, BaseOptions.isNegatable(option.key));
      value = this.cursor.take();
      if (value === undefined) {
        this.missingArgument(word, option.syntax);
        return;
      }
    }
    if (this.negation !== undefined && !BaseOptions.isNegatable(option.key)) {
      this.reporter.error('NEGATION', `"!" cannot stand before ${word.text}`, this.negation);
    }
    if (CommandSelection.isCommand(option.key)) {
      this.selection.select(option.key, word, value);
      this.loaded.context.chain = this.selection.selected?.chain ?? '';
    } else this.plainOption(option.key, word, value);
  }

  private plainOption(key: BaseOptionKey, word: Word, value: Word | undefined): void {
    if (this.general.set(key, word, value)) {
      this.loaded.context.table = this.general.table;
      return;
    }
    switch (key) {
      case 'match':
        this.loaded.loadMatch(value!, word);
        return;
      case 'jump':
        this.jump(word, value!);
        return;
      case 'goto':
        this.base.setTarget(value!, word, true);
        return;
      case 'set-counters':
        this.setCounters(word, value!);
        return;
      default:
        this.base.set(key, word, value, this.negation !== undefined);
    }
  }

  private jump(word: Word, name: Word): void {
    if (!this.base.setTarget(name, word, false) || this.loaded.loadTarget(name)) return;
    if (!isVerdict(name.text) && !this.context.isChain(name.text)) this.loaded.expectForeignOptions();
  }

  private setCounters(word: Word, value: Word): void {
    const comma = value.text.indexOf(',');
    const packets = comma < 0 ? value.text : value.text.slice(0, comma);
    const bytes = comma < 0 ? this.cursor.takeArgument()?.text : value.text.slice(comma + 1);
    if (bytes === undefined || !/^[0-9]+$/.test(packets) || !/^[0-9]+$/.test(bytes))
      this.reporter.error('BAD_COUNTERS', `option "${word.text}" needs a packet and a byte counter`, value);
    else this.base.setCounters({ packets: BigInt(packets), bytes: BigInt(bytes) }, word);
  }

  /** After other errors a missing command is no error of its own. */
  private finishCommand(broken: boolean): Command | undefined {
    const { selected } = this.selection;
    if (selected === undefined) {
      if (broken) return undefined;
      this.reporter.error(
        'MISSING_COMMAND',
        'the line has no command',
        this.reporter.wholeLine(),
        'rules begin with -A CHAIN',
      );
      return undefined;
    }
    this.general.checkAgainst(selected.key);
    if (this.selection.carriesRule) return this.ruleCommand(selected);
    this.base.refuseRuleOptions(selected.key === 'policy');
    return this.selection.chainCommand(this.general.table, this.base.givenCounters);
  }

  private ruleCommand(command: SelectedCommand): RuleCommand | undefined {
    const chain = command.chain!;
    this.base.checkDevices(chain);
    const target = resolveTarget(this.base.target, this.loaded.target, this.context, this.general.table);
    const combinations = this.base.addressCombinations();
    if (combinations.length === 0) return undefined;
    const span = this.reporter.span(this.reporter.wholeLine());
    const matches = this.loaded.matchUses();
    const rules = combinations.map((base): Rule => {
      const counters = this.base.freshCounters();
      return target === undefined
        ? { base, matches, counters, span }
        : { base, matches, target, counters, span };
    });
    switch (command.key) {
      case 'append':
      case 'check':
      case 'delete':
        return { kind: command.key, chain, rules };
      case 'insert':
        return { kind: 'insert', chain, number: command.number ?? 1, rules };
      default:
        if (rules.length > 1) {
          this.reporter.error(
            'BAD_VALUE',
            'the rule that replaces another has to be one rule',
            command.place,
            'give one source and one destination address',
          );
          return undefined;
        }
        return { kind: 'replace', chain, number: command.number ?? 1, rules };
    }
  }
}

/** Reads the words of one command. See {@link CommandLineParser}. */
export function parseCommand(
  words: readonly Word[],
  context: CommandContext,
  counters?: Counters,
): CommandLine | undefined {
  return new CommandLineParser(words, context, counters).parse();
}
