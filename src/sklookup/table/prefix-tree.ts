/**
 * Source prefixes as intervals: which is the longest that holds an address, and what to ask next when it does not answer.
 * IPv4 addresses are one key; IPv6 addresses two, the upper half searched first.
 */
import type { Prefix } from '../../net/index.ts';
import { IntervalList, writeSearch } from './tree.ts';
import type { ImageWriter } from './writer.ts';

const HALF = 64n;
const HALF_MASK = (1n << HALF) - 1n;

/** The two keys of an address: IPv4 as a number and 0, IPv6 its halves. */
export function addressKeys(bytes: Uint8Array): { readonly high: bigint; readonly low: bigint } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return { high: BigInt(view.getUint32(0)), low: 0n };
  return { high: view.getBigUint64(0), low: view.getBigUint64(8) };
}

/** The masks that go with {@link addressKeys}. */
export function prefixMasks(prefix: Prefix): { readonly high: bigint; readonly low: bigint } {
  const { length } = prefix;
  const width = prefix.address.family === 'ipv4' ? 32 : 64;
  const mask = (bits: number): bigint => {
    const ones = BigInt(Math.min(width, Math.max(0, bits)));
    return ((1n << ones) - 1n) << (BigInt(width) - ones);
  };
  return width === 32 ? { high: mask(length), low: 0n } : { high: mask(length), low: mask(length - 64) };
}

/** A prefix and how to write what it holds: given where to go on when nothing of it matches. */
export interface PrefixEntry {
  readonly prefix: Prefix;
  write(next: number): number;
}

interface OpenPrefix<K> {
  /** First address after it. */
  readonly end: K;
  readonly record: number;
}

/**
 * Writes a search of the remote address over prefixes of one family, given in ascending order of address and then length, each once.
 * @param next record for addresses outside of all, and after the shortest prefix
 */
export function writePrefixSearch(
  writer: ImageWriter,
  family: 'ipv4' | 'ipv6',
  entries: Iterable<PrefixEntry>,
  next: number,
): number {
  if (family === 'ipv4') {
    const intervals = new IntervalList<number>(0, next);
    sweep(entries, next, ipv4Bounds, (at, record) => intervals.add(at, record));
    return writeSearch(writer, 'remoteHigh', intervals);
  }
  const halves = new HalfIntervals(writer, next);
  sweep(entries, next, ipv6Bounds, (at, record) => halves.add(at, record));
  return halves.finish();
}

interface Bounds<K> {
  readonly start: K;
  /** First address after the prefix. */
  readonly end: K;
}

function ipv4Bounds({ address, length }: Prefix): Bounds<number> {
  const { bytes } = address;
  const start = ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
  return { start, end: start + 2 ** (32 - length) };
}

function ipv6Bounds({ address, length }: Prefix): Bounds<bigint> {
  const { high, low } = addressKeys(address.bytes);
  const start = (high << HALF) | low;
  return { start, end: start + (1n << BigInt(128 - length)) };
}

/** Tells in ascending order from which address on which record holds. */
function sweep<K extends number | bigint>(
  entries: Iterable<PrefixEntry>,
  next: number,
  boundsOf: (prefix: Prefix) => Bounds<K>,
  boundary: (at: K, record: number) => void,
): void {
  const open: OpenPrefix<K>[] = [];
  const closeUntil = (start: K | undefined): void => {
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      if (start !== undefined && top.end > start) return;
      open.pop();
      boundary(top.end, open.at(-1)?.record ?? next);
    }
  };
  for (const entry of entries) {
    const { start, end } = boundsOf(entry.prefix);
    closeUntil(start);
    const record = entry.write(open.at(-1)?.record ?? next);
    open.push({ end, record });
    boundary(start, record);
  }
  closeUntil(undefined);
}

/** Boundaries of both halves, gathered into one search by the upper and, where needed, searches by the lower. */
class HalfIntervals {
  readonly #writer: ImageWriter;
  readonly #upper: IntervalList<bigint>;
  /** Upper half whose lower half is being cut up, and the intervals so far. */
  #high = 0n;
  #lower: IntervalList<bigint>;

  constructor(writer: ImageWriter, next: number) {
    this.#writer = writer;
    this.#upper = new IntervalList<bigint>(0n, next);
    this.#lower = new IntervalList<bigint>(0n, next);
  }

  add(at: bigint, record: number): void {
    const high = at >> HALF;
    if (high !== this.#high) {
      this.#flush();
      this.#high = high;
      this.#lower = new IntervalList<bigint>(0n, this.#lower.last);
    }
    this.#lower.add(at & HALF_MASK, record);
  }

  finish(): number {
    this.#flush();
    return writeSearch(this.#writer, 'remoteHigh', this.#upper);
  }

  #flush(): void {
    if (this.#high > HALF_MASK) return;
    this.#upper.add(this.#high, writeSearch(this.#writer, 'remoteLow', this.#lower));
    // Unless more is said of the next upper half, it is as the end of this one.
    if (this.#high < HALF_MASK) this.#upper.add(this.#high + 1n, this.#lower.last);
  }
}
