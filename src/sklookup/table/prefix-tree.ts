/**
 * Prefixes as intervals: which is the longest that holds an address, and what to ask next when it does not answer.
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

interface OpenPrefix {
  readonly entry: PrefixEntry;
  /** First address after it, both halves as one number. */
  readonly end: bigint;
  readonly record: number;
}

/**
 * Writes a search over prefixes, given in ascending order of address and then length, each once.
 * @param next record for addresses outside of all, and after the shortest prefix
 */
export function writePrefixSearch(
  writer: ImageWriter,
  side: 'local' | 'remote',
  entries: Iterable<PrefixEntry>,
  next: number,
): number {
  const halves = new HalfIntervals(writer, side, next);
  const open: OpenPrefix[] = [];
  const closeUntil = (start: bigint | undefined): void => {
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      if (start !== undefined && top.end > start) return;
      open.pop();
      halves.add(top.end, open.at(-1)?.record ?? next);
    }
  };
  for (const entry of entries) {
    const { high, low } = addressKeys(entry.prefix.address.bytes);
    const start = (high << HALF) | low;
    closeUntil(start);
    const width = entry.prefix.address.family === 'ipv4' ? 96 : 128;
    const end = start + (1n << BigInt(width - entry.prefix.length));
    const record = entry.write(open.at(-1)?.record ?? next);
    open.push({ entry, end, record });
    halves.add(start, record);
  }
  closeUntil(undefined);
  return halves.finish();
}

/** Boundaries of both halves, gathered into one search by the upper and, where needed, searches by the lower. */
class HalfIntervals {
  readonly #writer: ImageWriter;
  readonly #side: 'local' | 'remote';
  readonly #upper: IntervalList;
  /** Upper half whose lower half is being cut up, and the intervals so far. */
  #high = 0n;
  #lower: IntervalList;

  constructor(writer: ImageWriter, side: 'local' | 'remote', next: number) {
    this.#writer = writer;
    this.#side = side;
    this.#upper = new IntervalList(next);
    this.#lower = new IntervalList(next);
  }

  add(at: bigint, record: number): void {
    const high = at >> HALF;
    if (high !== this.#high) {
      this.#flush();
      this.#high = high;
      this.#lower = new IntervalList(this.#lower.last);
    }
    this.#lower.add(at & HALF_MASK, record);
  }

  finish(): number {
    this.#flush();
    return writeSearch(this.#writer, `${this.#side}High`, this.#upper);
  }

  #flush(): void {
    if (this.#high > HALF_MASK) return;
    this.#upper.add(this.#high, writeSearch(this.#writer, `${this.#side}Low`, this.#lower));
    // Unless more is said of the next upper half, it is as the end of this one.
    if (this.#high < HALF_MASK) this.#upper.add(this.#high + 1n, this.#lower.last);
  }
}
