/**
 * Spreading flows over several sockets: a hash of the flow chooses a place of a table, and each place names a member.
 * When members come or go, few places change hands (Maglev hashing, Eisenbud and others, NSDI 2016, section 3.4), each
 * member holding places in proportion to its weight.
 */
import { SPREAD_PLACES } from './layout.ts';

export interface WeightedMember {
  /** What the member's places depend on: equal seeds give equal preferences. */
  readonly seed: number;
  /** 0: none. */
  readonly weight: number;
}

/** 32 mixed bits of a 32-bit number (the finalizer of MurmurHash3). */
function mix32(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Position of the member in the list for each place; empty when all weights are 0. */
export function spreadPlaces(
  members: readonly WeightedMember[],
  places: number = SPREAD_PLACES,
): Uint16Array {
  const active = members.flatMap(({ seed, weight }, index) =>
    weight === 0
      ? []
      : [
          {
            index,
            weight,
            offset: mix32(seed) % places,
            skip: 1 + (mix32(seed ^ 0x9e3779b9) % (places - 1)),
            tried: 0,
            turns: 0,
          },
        ],
  );
  if (active.length === 0) return new Uint16Array(0);
  const heaviest = Math.max(...active.map(({ weight }) => weight));
  const table = new Uint16Array(places).fill(0xffff);
  for (let filled = 0; filled < places; ) {
    for (const member of active) {
      // A member of half the greatest weight has every second turn.
      member.turns += member.weight;
      if (member.turns < heaviest) continue;
      member.turns -= heaviest;
      let place: number;
      do {
        place = (member.offset + member.tried++ * member.skip) % places;
      } while (table[place] !== 0xffff);
      table[place] = member.index;
      if (++filled === places) break;
    }
  }
  return table;
}

const MASK = 0xffff_ffff_ffff_ffffn;
/** Odd multipliers from the fraction of the golden ratio and of the square root of 2. */
export const HASH_FIRST = 0x9e37_79b9_7f4a_7c15n;
export const HASH_SECOND = 0x6a09_e667_f3bc_c909n;

/** The hash of a flow as the program computes it, 32 bits: over {@link KEY} without the device. */
export function flowHash(keys: readonly bigint[]): number {
  let h = 0n;
  for (const key of keys) {
    h = ((h ^ key) * HASH_FIRST) & MASK;
    h ^= h >> 32n;
  }
  h = (h * HASH_SECOND) & MASK;
  return Number(h >> 32n);
}
