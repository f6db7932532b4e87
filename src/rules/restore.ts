/**
 * Reads iptables-save files as iptables-restore 1.8.9 does (ip46tables_restore_main, iptables/iptables-restore.c),
 * except that it goes on after an error and reports all of them.
 */
import type { Family } from '../net/index.ts';
import { type CommandContext, parseCommand } from './commandline.ts';
import type { Diagnostic } from './diagnostic.ts';
import { inferFamily } from './family.ts';
import { splitWords, type Word } from './lexer.ts';
import type { Counters, Ruleset, Table, TableName } from './model.ts';
import { Reporter } from './report.ts';
import { didYouMean } from './suggestion.ts';
import { TableBuilder } from './tablebuilder.ts';
import { isTableName, TABLE_NAMES } from './tables.ts';
import { verifyTable } from './verify.ts';

export interface ParseOptions {
  /** Name of the source for diagnostics. */
  readonly file: string;
  /** Absent: inferred from the text where it is certain, else an error. */
  readonly family?: Family;
  /** Takes "!" after an option, as iptables before 1.4.3 did, with a warning. */
  readonly acceptOldNegation?: boolean;
  /** Tables that are there already: those that the text does not name stay, and so do policies that it does not say. */
  readonly base?: Ruleset;
  /** What the text says is done to the rules of `base`, instead of to empty tables. */
  readonly noflush?: boolean;
  /** Other tables of the text are passed over, as with `-T`. */
  readonly table?: TableName;
  /** Counters in brackets are passed over, as without `-c`; those that a rule is given by an option are not. */
  readonly passCounters?: boolean;
}

export interface ParseResult {
  /** What could be read; complete when no diagnostic is an error. */
  readonly ruleset: Ruleset;
  /** In source order, warnings among them. */
  readonly diagnostics: readonly Diagnostic[];
}

/** sizeof(buffer) of iptables-restore less line feed and terminator. */
const MAXIMUM_LINE = 10_238;
const COUNTERS = /^\[([0-9]+):([0-9]+)\]$/;

/** Never throws on bad input: what is wrong is in the diagnostics. */
export function parseRuleset(text: string, options: ParseOptions): ParseResult {
  return new RestoreReader(text, options).read();
}

class RestoreReader {
  private readonly text: string;
  private readonly reporter: Reporter;
  private readonly family: Family;
  private readonly context: CommandContext;
  private readonly tables: Table[] = [];
  private readonly options: ParseOptions;
  private builder: TableBuilder | undefined;
  /** Inside a table, also one whose name is unknown. */
  private inTable = false;
  private carriageReturnSeen = false;
  /** Lines read so far. */
  private lines = 0;
  /** The text by lines, once a finding about an earlier line needs one. */
  private allLines: readonly string[] | undefined;

  constructor(text: string, options: ParseOptions) {
    this.text = text;
    this.reporter = new Reporter(options.file);
    this.family = options.family ?? this.inferredFamily(text);
    this.options = options;
    const reader = this;
    this.context = {
      family: this.family,
      get table() {
        return reader.builder?.table.name ?? 'filter';
      },
      restore: true,
      acceptOldNegation: options.acceptOldNegation ?? false,
      reporter: this.reporter,
      isChain: (name) => this.builder?.isChain(name) ?? false,
      chainNames: () => this.builder?.chainNames() ?? [],
    };
  }

  private inferredFamily(text: string): Family {
    const family = inferFamily(text);
    if (family !== undefined) return family;
    this.reporter.line = 1;
    this.reporter.sourceLine = text.split('\n', 1)[0]!;
    this.reporter.error(
      'FAMILY_UNKNOWN',
      'neither IPv4 nor IPv6 follows from the rules',
      this.reporter.wholeLine(),
      'say which: -4 FILE or -6 FILE',
    );
    return 'ipv4';
  }

  read(): ParseResult {
    const { text, reporter } = this;
    for (let start = 0; start < text.length; ) {
      const feed = text.indexOf('\n', start);
      const end = feed < 0 ? text.length : feed;
      this.lines++;
      reporter.line = this.lines;
      this.readLine(text.slice(start, end), feed >= 0);
      start = end + 1;
    }
    this.readEnd();
    reporter.diagnostics.sort((a, b) => a.span.line - b.span.line);
    return {
      ruleset: { family: this.family, tables: this.tablesWithBase() },
      diagnostics: reporter.diagnostics,
    };
  }

  private tablesWithBase(): Table[] {
    const before = this.options.base?.tables ?? [];
    const known = new Set(before.map(({ name }) => name));
    return [
      ...before.map((table) => this.tables.find(({ name }) => name === table.name) ?? table),
      ...this.tables.filter(({ name }) => !known.has(name)),
    ];
  }

  private readEnd(): void {
    if (!this.inTable) return;
    const { reporter } = this;
    reporter.line = this.lines + 1;
    reporter.sourceLine = '';
    reporter.error(
      'COMMIT_MISSING',
      `table ${this.builder?.table.name ?? ''} is not ended by COMMIT`.replace('  ', ' '),
      { column: 1, length: 1 },
      'add the line COMMIT, and a line feed after it',
    );
    if (this.builder !== undefined) this.keepTable(this.builder);
  }

  private readLine(raw: string, ended: boolean): void {
    const { reporter } = this;
    if (raw === '' || raw.charCodeAt(0) === 35) return;
    const line = raw.endsWith('\r') ? this.withoutCarriageReturn(raw) : raw;
    reporter.sourceLine = line;
    if (line.length > MAXIMUM_LINE) {
      reporter.error(
        'LINE_TOO_LONG',
        `the line is longer than ${MAXIMUM_LINE} characters`,
        reporter.wholeLine(),
      );
      return;
    }
    if (this.inTable && line === 'COMMIT') {
      if (!ended)
        reporter.error('COMMIT_MISSING', 'COMMIT is not ended by a line feed', reporter.wholeLine());
      this.commit();
    } else if (!this.inTable && line.charCodeAt(0) === 42) this.openTable(line);
    else if (!this.inTable) this.outside(line);
    else if (line.charCodeAt(0) === 58) this.chainLine(line);
    else this.commandLine(line);
  }

  private withoutCarriageReturn(raw: string): string {
    const line = raw.slice(0, -1);
    if (!this.carriageReturnSeen) {
      this.carriageReturnSeen = true;
      this.reporter.sourceLine = line;
      this.reporter.error(
        'CARRIAGE_RETURN',
        'the line ends with CR LF, which iptables-restore does not accept',
        { column: raw.length, length: 1 },
        'convert the file to line feeds, for example with sed -i "s/\\r$//"',
      );
    }
    return line;
  }

  private outside(line: string): void {
    const { reporter } = this;
    const blank = line.trim() === '';
    reporter.error(
      'NOT_IN_TABLE',
      blank ? 'a line of blanks stands outside of any table' : 'the line stands outside of any table',
      reporter.wholeLine(),
      blank
        ? 'remove its blanks'
        : line.startsWith('COMMIT')
          ? 'there is no table to commit: begin one with *filter'
          : 'begin a table with *filter, or a comment with #',
    );
  }

  private openTable(line: string): void {
    const { reporter } = this;
    const match = /^\*[ \t]*([^ \t]*)/.exec(line)!;
    const name = match[1]!;
    const place = { column: match[0].length - name.length + 1, length: Math.max(1, name.length) };
    this.inTable = true;
    this.builder = undefined;
    const { base, noflush = false, table: only } = this.options;
    if (only !== undefined && name !== only) return;
    if (!isTableName(name)) {
      const hint = didYouMean(name, TABLE_NAMES) ?? `tables are ${TABLE_NAMES.join(', ')}`;
      reporter.error('UNKNOWN_TABLE', `unknown table "${name}"`, place, hint);
      return;
    }
    const previous = [...this.tables, ...(base?.tables ?? [])].find((table) => table.name === name);
    this.builder = new TableBuilder(
      name,
      this.family,
      reporter.span(reporter.wholeLine()),
      reporter,
      previous,
      noflush,
    );
  }

  private commit(): void {
    this.inTable = false;
    if (this.builder === undefined) return;
    this.keepTable(this.builder);
    this.builder = undefined;
  }

  /** A table that stands twice replaces its earlier self, as it would in the kernel. */
  private keepTable(builder: TableBuilder): void {
    const table = builder.committed;
    verifyTable(table, this.family, this.reporter, (line) => this.sourceLineOf(line));
    const index = this.tables.findIndex((other) => other.name === table.name);
    if (index >= 0) this.tables[index] = table;
    else this.tables.push(table);
  }

  private sourceLineOf(line: number): string {
    this.allLines ??= this.text.split('\n');
    return (this.allLines[line - 1] ?? '').replace(/\r$/, '');
  }

  /** ":chain policy [packets:bytes]". */
  private chainLine(line: string): void {
    const { reporter, builder } = this;
    if (builder === undefined) return;
    const words: Word[] = [];
    for (const match of line.slice(1).matchAll(/[^ \t]+/g))
      words.push({ text: match[0], column: match.index + 2, length: match[0].length });
    const [name, policy, counters] = words;
    if (name === undefined) {
      reporter.error('CHAIN_NAME', 'the chain has no name', reporter.wholeLine(), ':NAME - [0:0]');
      return;
    }
    if (policy === undefined) {
      reporter.error(
        'POLICY',
        `chain "${name.text}" has no policy`,
        name,
        `":${name.text} ACCEPT [0:0]" for a built-in chain, ":${name.text} - [0:0]" for one of your own`,
      );
      return;
    }
    builder.declare(name.text, policy.text, this.policyCounters(counters), name, policy);
  }

  private policyCounters(word: Word | undefined): Counters {
    const match = word === undefined ? null : COUNTERS.exec(word.text);
    if (match === null) {
      if (word !== undefined)
        this.reporter.warning('BAD_COUNTERS', `"${word.text}" is not [packets:bytes]; read as zero`, word);
      return { packets: 0n, bytes: 0n };
    }
    if (this.options.passCounters === true) return { packets: 0n, bytes: 0n };
    return { packets: BigInt(match[1]!), bytes: BigInt(match[2]!) };
  }

  private commandLine(line: string): void {
    const { reporter, builder } = this;
    if (builder === undefined) return;
    let start = 0;
    let counters: Counters | undefined;
    if (line.charCodeAt(0) === 91) {
      const end = line.indexOf(']');
      if (end < 0 || !line.slice(0, end).includes(':')) {
        reporter.error(
          'BAD_COUNTERS',
          `the counters lack a "${end < 0 ? ']' : ':'}"`,
          { column: 1, length: 1 },
          '[packets:bytes]',
        );
        return;
      }
      start = end + 1;
      counters = this.policyCounters({ text: line.slice(0, start), column: 1, length: start });
    }
    const { words, error } = splitWords(line, start);
    if (error !== undefined) {
      if (error.kind === 'unterminated-quote')
        reporter.error('UNTERMINATED_QUOTE', 'the quote is not closed on this line', error);
      else
        reporter.error(
          'LINE_TOO_LONG',
          error.kind === 'word-too-long' ? 'the word is too long' : 'the line has too many words',
          error,
        );
      return;
    }
    const errors = reporter.errors;
    const parsed = parseCommand(words, this.context, counters);
    if (parsed !== undefined) builder.apply(parsed.command, parsed.place);
    else if (reporter.errors > errors) builder.markDamaged(chainNamed(words));
  }
}

const COMMAND_WORD = /^(-[ADICRF]|--(append|delete|insert|check|replace|flush))$/;

/** The chain that a line with errors was meant for: the word after "-A" and its like, or "". */
function chainNamed(words: readonly Word[]): string {
  const index = words.findIndex((word) => COMMAND_WORD.test(word.text));
  return index < 0 ? '' : (words[index + 1]?.text ?? '');
}
