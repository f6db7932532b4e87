/** Which command a line or call gives: -A, -I, … with chain, number and further words (add_command, iptables/xshared.c). */
import type { ChainCommand } from './command.ts';
import type { CommandContext } from './commandline.ts';
import type { WordCursor } from './cursor.ts';
import type { Word } from './lexer.ts';
import type { Counters, TableName } from './model.ts';
import type { BaseOptionKey } from './options.ts';
import type { Place } from './report.ts';
import { checkChainName, MAXIMUM_CHAIN_NAME } from './text/chain-name.ts';
import { parseUnsigned } from './text/number.ts';
import { byteLength } from './text/utf8.ts';

const MAXIMUM_RULE_NUMBER = 0x7fff_ffff;

/** What words a command takes: a chain, a rule number, a second name. */
interface CommandShape {
  readonly chain: 'required' | 'optional';
  readonly number?: 'required' | 'optional';
  /** What the second name is. */
  readonly second?: 'policy' | 'new name';
}

const SHAPES: ReadonlyMap<BaseOptionKey, CommandShape> = new Map<BaseOptionKey, CommandShape>([
  ['append', { chain: 'required' }],
  ['check', { chain: 'required' }],
  ['delete', { chain: 'required', number: 'optional' }],
  ['insert', { chain: 'required', number: 'optional' }],
  ['replace', { chain: 'required', number: 'required' }],
  ['new-chain', { chain: 'required' }],
  ['policy', { chain: 'required', second: 'policy' }],
  ['rename-chain', { chain: 'required', second: 'new name' }],
  ['flush', { chain: 'optional' }],
  ['delete-chain', { chain: 'optional' }],
  ['zero', { chain: 'optional', number: 'optional' }],
  ['list', { chain: 'optional', number: 'optional' }],
  ['list-rules', { chain: 'optional', number: 'optional' }],
]);

export interface SelectedCommand {
  readonly key: BaseOptionKey;
  /** The option itself. */
  readonly place: Place;
  /** The chain's word, or the option where there is none. */
  readonly chainPlace: Place;
  readonly chain: string | undefined;
  readonly number: number | undefined;
  readonly second: string | undefined;
}

export class CommandSelection {
  selected: SelectedCommand | undefined;
  /** `-Z` beside `-L` or `-S`. */
  zero = false;
  private readonly context: CommandContext;
  private readonly cursor: WordCursor;

  constructor(context: CommandContext, cursor: WordCursor) {
    this.context = context;
    this.cursor = cursor;
  }

  static isCommand(key: BaseOptionKey): boolean {
    return SHAPES.has(key);
  }

  /** Whether the command carries a rule. */
  get carriesRule(): boolean {
    if (this.selected === undefined) return false;
    const { key, number } = this.selected;
    if (key === 'delete') return number === undefined;
    return key === 'append' || key === 'check' || key === 'insert' || key === 'replace';
  }

  /** Reads the further words of a command; `value` is its chain where that was taken already. */
  select(key: BaseOptionKey, word: Word, value: Word | undefined): void {
    if (this.selected !== undefined && !this.joins(key, word)) return;
    const { reporter, family } = this.context;
    const shape = SHAPES.get(key)!;
    const chain = value ?? (shape.chain === 'optional' ? this.cursor.takeArgument() : undefined);
    const number =
      shape.number === undefined ? undefined : this.takeNumber(word, shape.number === 'required');
    const second = shape.second === undefined ? undefined : this.takeSecond(word, shape.second);
    if (key === 'new-chain') checkChainName(chain!.text, chain!, reporter, family);
    else if (chain !== undefined && byteLength(chain.text) > MAXIMUM_CHAIN_NAME)
      reporter.error(
        'CHAIN_NAME',
        `chain name "${chain.text}" is longer than ${MAXIMUM_CHAIN_NAME} bytes`,
        chain,
      );
    if (this.zero && key === 'zero') return;
    this.selected = { key, place: word, chainPlace: chain ?? word, chain: chain?.text, number, second };
  }

  /** A second command: only -Z goes with -L and -S. */
  private joins(key: BaseOptionKey, word: Word): boolean {
    const lists = (one: BaseOptionKey): boolean => one === 'list' || one === 'list-rules';
    const first = this.selected!.key;
    if ((first === 'zero' && lists(key)) || (key === 'zero' && lists(first))) {
      this.zero = true;
      return true;
    }
    this.context.reporter.error(
      'DUPLICATE_OPTION',
      `only one command a line: "${word.text}" stands beside another`,
      word,
    );
    this.cursor.skipArguments();
    return false;
  }

  private takeNumber(word: Word, required: boolean): number | undefined {
    const { reporter } = this.context;
    const argument = this.cursor.takeArgument();
    if (argument === undefined) {
      if (required) reporter.error('MISSING_ARGUMENT', `"${word.text}" requires a rule number`, word);
      return undefined;
    }
    const number = parseUnsigned(argument.text, 1, MAXIMUM_RULE_NUMBER);
    if (number === undefined)
      reporter.error('BAD_VALUE', `"${argument.text}" is not a rule number`, argument, 'rules count from 1');
    return number;
  }

  private takeSecond(word: Word, what: 'policy' | 'new name'): string | undefined {
    const { reporter, family } = this.context;
    const argument = this.cursor.takeArgument();
    if (argument === undefined)
      reporter.error('MISSING_ARGUMENT', `"${word.text}" requires a chain and a ${what}`, word);
    else if (what === 'new name') checkChainName(argument.text, argument, reporter, family);
    return argument?.text;
  }

  /** The command, when it does not carry a rule and its words were complete. */
  chainCommand(table: TableName, counters: Counters | undefined): ChainCommand | undefined {
    const { key, place, chain, number, second } = this.selected!;
    if (key === 'policy' && second === 'DROP' && table === 'nat')
      this.context.reporter.error(
        'NAT_DROP',
        'the nat table cannot drop',
        place,
        'drop in the filter or raw table',
      );
    switch (key) {
      case 'delete':
        return { kind: 'delete-number', chain: chain!, number: number! };
      case 'new-chain':
        return { kind: 'new-chain', chain: chain! };
      case 'flush':
      case 'delete-chain':
        return { kind: key, chain };
      case 'zero':
      case 'list':
      case 'list-rules':
        return { kind: key, chain, number };
      case 'rename-chain':
        return second === undefined ? undefined : { kind: 'rename-chain', chain: chain!, newName: second };
      default:
        return second === undefined ? undefined : { kind: 'policy', chain: chain!, policy: second, counters };
    }
  }
}
