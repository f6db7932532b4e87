/**
 * Entries of IP sets: their text to keys and back. A key is 32-bit words (type.ts): addresses, MAC addresses and device
 * names as a little-endian load of their bytes gives them, ports and marks as numbers.
 */
import { type Family, formatAddressBytes, parseAddress } from '../../net/index.ts';
import { SetError } from './error.ts';
import { formatPort, parsePortNumbers, parsePorts } from './port.ts';
import {
  keyLayout,
  keyMasks,
  lacksMac,
  maskWords,
  refusesZero,
  type SetDefinition,
  type SetDimension,
  swap32,
} from './type.ts';

/** Addresses that one entry may stand for. */
const MAX_EXPANSION = 2 ** 20;
const IFNAMSIZ = 16;

/** One part of an entry: the words of its dimension, and the prefix length of a network. */
interface Part {
  readonly words: readonly number[];
  readonly length: number;
}

/** Keys of the entries that the text stands for: several where it has ranges. @throws {SetError} */
export function parseEntry(definition: SetDefinition, text: string): number[][] {
  const { type } = definition;
  const texts = text.split(',');
  const { dimensions } = type;
  // A MAC address that the entry is to get from a packet is left out.
  const least = type.holdsMac ? dimensions.length - 1 : dimensions.length;
  if (texts.length > dimensions.length || texts.length < least) {
    throw new SetError(
      `an entry of ${type.name} has ${dimensions.length} part${dimensions.length === 1 ? '' : 's'}: "${text}" has ${texts.length}`,
      'parts are separated by commas',
    );
  }
  const layout = keyLayout(type, definition.family);
  const masks = keyMasks(definition);
  let keys: number[][] = [new Array<number>(layout.words).fill(0)];
  let network = 0;
  for (let index = 0; index < texts.length; index++) {
    const parts = parsePart(definition, index, texts[index]!);
    const at = layout.at[index]!;
    const shift = dimensions[index] === 'net' ? 8 * network++ : -1;
    if (keys.length * parts.length > MAX_EXPANSION)
      throw new SetError(`"${text}" stands for more than ${MAX_EXPANSION} entries`);
    const put = (own: number[], part: Part): number[] => {
      for (let word = 0; word < part.words.length; word++) {
        own[at + word] = (part.words[word]! & masks[at + word]!) >>> 0;
      }
      if (shift >= 0) own[layout.lengthsAt] = own[layout.lengthsAt]! | (part.length << shift);
      return own;
    };
    if (parts.length === 1) for (const key of keys) put(key, parts[0]!);
    else keys = parts.flatMap((part) => keys.map((key) => put([...key], part)));
  }
  return keys.length === 1 ? keys : unique(keys);
}

/** A netmask makes addresses of a range equal. */
function unique(keys: readonly number[][]): number[][] {
  return [...new Map(keys.map((key) => [key.join(' '), key])).values()];
}

function parsePart(definition: SetDefinition, index: number, text: string): readonly Part[] {
  const { type, family } = definition;
  switch (type.dimensions[index]!) {
    case 'ip':
      return parseAddresses(definition, index, text);
    case 'net':
      return parseNetworks(definition, text);
    case 'port':
      return parsePorts(text).map(wordPart);
    case 'tcp-port':
      return parseBitmapPorts(definition, text);
    case 'mark':
      return [wordPart(parseMark(text))];
    case 'mac':
      return [{ words: parseMac(text), length: 0 }];
    case 'iface':
      return [{ words: parseDevice(text), length: 0 }];
    case 'set':
      throw new SetError(`members of a ${type.name} are not entries of ${family}`);
  }
}

function wordPart(word: number): Part {
  return { words: [word], length: 0 };
}

function parseBitmapPorts({ range }: SetDefinition, text: string): Part[] {
  const colon = text.indexOf(':');
  if (colon >= 0 && !/^(tcp|udp):/.test(text))
    throw new SetError(`"${text}": a bitmap:port has TCP and UDP ports only`);
  const ports = parsePortNumbers(text.slice(colon + 1));
  for (const port of ports) requireInRange(range, port, text);
  return ports.map(wordPart);
}

function requireInRange(range: SetDefinition['range'], value: number, text: string): void {
  if (range === undefined || (value >= range[0] && value <= range[1])) return;
  throw new SetError(`"${text}" is outside of the set's range`);
}

function parseAddresses(definition: SetDefinition, index: number, text: string): Part[] {
  const { type, family, netmask, range } = definition;
  const bits = family === 'ipv4' ? 32 : 128;
  const slash = text.indexOf('/');
  const dash = text.indexOf('-');
  if (slash < 0 && dash < 0) {
    const words = addressWords(text, family);
    if (type.method === 'bitmap') requireInRange(range, swap32(words[0]!), text);
    requireAddress(definition, index, words);
    return [{ words, length: bits }];
  }
  if (type.holdsMac)
    throw new SetError(`"${text}": an entry of ${type.name} has one address`, 'add each address');
  if (family === 'ipv6') {
    if (text.endsWith('/128')) return parseAddresses(definition, index, text.slice(0, -4));
    throw new SetError(
      `"${text}": ranges and networks of IPv6 addresses are not stored one by one`,
      'use a hash:net',
    );
  }
  let [first, last] = parseRange4(text, slash, dash);
  // Entries of a netmask go from one network to the next.
  const step = netmask === undefined ? 1 : 2 ** (32 - netmask);
  first = Math.floor(first / step) * step;
  if (type.method === 'bitmap') {
    requireInRange(range, first, text);
    requireInRange(range, last, text);
  }
  if ((last - first) / step > MAX_EXPANSION)
    throw new SetError(`"${text}" stands for more than ${MAX_EXPANSION} entries`);
  const parts: Part[] = [];
  for (let value = first; value <= last; value += step) {
    const words = [swap32(value)];
    requireAddress(definition, index, words);
    parts.push({ words, length: 32 });
  }
  return parts;
}

function requireAddress(definition: SetDefinition, index: number, words: readonly number[]): void {
  const { type, family } = definition;
  if (!refusesZero(type)) return;
  const masks = keyMasks(definition);
  const at = keyLayout(type, family).at[index]!;
  if (words.every((word, offset) => (word & masks[at + offset]!) === 0))
    throw new SetError(`the address with all bits zero cannot be stored in a ${type.name}`);
}

/** First and last address of `a-b` or `a/length`. */
function parseRange4(text: string, slash: number, dash: number): [number, number] {
  const number = (part: string): number => swap32(addressWords(part, 'ipv4')[0]!);
  if (slash >= 0) {
    const length = prefixLength(text.slice(slash + 1), 32, text);
    const size = 2 ** (32 - length);
    const first = Math.floor(number(text.slice(0, slash)) / size) * size;
    return [first, first + size - 1];
  }
  const a = number(text.slice(0, dash));
  const b = number(text.slice(dash + 1));
  return a <= b ? [a, b] : [b, a];
}

function parseNetworks({ type, family }: SetDefinition, text: string): Part[] {
  const bits = family === 'ipv4' ? 32 : 128;
  const slash = text.indexOf('/');
  const dash = text.indexOf('-');
  if (dash >= 0) {
    if (family === 'ipv6') throw new SetError(`"${text}": ranges are for IPv4 only`);
    return coveringNetworks(...parseRange4(text, -1, dash));
  }
  const length = slash < 0 ? bits : prefixLength(text.slice(slash + 1), bits, text);
  if (length === 0 && type.name !== 'hash:net,iface')
    throw new SetError(
      `"${text}": a network of length 0 cannot be stored in a ${type.name}`,
      'store its two halves',
    );
  const address = addressWords(slash < 0 ? text : text.slice(0, slash), family);
  const mask = maskWords(family, length);
  return [{ words: address.map((word, index) => (word & mask[index]!) >>> 0), length }];
}

/** The fewest networks that make up the range. */
function coveringNetworks(first: number, last: number): Part[] {
  const parts: Part[] = [];
  for (let from = first; from <= last; ) {
    let size = 1;
    while (size < 2 ** 31 && from % (size * 2) === 0 && from + size * 2 - 1 <= last) size *= 2;
    parts.push({ words: [swap32(from)], length: 32 - Math.log2(size) });
    from += size;
  }
  return parts;
}

function prefixLength(text: string, most: number, whole: string): number {
  const length = /^[0-9]{1,3}$/.test(text) ? Number(text) : most + 1;
  if (length > most) throw new SetError(`"${whole}" has no prefix length from 0 to ${most}`);
  return length;
}

/** Words of an address of this family. @throws {SetError} */
export function addressWords(text: string, family: Family): number[] {
  if (family === 'ipv4') {
    const word = parseIpv4Word(text);
    if (word !== undefined) return [word];
  } else {
    const address = parseAddress(text);
    if (address?.family === 'ipv6') return bytesToWords(address.bytes);
  }
  throw new SetError(`"${text}" is no ${family === 'ipv4' ? 'IPv4' : 'IPv6'} address`);
}

/** Without intermediate strings: files of sets have millions of them. */
function parseIpv4Word(text: string): number | undefined {
  let word = 0;
  let octet = -1;
  let dots = 0;
  for (let at = 0; at <= text.length; at++) {
    const code = at === text.length ? 46 : text.charCodeAt(at);
    if (code === 46) {
      if (octet < 0 || octet > 255) return undefined;
      word += octet * 2 ** (8 * dots);
      dots++;
      octet = -1;
      continue;
    }
    if (code < 48 || code > 57 || octet === 0) return undefined;
    octet = (octet < 0 ? 0 : octet * 10) + code - 48;
  }
  return dots === 4 ? word : undefined;
}

function bytesToWords(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, word) => view.getUint32(word * 4, true));
}

export function wordsToBytes(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word, true);
  return bytes;
}

function parseMark(text: string): number {
  const value = /^(0x[0-9a-f]{1,8}|[0-9]{1,10})$/i.test(text) ? Number(text) : 2 ** 32;
  if (value >= 2 ** 32) throw new SetError(`"${text}" is no mark`);
  return value;
}

function parseMac(text: string): number[] {
  if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(text)) throw new SetError(`"${text}" is no MAC address`);
  const bytes = new Uint8Array(8);
  for (const [index, part] of text.split(':').entries()) bytes[index] = Number.parseInt(part, 16);
  if (bytes.every((byte) => byte === 0))
    throw new SetError('the MAC address of zeros cannot be stored', 'no packet is found by it');
  return bytesToWords(bytes);
}

function parseDevice(text: string): number[] {
  if (text.startsWith('physdev:'))
    throw new SetError(
      `"${text}": ports of bridges cannot be looked up`,
      'packets are seen at their IP device only',
    );
  const bytes = new Uint8Array(IFNAMSIZ);
  if (text === '' || text.length >= IFNAMSIZ) throw new SetError(`"${text}" is no name of a device`);
  // Names are kept one character a byte, whatever the bytes are.
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytesToWords(bytes);
}

/** The entry as `ipset save` prints it. */
export function formatEntry(definition: SetDefinition, key: readonly number[]): string {
  const { type, family } = definition;
  const layout = keyLayout(type, family);
  const lengths = key[layout.lengthsAt] ?? 0;
  let network = 0;
  const dimensions = lacksMac(type, layout, key) ? type.dimensions.slice(0, -1) : type.dimensions;
  const parts = dimensions.map((dimension, index) => {
    const at = layout.at[index]!;
    if (dimension !== 'net') return formatPart(dimension, key, at, family);
    const length = (lengths >>> (8 * network++)) & 0xff;
    const address = formatPart('ip', key, at, family);
    return length === (family === 'ipv4' ? 32 : 128) ? address : `${address}/${length}`;
  });
  return parts.join(',');
}

function formatPart(
  dimension: Exclude<SetDimension, 'net'>,
  key: readonly number[],
  at: number,
  family: Family,
): string {
  const bytes = (words: number): Uint8Array => wordsToBytes(key.slice(at, at + words));
  switch (dimension) {
    case 'ip':
      return formatAddressBytes(bytes(family === 'ipv4' ? 1 : 4));
    case 'port':
      return formatPort(key[at]!);
    case 'tcp-port':
      return String(key[at]);
    case 'mark':
      return `0x${key[at]!.toString(16).padStart(8, '0')}`;
    case 'mac':
      return Array.from(bytes(2).subarray(0, 6), (byte) =>
        byte.toString(16).padStart(2, '0').toUpperCase(),
      ).join(':');
    case 'iface':
      return String.fromCharCode(...bytes(4)).replace(/\0+$/, '');
    case 'set':
      return '';
  }
}
