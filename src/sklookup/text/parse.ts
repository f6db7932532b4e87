/**
 * The text form of bindings, one a line:
 *
 *     label web when-empty drop spread hash flows keep
 *     web tcp 192.0.2.0/24 443
 *     web udp 2001:db8::/32 8000-8999 from 2001:db8:1::/48 remote-port 53 in eth0
 *     # a comment
 *
 * Reading goes on after an error, so that all errors of a file are seen at once.
 */
import type { Prefix } from '../../net/index.ts';
import type { Binding } from '../binding.ts';
import { BindingsError } from '../error.ts';
import { findConflicts } from '../precedence.ts';
import { type BindingFile, DEFAULT_LABEL_OPTIONS, type LabelOptions } from './file.ts';
import { Findings } from './findings.ts';
import { parseJsonBindings } from './json.ts';
import { PlainReader } from './plain.ts';
import {
  type Read,
  readChoice,
  readDevice,
  readLabel,
  readPorts,
  readPrefix,
  readProtocol,
  readRemotePort,
} from './words.ts';

interface Word {
  readonly text: string;
  readonly column: number;
}

const USAGE = 'LABEL tcp|udp PREFIX PORT[-PORT]|all [from PREFIX] [remote-port N] [in DEVICE]';
const LABEL_USAGE = 'label NAME [when-empty drop|pass] [spread reuseport|hash] [flows keep|forget]';

/**
 * Reads a bindings file, text or JSON (which begins with a brace).
 * @throws {BindingsError} with every finding
 */
export function parseBindings(text: string, file: string): BindingFile {
  const findings = new Findings(file, text);
  const json = text.trimStart().startsWith('{');
  const read = json ? parseJsonBindings(text, findings) : new LineReader(text, findings).read();
  reportConflicts(read.bindings, read.lines, findings);
  if (findings.list.length > 0) {
    throw new BindingsError(
      findings.list.toSorted((a, b) => a.span.line - b.span.line || a.span.column - b.span.column),
    );
  }
  return { bindings: read.bindings, labels: read.labels };
}

function reportConflicts(bindings: readonly Binding[], lines: readonly number[], findings: Findings): void {
  for (const { first, second } of findConflicts(bindings)) {
    const [earlier, later] = [lines[first]!, lines[second]!];
    const source = findings.line(later);
    const column = source.length - source.trimStart().length + 1;
    findings.add(
      'BINDINGS_CONFLICT',
      later,
      column,
      source.trim().length,
      `takes the same packets as line ${earlier} with the same precedence: ${findings.line(earlier).trim()}`,
      'remove one of the two, or make one more specific',
    );
  }
}

class LineReader {
  readonly #text: string;
  readonly #findings: Findings;
  readonly #plain = new PlainReader();
  readonly #bindings: Binding[] = [];
  readonly #bindingLines: number[] = [];
  readonly #labels = new Map<string, LabelOptions>();
  #line = 0;

  constructor(text: string, findings: Findings) {
    this.#text = text;
    this.#findings = findings;
  }

  read(): { bindings: Binding[]; lines: number[]; labels: Map<string, LabelOptions> } {
    const text = this.#text;
    // One line at a time: a million of them kept would cost more than reading them.
    for (let from = 0, end = 0; end >= 0; from = end + 1) {
      end = text.indexOf('\n', from);
      const to = end < 0 ? text.length : end > from && text[end - 1] === '\r' ? end - 1 : end;
      const line = text.slice(from, to);
      this.#line++;
      const plain = this.#plain.read(line);
      if (plain !== undefined) {
        this.#bindings.push(plain);
        this.#bindingLines.push(this.#line);
        continue;
      }
      const words = split(line);
      if (words.length === 0) continue;
      if (words[0]!.text === 'label' && !isProtocol(words[1]?.text)) this.#readLabel(words);
      else this.#readBinding(words);
    }
    return { bindings: this.#bindings, lines: this.#bindingLines, labels: this.#labels };
  }

  #syntax(word: Word | undefined, words: readonly Word[], message: string, usage: string): undefined {
    const last = words.at(-1)!;
    const [column, length] =
      word === undefined ? [last.column + last.text.length, 1] : [word.column, word.text.length];
    this.#findings.add('BINDINGS_SYNTAX', this.#line, column, length, message, `a line is: ${usage}`);
    return undefined;
  }

  #value<T>(word: Word, read: Read<T>): T | undefined {
    if ('value' in read) return read.value;
    this.#findings.add('BINDINGS_VALUE', this.#line, word.column, word.text.length, read.message, read.hint);
    return undefined;
  }

  #readBinding(words: readonly Word[]): void {
    const [labelWord, protocolWord, prefixWord, portsWord] = words;
    if (
      labelWord === undefined ||
      protocolWord === undefined ||
      prefixWord === undefined ||
      portsWord === undefined
    ) {
      this.#syntax(undefined, words, 'the line ends too early', USAGE);
      return;
    }
    const label = this.#value(labelWord, readLabel(labelWord.text));
    const protocol = this.#value(protocolWord, readProtocol(protocolWord.text));
    const prefix = this.#value(prefixWord, readPrefix(prefixWord.text));
    const ports = this.#value(portsWord, readPorts(portsWord.text));
    const conditions = this.#readConditions(words, prefix);
    if (label === undefined || protocol === undefined || prefix === undefined) return;
    if (ports === undefined || conditions === undefined) return;
    this.#bindings.push({ label, protocol, prefix, ports, ...conditions });
    this.#bindingLines.push(this.#line);
  }

  #readConditions(
    words: readonly Word[],
    prefix: Prefix | undefined,
  ): Pick<Binding, 'source' | 'remotePort' | 'device'> | undefined {
    const conditions: { source?: Prefix; remotePort?: number; device?: string } = {};
    let sound = true;
    for (let at = 4; at < words.length; at += 2) {
      const [name, value] = [words[at]!, words[at + 1]];
      if (name.text !== 'from' && name.text !== 'remote-port' && name.text !== 'in')
        return this.#syntax(name, words, `"${name.text}" is no condition`, USAGE);
      if (value === undefined) return this.#syntax(undefined, words, `"${name.text}" names nothing`, USAGE);
      const key = name.text === 'from' ? 'source' : name.text === 'in' ? 'device' : 'remotePort';
      if (conditions[key] !== undefined)
        return this.#syntax(name, words, `"${name.text}" is said twice`, USAGE);
      if (key === 'source') {
        const source = this.#value(value, readPrefix(value.text));
        if (source !== undefined && prefix !== undefined && source.address.family !== prefix.address.family) {
          const message = 'source and destination are of different families';
          const hint = `give an ${prefix.address.family === 'ipv4' ? 'IPv4' : 'IPv6'} prefix`;
          this.#value(value, { message, hint });
          sound = false;
        } else if (source === undefined) sound = false;
        else conditions.source = source;
      } else if (key === 'device') {
        const device = this.#value(value, readDevice(value.text));
        if (device === undefined) sound = false;
        else conditions.device = device;
      } else {
        const port = this.#value(value, readRemotePort(value.text));
        if (port === undefined) sound = false;
        else conditions.remotePort = port;
      }
    }
    return sound ? conditions : undefined;
  }

  #readLabel(words: readonly Word[]): void {
    const name = words[1];
    if (name === undefined) {
      this.#syntax(undefined, words, 'the line ends too early', LABEL_USAGE);
      return;
    }
    const label = this.#value(name, readLabel(name.text));
    let options: LabelOptions | undefined = DEFAULT_LABEL_OPTIONS;
    for (let at = 2; at < words.length; at += 2) {
      const [option, value] = [words[at]!, words[at + 1]];
      if (value === undefined) {
        this.#syntax(undefined, words, `"${option.text}" needs a word`, LABEL_USAGE);
        return;
      }
      const changed = this.#labelOption(option, value, words);
      options = options !== undefined && changed !== undefined ? { ...options, ...changed } : undefined;
    }
    if (label === undefined || options === undefined) return;
    if (this.#labels.has(label)) {
      const hint = 'say all of its options in one line';
      this.#findings.add(
        'BINDINGS_DUPLICATE',
        this.#line,
        name.column,
        name.text.length,
        `label ${label} is described twice`,
        hint,
      );
      return;
    }
    this.#labels.set(label, options);
  }

  #labelOption(option: Word, value: Word, words: readonly Word[]): Partial<LabelOptions> | undefined {
    switch (option.text) {
      case 'when-empty': {
        const whenEmpty = this.#value(value, readChoice(value.text, ['drop', 'pass']));
        return whenEmpty === undefined ? undefined : { whenEmpty };
      }
      case 'spread': {
        const spread = this.#value(value, readChoice(value.text, ['reuseport', 'hash']));
        return spread === undefined ? undefined : { spread };
      }
      case 'flows': {
        const flows = this.#value(value, readChoice(value.text, ['keep', 'forget']));
        return flows === undefined ? undefined : { flows };
      }
      default:
        return this.#syntax(option, words, `"${option.text}" is no option of a label`, LABEL_USAGE);
    }
  }
}

/** A binding of a label called "label" goes on with a protocol. */
function isProtocol(text: string | undefined): boolean {
  return text === 'tcp' || text === 'udp';
}

function split(line: string): Word[] {
  const words: Word[] = [];
  const end = line.indexOf('#');
  const pattern = /\S+/g;
  const text = end < 0 ? line : line.slice(0, end);
  for (let found = pattern.exec(text); found !== null; found = pattern.exec(text))
    words.push({ text: found[0], column: found.index + 1 });
  return words;
}

/** The words of one binding as a command line gives them: the same grammar, the finding's line is the words. */
export function parseBindingWords(words: readonly string[], origin: string): Binding {
  const file = parseBindings(words.join(' '), origin);
  return file.bindings[0]!;
}
