/**
 * Static search trees over 64-bit keys: from a key to the interval that holds it, in log16(n) steps.
 *
 * Nodes have 16 separators and no child pointers: level by level all nodes lie one after the other, and child `i` of
 * node `n` is node `16 n + i` of the next level. A separator is the last key of the interval before, so that padding
 * with the greatest key is never passed; separator 0 is not looked at.
 */
import {
  FANOUT,
  KEY,
  type KeyName,
  MAX_LEVELS,
  NODE_SIZE,
  RECORD,
  RecordFlag,
  SearchRecord,
} from '../layout.ts';
import type { ImageWriter } from './writer.ts';

const GREATEST = 0xffff_ffff_ffff_ffffn;

/** A 64-bit key; those that fit a number exactly may be one, which is several times faster. */
export type TreeKey = number | bigint;

/** Neighbouring intervals: each begins where the one before ends, the first at 0. */
export interface Intervals {
  readonly starts: readonly TreeKey[];
  /** Pointers to records, 0 for none. */
  readonly records: readonly number[];
}

/** Collects intervals in ascending order; neighbours with one value become one. */
export class IntervalList<K extends TreeKey> implements Intervals {
  readonly starts: K[];
  readonly records: number[];

  constructor(zero: K, first: number) {
    this.starts = [zero];
    this.records = [first];
  }

  /** From `start` on the record is this one; a second word about one start replaces the first. */
  add(start: K, record: number): void {
    const last = this.starts.length - 1;
    if (this.starts[last] === start) {
      this.records[last] = record;
      if (last > 0 && this.records[last - 1] === record) {
        this.starts.pop();
        this.records.pop();
      }
    } else if (this.records[last] !== record) {
      this.starts.push(start);
      this.records.push(record);
    }
  }

  get last(): number {
    return this.records[this.records.length - 1]!;
  }
}

/** The key before; of 0 there is none, and separator 0 is never looked at. */
function separatorBefore(start: TreeKey): TreeKey {
  if (typeof start === 'number') return Math.max(0, start - 1);
  return start === 0n ? 0n : start - 1n;
}

/** Writes a search by `key`; a pointer to its record, or to the only record there is. */
export function writeSearch(writer: ImageWriter, key: KeyName, intervals: Intervals): number {
  const { starts, records } = intervals;
  if (starts.length === 1) return records[0]!;
  // Separators of the leaves: one for each interval; of the levels above: the first of each node below.
  const levels: number[] = [];
  let separators: readonly TreeKey[] = starts;
  for (;;) {
    const nodes = Math.ceil(separators.length / FANOUT);
    const base = writer.reserve(nodes * NODE_SIZE, NODE_SIZE);
    levels.unshift(writer.pointer(base));
    const above: TreeKey[] = [];
    for (let index = 0; index < nodes * FANOUT; index++) {
      const start = separators[index];
      if (start !== undefined && index % FANOUT === 0) above.push(start);
      writer.setU64(base + index * 8, start === undefined ? GREATEST : separatorBefore(start));
    }
    if (nodes === 1) break;
    separators = above;
  }
  if (levels.length > MAX_LEVELS) throw new RangeError('too many intervals for a search tree');
  const values = writer.reserve(records.length * 4, 4);
  for (const [index, record] of records.entries()) writer.setU32(values + index * 4, record);
  const at = writer.reserve(RECORD, RECORD);
  writer.setU32(at + SearchRecord.flags, RecordFlag.SEARCH);
  writer.setU32(at + SearchRecord.key, KEY[key]);
  writer.setU32(at + SearchRecord.levels, levels.length);
  writer.setU32(at + SearchRecord.values, writer.pointer(values));
  for (const [index, level] of levels.entries()) writer.setU32(at + SearchRecord.level + index * 4, level);
  return writer.pointer(at);
}
