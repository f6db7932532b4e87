/**
 * The common line of a large file, `LABEL tcp|udp PREFIX PORT[-PORT]|all` without conditions, read character by character:
 * several times faster than word by word. What it does not know for sure it leaves to the reader of parse.ts.
 */
import type { PortRange, Prefix } from '../../net/index.ts';
import { type Binding, isLabel, type Protocol } from '../binding.ts';
import { readPorts, readPrefix } from './words.ts';

const SPACE = 0x20;
const DOT = 0x2e;
const SLASH = 0x2f;
const ZERO = 0x30;
const NINE = 0x39;

/** Keeps what lines have in common: files have few labels and few ports. */
export class PlainReader {
  #label = '';
  readonly #labels = new Set<string>();
  readonly #ports = new Map<string, PortRange>();

  /** The line's binding; `undefined`: read it in full. */
  read(line: string): Binding | undefined {
    const first = line.indexOf(' ');
    if (first <= 0) return undefined;
    // Behind the protocol, which has three letters.
    const third = first + 5;
    const ports = line.indexOf(' ', third) + 1;
    if (ports === 0 || line.charCodeAt(first + 4) !== SPACE) return undefined;
    const protocol = readProtocolAt(line, first + 1);
    if (protocol === undefined || !this.#isLabelAt(line, first)) return undefined;
    const prefix = readIpv4At(line, third, ports - 1) ?? readWord(line.slice(third, ports - 1));
    const range = this.#portsOf(line.slice(ports));
    if (prefix === undefined || range === undefined) return undefined;
    return { label: this.#label, protocol, prefix, ports: range };
  }

  /** Makes the line's first word the label that the next bindings share. */
  #isLabelAt(line: string, end: number): boolean {
    if (end === this.#label.length && line.startsWith(this.#label)) return true;
    const label = line.slice(0, end);
    if (!this.#labels.has(label)) {
      if (!isLabel(label)) return false;
      this.#labels.add(label);
    }
    this.#label = label;
    return true;
  }

  #portsOf(text: string): PortRange | undefined {
    const known = this.#ports.get(text);
    if (known !== undefined) return known;
    if (/[\s#]/.test(text)) return undefined;
    const read = readPorts(text);
    if (!('value' in read)) return undefined;
    this.#ports.set(text, read.value);
    return read.value;
  }
}

function readProtocolAt(line: string, at: number): Protocol | undefined {
  if (line.startsWith('tcp', at)) return 'tcp';
  return line.startsWith('udp', at) ? 'udp' : undefined;
}

function readWord(text: string): Prefix | undefined {
  if (/[\s#]/.test(text)) return undefined;
  const read = readPrefix(text);
  return 'value' in read ? read.value : undefined;
}

/** A dotted quad, perhaps with a length; host bits are cleared. */
function readIpv4At(line: string, from: number, to: number): Prefix | undefined {
  let [word, octet, octets, digits] = [0, 0, 0, 0];
  let at = from;
  for (; at < to; at++) {
    const code = line.charCodeAt(at);
    if (code >= ZERO && code <= NINE) {
      // No leading zeros, which some read as octal.
      if (digits > 0 && octet === 0) return undefined;
      octet = octet * 10 + code - ZERO;
      digits++;
      if (octet > 255) return undefined;
    } else if ((code === DOT || code === SLASH) && digits > 0) {
      word = (word << 8) | octet;
      octets++;
      octet = 0;
      digits = 0;
      if (code === SLASH) break;
    } else return undefined;
  }
  if (at === to) {
    if (digits === 0) return undefined;
    word = (word << 8) | octet;
    octets++;
  }
  if (octets !== 4) return undefined;
  const length = at === to ? 32 : readLengthAt(line, at + 1, to);
  if (length === undefined) return undefined;
  if (length < 32) word &= length === 0 ? 0 : -1 << (32 - length);
  const bytes = new Uint8Array(4);
  bytes[0] = word >>> 24;
  bytes[1] = word >>> 16;
  bytes[2] = word >>> 8;
  bytes[3] = word;
  return { address: { family: 'ipv4', bytes }, length };
}

/** One or two digits up to 32. */
function readLengthAt(line: string, from: number, to: number): number | undefined {
  if (to - from < 1 || to - from > 2) return undefined;
  let length = 0;
  for (let at = from; at < to; at++) {
    const code = line.charCodeAt(at);
    if (code < ZERO || code > NINE || (at > from && length === 0)) return undefined;
    length = length * 10 + code - ZERO;
  }
  return length <= 32 ? length : undefined;
}
