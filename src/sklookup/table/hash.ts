/** Where a prefix lies in its hash table: the arithmetic that the program does too (program/walk.ts). */
import type { Prefix } from '../../net/index.ts';
import { HASH_LAST, HASH_WORD } from '../layout.ts';

/** Words of an address in network order: the first, or all four. */
export type Words = Uint32Array;

/** Stores the words of a prefix, host bits cleared, and returns how many. */
export function prefixWords({ address, length }: Prefix, into: Words): 1 | 4 {
  const { bytes } = address;
  for (let at = 0; at < bytes.length; at += 4) {
    const bits = Math.min(32, Math.max(0, length - at * 8));
    const mask = bits === 0 ? 0 : -1 << (32 - bits);
    const word = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    into[at >> 2] = word & mask;
  }
  return bytes.length === 4 ? 1 : 4;
}

/** 32 mixed bits of the first words. */
export function hashWords(words: Words, count: number): number {
  let hash = 0;
  for (let index = 0; index < count; index++) {
    hash = Math.imul(hash ^ words[index]!, HASH_WORD);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, HASH_LAST) >>> 0;
}

/** The place among so many that a hash names. */
export function placeOf(hash: number, places: number): number {
  return Math.floor((hash * places) / 2 ** 32);
}

const regionWords = new Uint32Array(2);

/** The region of an address of one or four words. */
export function regionOf(words: Words, count: 1 | 4): number {
  if (count === 1) return words[0]! >>> 16;
  regionWords[0] = words[0]!;
  regionWords[1] = words[1]! & 0xffff_0000;
  return hashWords(regionWords, 2) >>> 16;
}
