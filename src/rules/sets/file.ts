/** Files of IP sets, as `ipset save` prints them and `ipset restore` reads them. All errors of a file are found at once. */
import type { Diagnostic } from '../diagnostic.ts';
import { splitWords } from '../lexer.ts';
import type { Span } from '../model.ts';
import { Reporter } from '../report.ts';
import { didYouMean } from '../suggestion.ts';
import { formatCreate, parseCreate } from './create.ts';
import { formatEntry, parseEntry } from './entry.ts';
import { SetError } from './error.ts';
import { formatExtras, parseExtras } from './extras.ts';
import type { ListMember, SetDefinition, SetElement } from './type.ts';

/** A set and its entries. */
export interface SetContents {
  readonly definition: SetDefinition;
  readonly elements: SetElement[];
}

export interface ParsedSet extends SetContents {
  readonly span: Span;
}

export interface ParsedSets {
  readonly sets: readonly ParsedSet[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Findings after which a file is not worth reading on. */
const MAX_ERRORS = 100;

/** Never throws on bad input: what is wrong is in the diagnostics. */
export function parseSets(text: string, options: { readonly file: string }): ParsedSets {
  return new SetReader(text, options.file).read();
}

class SetReader {
  readonly #text: string;
  readonly #reporter: Reporter;
  readonly #sets = new Map<string, ParsedSet>();
  /** Members of lists, by the list's name. */
  readonly #members = new Map<string, ListMember[]>();

  constructor(text: string, file: string) {
    this.#text = text;
    this.#reporter = new Reporter(file);
  }

  read(): ParsedSets {
    const reporter = this.#reporter;
    for (let at = 0; at < this.#text.length && reporter.errors < MAX_ERRORS; ) {
      let end = this.#text.indexOf('\n', at);
      if (end < 0) end = this.#text.length;
      reporter.line += 1;
      reporter.sourceLine = this.#text.slice(at, end);
      at = end + 1;
      try {
        this.#line(reporter.sourceLine);
      } catch (error) {
        if (!(error instanceof SetError)) throw error;
        reporter.error('SET_INVALID', error.message, reporter.wholeLine(), error.hint);
      }
    }
    return { sets: [...this.#sets.values()], diagnostics: reporter.diagnostics };
  }

  #line(line: string): void {
    if (line === '' || line.startsWith('#')) return;
    const words = wordsOf(line);
    switch (words[0]) {
      case undefined:
      case 'COMMIT':
        return;
      case 'add':
      case '-A':
        this.#add(words);
        return;
      case 'create':
      case '-N':
      case 'n':
        this.#create(words);
        return;
      default: {
        const hint = didYouMean(words[0]!, ['create', 'add']);
        throw new SetError(
          `unknown command "${words[0]}"`,
          hint ?? 'a file of sets has lines create and add',
        );
      }
    }
  }

  #create(words: readonly string[]): void {
    const members: ListMember[] = [];
    const definition = { ...parseCreate(withoutExist(words).slice(1)), members };
    if (this.#sets.has(definition.name)) {
      throw new SetError(`set ${definition.name} is created twice`);
    }
    const span = this.#reporter.span(this.#reporter.wholeLine());
    this.#sets.set(definition.name, { definition, elements: [], span });
    this.#members.set(definition.name, members);
  }

  #add(all: readonly string[]): void {
    const words = withoutExist(all);
    const [, name = '', entry] = words;
    const set = this.#sets.get(name);
    if (set === undefined) {
      throw new SetError(`set ${name} has not been created`, didYouMean(name, this.#sets.keys()));
    }
    if (entry === undefined) throw new SetError('add lacks its entry');
    const { definition } = set;
    if (definition.type.method === 'list') {
      this.#addMember(definition, words.slice(2));
      return;
    }
    const extras = parseExtras(definition, words, 3);
    for (const key of parseEntry(definition, entry)) set.elements.push({ key, ...extras });
  }

  /** `MEMBER [before|after OTHER] [options]` */
  #addMember({ name: list, size }: SetDefinition, [name = '', ...words]: readonly string[]): void {
    const members = this.#members.get(list)!;
    const member = this.#sets.get(name)?.definition;
    if (member === undefined)
      throw new SetError(`set ${name} has not been created`, didYouMean(name, this.#sets.keys()));
    if (member.type.method === 'list') throw new SetError('a list of sets cannot have a list as a member');
    if (members.some((known) => known.name === name)) throw new SetError(`set ${name} is in ${list} already`);
    if (members.length >= size)
      throw new SetError(`list ${list} has room for ${size} sets`, 'create it with a larger size');
    let at = members.length;
    let options = words;
    if (words[0] === 'before' || words[0] === 'after') {
      const other = members.findIndex((known) => known.name === words[1]);
      if (other < 0) throw new SetError(`set ${words[1] ?? ''} is not in ${list}`);
      at = words[0] === 'before' ? other : other + 1;
      options = words.slice(2);
    }
    members.splice(at, 0, { name, options: options.map((word) => ` ${word}`).join('') });
  }
}

function withoutExist(words: readonly string[]): readonly string[] {
  return words.includes('-exist') || words.includes('-!')
    ? words.filter((word) => word !== '-exist' && word !== '-!')
    : words;
}

/** Words of a line; a comment is one word, in double quotes. */
export function wordsOf(line: string): string[] {
  if (!line.includes('"')) return line.split(/[ \t\r]+/).filter((word) => word !== '');
  const { words, error } = splitWords(line);
  if (error !== undefined) throw new SetError('a double quote is not closed');
  return words.map(({ text }) => text);
}

/** "add NAME ENTRY options" */
export function formatElement(definition: SetDefinition, element: SetElement): string {
  return `add ${definition.name} ${formatEntry(definition, element.key)}${formatExtras(definition, element)}`;
}

/** As `ipset save`. */
export function formatSet({ definition, elements }: SetContents): string {
  const lines = [formatCreate(definition)];
  for (const element of elements) lines.push(formatElement(definition, element));
  for (const { name, options } of definition.members) lines.push(`add ${definition.name} ${name}${options}`);
  return `${lines.join('\n')}\n`;
}
