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
import type { Word } from './lexer.ts';
import { type ExtensionUse, LoadedExtensions } from './loaded.ts';
import type { Counters, Rule, TableName } from './model.ts';
import { BASE_OPTION_LETTERS, BASE_OPTION_NAMES, type BaseOption, type BaseOptionKey } from './options.ts';
import type { Place, Reporter } from './report.ts';
import { didYouMean, nearest } from './suggestion.ts';
import { isTableName, TABLE_NAMES } from './tables.ts';
import { isVerdict, resolveTarget } from './target.ts';
import { checkChainName } from './text/chain-name.ts';
import { parseUnsigned } from './text/number.ts';

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

const MAXIMUM_RULE_NUMBER = 0x7fff_ffff;
const COMMAND_KEYS: ReadonlySet<BaseOptionKey> = new Set([
  'append',
  'delete',
  'check',
  'insert',
  'replace',
  'list',
  'list-rules',
  'flush',
  'zero',
  'new-chain',
  'delete-chain',
  'rename-chain',
  'policy',
]);
/** Commands that carry a rule. */
const RULE_COMMANDS: ReadonlySet<string> = new Set(['append', 'delete', 'check', 'insert', 'replace']);

/** The command as far as the words told so far. */
interface PendingCommand {
  readonly key: BaseOptionKey;
  readonly place: Place;
  readonly chain: string | undefined;
  readonly chainPlace: Place;
  readonly number: number | undefined;
  readonly extra: string | undefined;
}

export class CommandLineParser {
  private readonly context: CommandContext;
  private readonly reporter: Reporter;
  private readonly words: readonly Word[];
  private readonly base: BaseOptions;
  private readonly loaded: LoadedExtensions;
  private next = 0;
  private negation: Word | undefined;
  private command: PendingCommand | undefined;
  private zero = false;
  private otherFamily = false;
  private numeric: Place | undefined;
  private exact: Place | undefined;
  private lineNumbers: Place | undefined;
  private verbose = 0;
  private waitSec = 0;
  private table: TableName;
  private tableSet = false;

  constructor(words: readonly Word[], context: CommandContext, counters?: Counters) {
    this.words = words;
    this.context = context;
    this.reporter = context.reporter;
    this.table = context.table;
    this.loaded = new LoadedExtensions(context);
    this.base = new BaseOptions(context, this.loaded.context, counters);
  }

  /** The command; `undefined` when there were errors or the line is for the other family. */
  parse(): CommandLine | undefined {
    const errorsBefore = this.reporter.errors;
    while (this.next < this.words.length && !this.otherFamily) {
      const word = this.words[this.next++]!;
      const text = word.text;
      if (text === '--') {
        this.refuseRest();
        break;
      }
      if (text.length > 1 && text.charCodeAt(0) === 45) {
        if (text.charCodeAt(1) === 45) this.longOption(word);
        else this.shortOptions(word);
        this.negation = undefined;
      } else if (text === '!') this.negate(word);
      else this.badArgument(word);
    }
    if (this.otherFamily) return undefined;
    if (this.negation !== undefined)
      this.reporter.error('NEGATION', 'nothing follows "!"', this.negation, 'put an option after it');
    this.loaded.finish();
    this.base.finish();
    const command = this.finishCommand();
    if (command === undefined || this.reporter.errors > errorsBefore) return undefined;
    return {
      command,
      table: this.table,
      listing: {
        numeric: this.numeric !== undefined,
        exact: this.exact !== undefined,
        lineNumbers: this.lineNumbers !== undefined,
        verbose: this.verbose,
        zero: this.zero,
      },
      waitSec: this.waitSec,
    };
  }

  private negate(word: Word): void {
    if (this.negation !== undefined)
      this.reporter.error('NEGATION', 'a second "!" in a row', word, 'remove one of the two');
    this.negation = word;
  }

  private badArgument(word: Word): void {
    this.negation = undefined;
    const dashes = nearest(word.text, BASE_OPTION_NAMES.keys());
    this.reporter.error(
      'BAD_ARGUMENT',
      `"${word.text}" is not an option`,
      word,
      dashes !== undefined
        ? `did you mean --${dashes}?`
        : 'quote arguments that have blanks; a closing quote ends the word',
    );
  }

  private refuseRest(): void {
    const rest = this.words[this.next];
    if (rest !== undefined) this.reporter.error('BAD_ARGUMENT', 'nothing may follow "--"', rest);
    this.next = this.words.length;
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
      this.skipArguments();
    } else if (resolved.kind === 'ambiguous') {
      this.reporter.error(
        'AMBIGUOUS_OPTION',
        `option "--${name}" is ambiguous`,
        word,
        `it could be ${resolved.names.map((candidate) => `--${candidate}`).join(', ')}`,
      );
      this.skipArguments();
    } else if (resolved.kind === 'base') this.baseOption(resolved.option, word, inline);
    else this.extensionOption(resolved.use, resolved.index, word, inline);
  }

  private shortOptions(word: Word): void {
    for (let position = 1; position < word.text.length; position++) {
      const option = BASE_OPTION_LETTERS.get(word.text[position]!);
      if (option === undefined) {
        const name = word.text.slice(1);
        this.unknownOption(word, name);
        this.skipArguments();
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

  /** After an option that is not understood, its arguments are not errors of their own. */
  private skipArguments(): void {
    while (this.peekArgument() !== undefined) this.next++;
  }

  /** xs_has_arg: the next word unless it looks like an option or a negation. */
  private peekArgument(): Word | undefined {
    const word = this.words[this.next];
    if (word === undefined) return undefined;
    const first = word.text[0];
    return first === '-' || first === '!' ? undefined : word;
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
    const word = this.words[this.next];
    if (!negatable || word?.text !== '!' || word.length !== 1 || this.next + 1 >= this.words.length) return;
    this.next++;
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
      const value = this.peekArgument();
      if (value !== undefined) {
        values.push(value);
        this.next++;
      }
    } else {
      this.takeOldNegation(word, spec.negatable === true);
      const value = this.words[this.next];
      if (value === undefined) {
        this.missingArgument(word, spec.syntax ?? '');
        return;
      }
      values.push(value);
      this.next++;
    }
    if (spec.arguments === 2) {
      const second = this.peekArgument();
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
      this.next++;
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
      value = this.words[this.next];
      if (value === undefined) {
        this.missingArgument(word, option.syntax);
        return;
      }
      this.next++;
    }
    if (this.negation !== undefined && !BaseOptions.isNegatable(option.key)) {
      this.reporter.error('NEGATION', `"!" cannot stand before ${word.text}`, this.negation);
    }
    if (COMMAND_KEYS.has(option.key)) this.commandOption(option.key, word, value);
    else this.plainOption(option.key, word, value);
  }

  private plainOption(key: BaseOptionKey, word: Word, value: Word | undefined): void {
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
      case 'table':
        this.setTable(word, value!);
        return;
      case 'numeric':
        this.numeric = word;
        return;
      case 'exact':
        this.exact = word;
        return;
      case 'line-numbers':
        this.lineNumbers = word;
        return;
      case 'verbose':
        this.verbose++;
        return;
      case 'ipv4':
      case 'ipv6':
        this.familyOption(key, word);
        return;
      case 'wait':
      case 'wait-interval':
        this.wait(key, word, value);
        return;
      case 'modprobe':
        return;
      case 'version':
      case 'help':
        this.reporter.error('ILLEGAL_OPTION', `option "${word.text}" cannot stand in a rule`, word);
        return;
      default:
        this.base.set(key, word, value, this.negation !== undefined);
    }
  }

  private jump(word: Word, name: Word): void {
    if (!this.base.setTarget(name, word, false) || this.loaded.loadTarget(name)) return;
    if (!isVerdict(name.text) && !this.context.isChain(name.text)) this.loaded.expectForeignOptions();
  }

  private familyOption(key: 'ipv4' | 'ipv6', word: Word): void {
    if (key === this.context.family) return;
    if (this.context.restore) this.otherFamily = true;
    else
      this.reporter.error(
        'ILLEGAL_OPTION',
        `option "${word.text}" does not fit ${this.context.family === 'ipv4' ? 'iptables' : 'ip6tables'}`,
        word,
      );
  }

  private wait(key: 'wait' | 'wait-interval', word: Word, value: Word | undefined): void {
    const argument = value ?? this.peekArgument();
    if (value === undefined && argument !== undefined) this.next++;
    if (this.context.restore) {
      this.reporter.error('ILLEGAL_OPTION', `option "${word.text}" cannot stand in a restore file`, word);
      return;
    }
    const number =
      argument === undefined ? Number.POSITIVE_INFINITY : parseUnsigned(argument.text, 0, 2 ** 31);
    if (number === undefined)
      this.reporter.error('BAD_VALUE', `"${argument!.text}" is not a time to wait`, argument!);
    else if (key === 'wait') this.waitSec = number;
  }

  private setTable(word: Word, value: Word): void {
    if (this.context.restore)
      this.reporter.error(
        'ILLEGAL_OPTION',
        'option "-t" cannot stand in a restore file',
        word,
        'the line that begins with "*" names the table',
      );
    else if (!isTableName(value.text))
      this.reporter.error(
        'UNKNOWN_TABLE',
        `unknown table "${value.text}"`,
        value,
        didYouMean(value.text, TABLE_NAMES),
      );
    else if (this.tableSet) this.reporter.error('DUPLICATE_OPTION', 'option "-t" stands twice', word);
    else {
      this.tableSet = true;
      this.table = value.text;
      this.loaded.context.table = value.text;
    }
  }

  private setCounters(word: Word, value: Word): void {
    const comma = value.text.indexOf(',');
    let bytes = comma < 0 ? undefined : value.text.slice(comma + 1);
    if (bytes === undefined) {
      bytes = this.peekArgument()?.text;
      if (bytes !== undefined) this.next++;
    }
    const packets = comma < 0 ? value.text : value.text.slice(0, comma);
    if (bytes === undefined || !/^[0-9]+$/.test(packets) || !/^[0-9]+$/.test(bytes))
      this.reporter.error('BAD_COUNTERS', `option "${word.text}" needs a packet and a byte counter`, value);
    else this.base.setCounters({ packets: BigInt(packets), bytes: BigInt(bytes) }, word);
  }

  private commandOption(key: BaseOptionKey, word: Word, value: Word | undefined): void {
    if (this.command !== undefined) {
      // -Z goes with -L and -S.
      const listing = ['list', 'list-rules'];
      const pair = [this.command.key, key];
      if (pair.includes('zero') && pair.some((one) => listing.includes(one))) {
        this.zero = true;
        if (key === 'zero') {
          if (value === undefined && this.peekArgument() !== undefined) this.next++;
          return;
        }
      } else {
        this.reporter.error(
          'DUPLICATE_OPTION',
          `only one command a line: "${word.text}" stands beside another`,
          word,
        );
        this.skipArguments();
        return;
      }
    }
    let chain = value;
    let number: number | undefined;
    let extra: string | undefined;
    const optionalChain = ['list', 'list-rules', 'flush', 'zero', 'delete-chain'].includes(key);
    if (optionalChain && chain === undefined) {
      chain = this.peekArgument();
      if (chain !== undefined) this.next++;
    }
    if (['delete', 'insert', 'replace', 'list', 'list-rules', 'zero'].includes(key)) {
      const argument = this.peekArgument();
      if (argument !== undefined) {
        this.next++;
        number = parseUnsigned(argument.text, 1, MAXIMUM_RULE_NUMBER);
        if (number === undefined)
          this.reporter.error('BAD_VALUE', `"${argument.text}" is not a rule number`, argument);
      } else if (key === 'replace')
        this.reporter.error('MISSING_ARGUMENT', `"${word.text}" requires a rule number`, word);
    }
    if (key === 'policy' || key === 'rename-chain') {
      const argument = this.peekArgument();
      if (argument !== undefined) {
        this.next++;
        extra = argument.text;
        if (key === 'rename-chain') checkChainName(extra, argument, this.reporter, this.context.family);
      } else
        this.reporter.error(
          'MISSING_ARGUMENT',
          key === 'policy'
            ? `"${word.text}" requires a chain and a policy`
            : `"${word.text}" requires two chains`,
          word,
        );
    }
    if (key === 'new-chain') checkChainName(chain!.text, chain!, this.reporter, this.context.family);
    const place = chain ?? word;
    this.command = { key, place: word, chain: chain?.text, chainPlace: place, number, extra };
    if (chain !== undefined) {
      if (chain.text.length >= 29)
        this.reporter.error(
          'CHAIN_NAME',
          `chain name "${chain.text}" is too long`,
          chain,
          'at most 28 characters',
        );
      this.loaded.context.chain = chain.text;
    }
  }

  private finishCommand(): Command | undefined {
    const command = this.command;
    if (command === undefined) {
      this.reporter.error(
        'MISSING_COMMAND',
        'the line has no command',
        this.reporter.wholeLine(),
        'rules begin with -A CHAIN',
      );
      return undefined;
    }
    const isRule =
      RULE_COMMANDS.has(command.key) && !(command.key === 'delete' && command.number !== undefined);
    for (const [place, name] of [
      [this.numeric, '-n'],
      [this.exact, '-x'],
      [this.lineNumbers, '--line-numbers'],
    ] as const) {
      if (place !== undefined && command.key !== 'list')
        this.reporter.error('ILLEGAL_OPTION', `option "${name}" does not go with this command`, place);
    }
    const { chain, number } = command;
    if (isRule) return this.ruleCommand(command);
    this.base.refuseRuleOptions(command.key === 'policy');
    if (command.key === 'policy' && command.extra === 'DROP' && this.table === 'nat')
      this.reporter.error(
        'WRONG_TABLE',
        'the nat table cannot drop',
        command.place,
        'drop in the filter table',
      );
    switch (command.key) {
      case 'delete':
        return { kind: 'delete-number', chain: chain!, number: number! };
      case 'new-chain':
        return { kind: 'new-chain', chain: chain! };
      case 'flush':
      case 'delete-chain':
        return { kind: command.key, chain };
      case 'zero':
      case 'list':
      case 'list-rules':
        return { kind: command.key, chain, number };
      case 'rename-chain':
        return command.extra === undefined
          ? undefined
          : { kind: 'rename-chain', chain: chain!, newName: command.extra };
      default:
        return command.extra === undefined
          ? undefined
          : { kind: 'policy', chain: chain!, policy: command.extra, counters: this.base.givenCounters };
    }
  }

  private ruleCommand(command: PendingCommand): RuleCommand | undefined {
    const chain = command.chain!;
    this.base.checkDevices(chain);
    const target = resolveTarget(this.base.target, this.loaded.target, this.context, this.table);
    const combinations = this.base.addressCombinations();
    if (combinations.length === 0) return undefined;
    const span = this.reporter.span(this.reporter.wholeLine());
    const matches = this.loaded.matchUses();
    const rules: Rule[] = combinations.map((base) => ({
      base,
      matches,
      ...(target === undefined ? {} : { target }),
      counters: this.base.freshCounters(),
      span,
    }));
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
