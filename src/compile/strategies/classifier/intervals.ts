/**
 * Sets of values of a field as sorted, disjoint intervals. A value is `width` words of 32 bits, the most significant first:
 * one for IPv4 addresses and numbers, four for IPv6 addresses.
 */
import type { AddressPredicate, AddressRangePredicate, ScalarPredicate } from '../../../ir/index.ts';

/** Bounds inclusive. */
export interface Interval {
  readonly low: readonly number[];
  readonly high: readonly number[];
}

export type Intervals = readonly Interval[];

const ALL_ONES = 0xffffffff;

export function compareValues(a: ArrayLike<number>, b: ArrayLike<number>): number {
  for (let word = 0; word < a.length; word++) {
    const difference = a[word]! - b[word]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The value after this one; `undefined` after the last. */
export function successor(value: readonly number[]): number[] | undefined {
  const next = [...value];
  for (let word = next.length - 1; word >= 0; word--) {
    if (next[word] !== ALL_ONES) {
      next[word]! += 1;
      return next;
    }
    next[word] = 0;
  }
  return undefined;
}

/** The value before this one; `undefined` before the first. */
export function predecessor(value: readonly number[]): number[] | undefined {
  const before = [...value];
  for (let word = before.length - 1; word >= 0; word--) {
    if (before[word] !== 0) {
      before[word]! -= 1;
      return before;
    }
    before[word] = ALL_ONES;
  }
  return undefined;
}

export function complement(intervals: Intervals, width: number): Interval[] {
  const gaps: Interval[] = [];
  let low: number[] | undefined = new Array<number>(width).fill(0);
  for (const interval of intervals) {
    if (low === undefined) break;
    const high = predecessor(interval.low);
    if (high !== undefined && compareValues(low, high) <= 0) gaps.push({ low, high });
    low = successor(interval.high);
  }
  if (low !== undefined) gaps.push({ low, high: new Array<number>(width).fill(ALL_ONES) });
  return gaps;
}

export function intersect(a: Intervals, b: Intervals): Interval[] {
  const both: Interval[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const left = a[i]!;
    const right = b[j]!;
    const low = compareValues(left.low, right.low) > 0 ? left.low : right.low;
    const leftEndsFirst = compareValues(left.high, right.high) < 0;
    const high = leftEndsFirst ? left.high : right.high;
    if (compareValues(low, high) <= 0) both.push({ low, high });
    if (leftEndsFirst) i += 1;
    else j += 1;
  }
  return both;
}

/** The addresses that fit; `undefined` where the mask is not a prefix. */
export function addressIntervals(predicate: AddressPredicate): Interval[] | undefined {
  const value = wordsOf(predicate.value);
  const mask = wordsOf(predicate.mask);
  const width = value.length;
  let ended = false;
  for (const word of mask) {
    const inverted = ~word >>> 0;
    if (ended ? word !== 0 : (inverted & (inverted + 1)) >>> 0 !== 0) return undefined;
    ended ||= word !== ALL_ONES;
  }
  // Bits outside the mask can never be met.
  const possible = value.every((word, at) => (word & ~mask[at]!) >>> 0 === 0);
  const inside: Interval[] = possible
    ? [{ low: value, high: value.map((word, at) => (word | ~mask[at]!) >>> 0) }]
    : [];
  return predicate.negate ? complement(inside, width) : inside;
}

export function rangeIntervals(predicate: AddressRangePredicate): Interval[] {
  const low = wordsOf(predicate.min);
  const high = wordsOf(predicate.max);
  const inside: Interval[] = compareValues(low, high) <= 0 ? [{ low, high }] : [];
  return predicate.negate ? complement(inside, low.length) : inside;
}

/** The values up to `maximum` for which the predicate holds. */
export function scalarIntervals(predicate: ScalarPredicate, maximum: number): Interval[] {
  const { mask, ranges, negate } = predicate;
  if ((mask & maximum) >>> 0 === maximum) {
    const inside = mergeRanges(ranges);
    const wanted = negate ? complement(inside, 1) : inside;
    return intersect(wanted, [{ low: [0], high: [maximum] }]);
  }
  const found: Interval[] = [];
  let low = -1;
  for (let value = 0; value <= maximum + 1; value++) {
    const masked = (value & mask) >>> 0;
    const holds = value <= maximum && ranges.some(([min, max]) => masked >= min && masked <= max) !== negate;
    if (holds && low < 0) low = value;
    if (!holds && low >= 0) {
      found.push({ low: [low], high: [value - 1] });
      low = -1;
    }
  }
  return found;
}

function mergeRanges(ranges: readonly (readonly [number, number])[]): Interval[] {
  const merged: { low: number[]; high: number[] }[] = [];
  for (const [min, max] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && min <= last.high[0]! + 1) last.high[0] = Math.max(last.high[0]!, max);
    else merged.push({ low: [min], high: [max] });
  }
  return merged;
}

function wordsOf(bytes: Uint8Array): number[] {
  const words: number[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    words.push(((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0);
  }
  return words;
}
