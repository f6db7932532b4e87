/** Makes the record of a set, its lists of prefix lengths and its first table. */
import {
  keyLayout,
  keyMasks,
  MAX_KEY_WORDS,
  maskWords,
  refusesZero,
  type SetDefinition,
} from '../../rules/index.ts';
import {
  bucketsFor,
  entryLayout,
  LENGTH_NODE_SIZE,
  LengthNode,
  SetFlag,
  SetRecord,
  tableBytes,
} from './layout.ts';
import type { SetMemory } from './memory.ts';
import { SetTable } from './table.ts';

/** Entries for which a set that only user space adds to has room at first. */
const FIRST_ENTRIES = 512;
const NS_PER_SEC = 1_000_000_000n;

/** Bytes that a set may take with all the entries that it may have, less comments; each of its extents begins a page. */
export function setRoom(definition: SetDefinition): number {
  const { networks } = keyLayout(definition.type, definition.family);
  return tableBytes(definition, definition.maxelem) + networks * (128 + 2) * LENGTH_NODE_SIZE + 2 * 4096;
}

/** Makes a set in the record at `record`, with room for `entries`. */
export function createSet(
  memory: SetMemory,
  record: number,
  definition: SetDefinition,
  entries: number,
): SetTable {
  const view = new DataView(memory.buffer);
  const layout = entryLayout(definition);
  const u32 = (at: number, value: number): void => view.setUint32(record + at, value, true);
  for (let at = 0; at <= SetRecord.macAt; at += 4) u32(at, 0);
  const { keyWords, entrySize, bucketSize, macAt, expiryAt, countersAt, skbinfoAt, commentAt } = layout;
  for (const [at, value] of [
    [SetRecord.bucketSize, bucketSize],
    [SetRecord.entrySize, entrySize],
    [SetRecord.keyWords, keyWords],
    [SetRecord.macAt, macAt],
    [SetRecord.expiryAt, expiryAt],
    [SetRecord.countersAt, countersAt],
    [SetRecord.skbinfoAt, skbinfoAt],
    [SetRecord.commentAt, commentAt],
    [SetRecord.maxelem, definition.maxelem],
    [SetRecord.flags, flagsOf(definition)],
    [SetRecord.rangeFirst, definition.range?.[0] ?? 0],
    [SetRecord.rangeLast, definition.range?.[1] ?? 0],
  ] as const)
    u32(at, value);
  view.setBigUint64(record + SetRecord.timeoutNs, BigInt(definition.timeoutSec ?? 0) * NS_PER_SEC, true);
  for (const [word, mask] of keyMasks(definition).entries()) u32(SetRecord.masks + word * 4, mask);
  for (let word = 0; word <= MAX_KEY_WORDS; word++) {
    const at = word === MAX_KEY_WORDS ? SetRecord.start : SetRecord.multipliers + word * 8;
    view.setBigUint64(record + at, memory.random64() | 1n, true);
  }
  writeLengths(memory, view, record, definition);
  const buckets = bucketsFor(Math.min(definition.maxelem, Math.max(FIRST_ENTRIES, entries)));
  const root = memory.allocate(buckets * bucketSize);
  u32(SetRecord.tableRoot, root);
  u32(SetRecord.tableSize, buckets * bucketSize);
  u32(SetRecord.table, root);
  u32(SetRecord.bucketMask, buckets - 1);
  u32(SetRecord.used, 1);
  return new SetTable(memory, record, definition);
}

function flagsOf({ type, forceadd }: SetDefinition): number {
  if (type.name === 'bitmap:port') return SetFlag.portRange;
  if (type.method === 'bitmap') return SetFlag.addressRange;
  return (refusesZero(type) ? SetFlag.notZero : 0) | (forceadd ? SetFlag.forceAdd : 0);
}

/** Lists of prefix lengths: whole addresses are always in them, so that programs never have to add one. */
function writeLengths(
  memory: SetMemory,
  view: DataView,
  record: number,
  { type, family }: SetDefinition,
): void {
  const { networks } = keyLayout(type, family);
  if (networks === 0) return;
  const bits = family === 'ipv4' ? 32 : 128;
  const bytes = (bits + 2) * LENGTH_NODE_SIZE;
  const root = memory.allocate(bytes * networks);
  view.setUint32(record + SetRecord.fixedRoot, root, true);
  view.setUint32(record + SetRecord.fixedSize, bytes * networks, true);
  for (let network = 0; network < networks; network++) {
    const first = root + network * bytes;
    for (let length = 0; length <= bits; length++) {
      const node = first + length * LENGTH_NODE_SIZE;
      view.setUint32(node + LengthNode.length, length, true);
      for (const [word, mask] of maskWords(family, length).entries())
        view.setUint32(node + LengthNode.mask + word * 4, mask, true);
    }
    const head = first + (bits + 1) * LENGTH_NODE_SIZE;
    view.setUint32(head + LengthNode.next, first + bits * LENGTH_NODE_SIZE, true);
    view.setUint32(record + SetRecord.lengths + network * 4, head, true);
  }
}
