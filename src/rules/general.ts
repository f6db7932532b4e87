/** Options that are about neither rule nor chain: table, family, listing, lock. */
import type { CommandLine } from './command.ts';
import type { CommandContext } from './commandline.ts';
import type { WordCursor } from './cursor.ts';
import type { Word } from './lexer.ts';
import type { TableName } from './model.ts';
import type { BaseOptionKey } from './options.ts';
import { didYouMean } from './suggestion.ts';
import { isTableName, TABLE_NAMES } from './tables.ts';
import { parseUnsigned } from './text/number.ts';

export class GeneralOptions {
  table: TableName;
  /** The line is marked for the other family, and passed over. */
  otherFamily = false;
  /** `-w`: Infinity without a number, 0 when not given. */
  waitSec = 0;
  private verbose = 0;
  private readonly context: CommandContext;
  private readonly cursor: WordCursor;
  /** Options that stand once, by the word that gave them. */
  private given: Map<BaseOptionKey, Word> | undefined;

  constructor(context: CommandContext, cursor: WordCursor) {
    this.context = context;
    this.cursor = cursor;
    this.table = context.table;
  }

  /** Takes the option when it is one of these. */
  set(key: BaseOptionKey, word: Word, value: Word | undefined): boolean {
    const { reporter } = this.context;
    switch (key) {
      case 'table':
        this.setTable(word, value!);
        return true;
      case 'numeric':
      case 'exact':
      case 'line-numbers':
        this.given ??= new Map();
        this.given.set(key, word);
        return true;
      case 'verbose':
        this.verbose++;
        return true;
      case 'ipv4':
      case 'ipv6':
        this.setFamily(key, word);
        return true;
      case 'wait':
      case 'wait-interval':
        this.setWait(key, word, value);
        return true;
      case 'modprobe':
        return true;
      case 'version':
      case 'help':
        reporter.error('ILLEGAL_OPTION', `option "${word.text}" cannot stand in a rule`, word);
        return true;
      default:
        return false;
    }
  }

  private setFamily(key: 'ipv4' | 'ipv6', word: Word): void {
    const { family, restore, reporter } = this.context;
    if (key === family) return;
    if (restore) this.otherFamily = true;
    else
      reporter.error(
        'ILLEGAL_OPTION',
        `option "${word.text}" does not fit ${family === 'ipv4' ? 'iptables' : 'ip6tables'}`,
        word,
      );
  }

  private setWait(key: 'wait' | 'wait-interval', word: Word, value: Word | undefined): void {
    const { restore, reporter } = this.context;
    const argument = value ?? this.cursor.takeArgument();
    if (restore) {
      reporter.error('ILLEGAL_OPTION', `option "${word.text}" cannot stand in a restore file`, word);
      return;
    }
    const number =
      argument === undefined ? Number.POSITIVE_INFINITY : parseUnsigned(argument.text, 0, 2 ** 31);
    if (number === undefined)
      reporter.error('BAD_VALUE', `"${argument!.text}" is not a time to wait`, argument!);
    else if (key === 'wait') this.waitSec = number;
  }

  private setTable(word: Word, value: Word): void {
    const { restore, reporter } = this.context;
    if (restore)
      reporter.error(
        'ILLEGAL_OPTION',
        'option "-t" cannot stand in a restore file',
        word,
        'the line that begins with "*" names the table',
      );
    else if (!isTableName(value.text))
      reporter.error(
        'UNKNOWN_TABLE',
        `unknown table "${value.text}"`,
        value,
        didYouMean(value.text, TABLE_NAMES),
      );
    else this.table = value.text;
  }

  /** Reports listing options beside a command that lists nothing. */
  checkAgainst(command: BaseOptionKey): void {
    if (command === 'list' || this.given === undefined) return;
    for (const word of this.given.values())
      this.context.reporter.error(
        'ILLEGAL_OPTION',
        `option "${word.text}" does not go with this command`,
        word,
      );
  }

  listing(zero: boolean): CommandLine['listing'] {
    return {
      numeric: this.given?.has('numeric') ?? false,
      exact: this.given?.has('exact') ?? false,
      lineNumbers: this.given?.has('line-numbers') ?? false,
      verbose: this.verbose,
      zero,
    };
  }
}
