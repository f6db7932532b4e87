/** Hash tables of blocks of prefixes of one length, in an image or in an arena. Layout: PrefixLength in layout.ts. */
import {
  ANY_REGION,
  NARROW_SLOT_SIZE,
  NarrowSlot,
  PREFIX_LENGTH_SIZE,
  PrefixLength,
  PrefixTable,
  REGION_LENGTH,
  regionBit,
  SPARE_SLOTS,
  WIDE_SLOT_SIZE,
  WideSlot,
} from '../layout.ts';
import { placeBits, recordField } from './block.ts';
import { hashWords, placeOf, type Words } from './hash.ts';
import type { ImageWriter, TableMemory } from './writer.ts';

type Family = 'ipv4' | 'ipv6';

/** Slots for so many blocks: half full. */
export function placesFor(blocks: number): number {
  return Math.max(4, 2 * blocks);
}

/** True when another slot would make the table slow. */
export function isCrowded(used: number, places: number): boolean {
  return used >= places * 0.75;
}

export function lengthCount(family: Family): number {
  return family === 'ipv4' ? 33 : 129;
}

/** Pointer to the PrefixLength of a length in a table. */
export function lengthPointer(table: number, length: number): number {
  return table + PrefixTable.lengths + length * PREFIX_LENGTH_SIZE;
}

/** Reserves an empty table. @returns its pointer */
export function reserveTable(writer: ImageWriter, family: Family): number {
  const bytes = PrefixTable.lengths + lengthCount(family) * PREFIX_LENGTH_SIZE;
  const table = writer.pointer(writer.reserve(bytes, PREFIX_LENGTH_SIZE));
  writer.storeU32(table + PrefixTable.wide, family === 'ipv6' ? 1 : 0);
  return table;
}

/** Reserves empty slots. @returns their pointer */
export function reserveSlots(writer: ImageWriter, family: Family, places: number): number {
  const size = family === 'ipv4' ? NARROW_SLOT_SIZE : WIDE_SLOT_SIZE;
  return writer.pointer(writer.reserve((places + SPARE_SLOTS) * size, 64));
}

/** Fills in a length that has no prefix yet; it is not linked. */
export function initializeLength(
  memory: TableMemory,
  at: number,
  family: Family,
  length: number,
  slots: number,
  places: number,
): void {
  const near = length >= REGION_LENGTH[family];
  memory.storeU32(at + PrefixLength.region, near ? regionBit(length) : ANY_REGION);
  memory.storeU32(at + PrefixLength.slots, slots);
  memory.storeU32(at + PrefixLength.places, places);
  memory.storeU32(at + PrefixLength.wide, family === 'ipv6' ? 1 : 0);
  const bits = placeBits(family, length);
  const kept = length - bits;
  // The addresses of IPv4 are numbers in the first key.
  const upper = family === 'ipv4' || length <= 64;
  const half = family === 'ipv4' ? 32 : 64;
  memory.storeU32(at + PrefixLength.shift, bits === 0 ? 0 : upper ? half - length : 128 - length);
  memory.storeU32(at + (upper ? PrefixLength.placeHigh : PrefixLength.placeLow), 2 ** bits - 1);
  const first = family === 'ipv4' ? PrefixLength.maskHigh : PrefixLength.maskHigh + 4;
  memory.storeU32(at + first, maskWord(kept));
  if (family === 'ipv4') return;
  memory.storeU32(at + PrefixLength.maskHigh, maskWord(kept - 32));
  memory.storeU32(at + PrefixLength.maskLow + 4, maskWord(kept - 64));
  memory.storeU32(at + PrefixLength.maskLow, maskWord(kept - 96));
}

function maskWord(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? 0xffff_ffff : (-1 << (32 - bits)) >>> 0;
}

/** The slot of a block, or the empty one where it would go; `undefined` when there is no room for it. */
export function findSlot(
  memory: TableMemory,
  slots: number,
  places: number,
  words: Words,
  count: 1 | 4,
): number | undefined {
  const size = count === 1 ? NARROW_SLOT_SIZE : WIDE_SLOT_SIZE;
  // The last slot stays empty, so that every search ends.
  const last = slots + (places + SPARE_SLOTS - 1) * size;
  let slot = slots + placeOf(hashWords(words, count), places) * size;
  for (; slot < last; slot += size) {
    if (memory.loadU32(recordField(slot, count)) === 0 || isSlotOf(memory, slot, words, count)) return slot;
  }
  return undefined;
}

function isSlotOf(memory: TableMemory, slot: number, words: Words, count: 1 | 4): boolean {
  if (count === 1) return memory.loadU32(slot + NarrowSlot.block) === words[0];
  return (
    memory.loadU32(slot + WideSlot.high + 4) === words[0] &&
    memory.loadU32(slot + WideSlot.high) === words[1] &&
    memory.loadU32(slot + WideSlot.low + 4) === words[2] &&
    memory.loadU32(slot + WideSlot.low) === words[3]
  );
}

/** Stores whose slot it is; as long as nothing is bound it is empty for everybody. */
export function claimSlot(memory: TableMemory, slot: number, words: Words, count: 1 | 4): void {
  if (count === 1) {
    memory.storeU32(slot + NarrowSlot.block, words[0]!);
    return;
  }
  memory.storeU32(slot + WideSlot.high + 4, words[0]!);
  memory.storeU32(slot + WideSlot.high, words[1]!);
  memory.storeU32(slot + WideSlot.low + 4, words[2]!);
  memory.storeU32(slot + WideSlot.low, words[3]!);
}

/** The words of the block that a slot is for. */
export function slotWords(memory: TableMemory, slot: number, into: Words, count: 1 | 4): void {
  if (count === 1) {
    into[0] = memory.loadU32(slot + NarrowSlot.block);
    return;
  }
  into[0] = memory.loadU32(slot + WideSlot.high + 4);
  into[1] = memory.loadU32(slot + WideSlot.high);
  into[2] = memory.loadU32(slot + WideSlot.low + 4);
  into[3] = memory.loadU32(slot + WideSlot.low);
}

/** Calls with every slot that is not empty. */
export function forEachSlot(
  memory: TableMemory,
  slots: number,
  places: number,
  count: 1 | 4,
  use: (slot: number) => void,
): void {
  const size = count === 1 ? NARROW_SLOT_SIZE : WIDE_SLOT_SIZE;
  const end = slots + (places + SPARE_SLOTS) * size;
  for (let slot = slots; slot < end; slot += size) {
    if (memory.loadU32(recordField(slot, count)) !== 0) use(slot);
  }
}
