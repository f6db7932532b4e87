/**
 * Blocks: up to 64 neighbouring prefixes of one length share a slot of its hash table, told apart by their last bits. Layout:
 * PrefixLength in layout.ts.
 */
import type { Address, Prefix } from '../../net/index.ts';
import { BLOCK_BITS, BLOCK_PLACES, EACH, NarrowSlot, WideSlot } from '../layout.ts';
import type { Words } from './hash.ts';
import type { ImageWriter, TableMemory } from './writer.ts';

type Family = 'ipv4' | 'ipv6';

/** How many last bits of a prefix are its place in the block. A block of IPv6 lies within one half of the address. */
export function placeBits(family: Family, length: number): number {
  return Math.min(BLOCK_BITS, family === 'ipv6' && length > 64 ? length - 64 : length);
}

/** Stores the words of a prefix's block, all bits but the block's cleared, and returns how many. */
export function blockWords({ address, length }: Prefix, into: Words): 1 | 4 {
  const { bytes, family } = address;
  const kept = length - placeBits(family, length);
  for (let at = 0; at < bytes.length; at += 4) {
    const bits = Math.min(32, Math.max(0, kept - at * 8));
    const mask = bits === 0 ? 0 : -1 << (32 - bits);
    const word = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    into[at >> 2] = word & mask;
  }
  return bytes.length === 4 ? 1 : 4;
}

/** The place of a prefix in its block. */
export function placeInBlock({ address: { bytes, family }, length }: Prefix): number {
  const bits = placeBits(family, length);
  const first = length - bits;
  const pair = (bytes[first >> 3]! << 8) | (bytes[(first >> 3) + 1] ?? 0);
  return (pair >> (16 - (first & 7) - bits)) & (2 ** bits - 1);
}

/** The address of a prefix out of its block's words and its place: the inverse of the two above. */
export function addressInBlock(words: Words, family: Family, length: number, place: number): Address {
  const bytes = new Uint8Array(family === 'ipv4' ? 4 : 16);
  for (let at = 0; at < bytes.length; at++) bytes[at] = words[at >> 2]! >>> (24 - (at & 3) * 8);
  const bits = placeBits(family, length);
  const first = length - bits;
  const pair = place << (16 - (first & 7) - bits);
  if (bits > 0) {
    bytes[first >> 3]! |= pair >> 8;
    if ((pair & 0xff) !== 0) bytes[(first >> 3) + 1]! |= pair & 0xff;
  }
  return { family, bytes };
}

/** Pointer to the field of a slot that says what is bound in its block: 0 in an empty slot. */
export function recordField(slot: number, count: 1 | 4): number {
  return slot + (count === 1 ? NarrowSlot.record : WideSlot.record);
}

/** Pointer to the 64 bits of a slot that say which neighbours are bound. */
export function boundField(slot: number, count: 1 | 4): number {
  return slot + (count === 1 ? NarrowSlot.bound : WideSlot.bound);
}

/** The bit of a place, as two words. */
export function boundBit(place: number): readonly [low: number, high: number] {
  const bit = (1 << (place & 31)) >>> 0;
  return place < 32 ? [bit, 0] : [0, bit];
}

/** The first records of a block's neighbours, 0 for those that are not bound. */
export function loadBlock(memory: TableMemory, slot: number, count: 1 | 4, into: Words): void {
  const field = recordField(slot, count);
  for (let record = memory.loadU32(field), again = true; again; ) {
    if ((record & EACH) !== 0) {
      for (let place = 0; place < BLOCK_PLACES; place++)
        into[place] = memory.loadU32(record - EACH + 4 * place);
    } else {
      const bound = boundField(slot, count);
      into.fill(0);
      for (let word = 0; word < 2; word++) {
        for (let bits = memory.loadU32(bound + 4 * word); bits !== 0; bits &= bits - 1)
          into[32 * word + 31 - Math.clz32(bits & -bits)] = record;
      }
    }
    // Changed while it was read: what was bound need not belong to what it was bound to.
    const now = memory.loadU32(field);
    again = now !== record;
    record = now;
  }
}

/** Writes a block of an image: in the slot itself if all that are bound have one record. @returns that record, or 0 */
export function writeBlock(writer: ImageWriter, slot: number, count: 1 | 4, records: Words): number {
  let common = 0;
  let [low, high] = [0, 0];
  for (let place = 0; place < BLOCK_PLACES; place++) {
    const record = records[place]!;
    if (record === 0) continue;
    if (common !== 0 && common !== record) {
      writer.storeU32(recordField(slot, count), writeEach(writer, records) + EACH);
      return 0;
    }
    common = record;
    const bit = boundBit(place);
    low |= bit[0];
    high |= bit[1];
  }
  storeBound(writer, slot, count, low >>> 0, high >>> 0);
  writer.storeU32(recordField(slot, count), common);
  return common;
}

/** Stores which neighbours are bound. */
export function storeBound(memory: TableMemory, slot: number, count: 1 | 4, low: number, high: number): void {
  memory.storeU32(boundField(slot, count), low);
  memory.storeU32(boundField(slot, count) + 4, high);
}

/** Writes a record for each neighbour. @returns pointer to the list */
export function writeEach(writer: ImageWriter, records: Words): number {
  const at = writer.reserve(4 * BLOCK_PLACES, 64);
  for (let place = 0; place < BLOCK_PLACES; place++) writer.setU32(at + 4 * place, records[place]!);
  return writer.pointer(at);
}
