/** Where a block lies in its hash table: the arithmetic that the program does too (program/walk.ts). */
import type { Address } from '../../net/index.ts';
import { HASH_LAST, HASH_WORD } from '../layout.ts';

/** Words of an address in network order: the first, or all four. */
export type Words = Uint32Array;

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

/** The region that an address lies in. */
export function regionOf({ bytes }: Address): number {
  if (bytes.length === 4) return (bytes[0]! << 8) | bytes[1]!;
  regionWords[0] = (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
  regionWords[1] = (bytes[4]! << 24) | (bytes[5]! << 16);
  return hashWords(regionWords, 2) >>> 16;
}
