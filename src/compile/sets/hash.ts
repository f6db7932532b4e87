/**
 * Where a key belongs: the upper half of start + sum of word * multiplier, modulo 2^64, with secret random multipliers
 * (multilinear hashing; Dietzfelbinger 1996): keys collide no more often than chance, whoever chooses them.
 */

/** Secrets of one set, as halves: JavaScript has no 64-bit products. */
export class SetHash {
  readonly #low: Uint32Array;
  readonly #high: Uint32Array;
  readonly #startLow: number;
  readonly #startHigh: number;

  /** `multipliers` and `start` as the set's record has them. */
  constructor(multipliers: BigUint64Array, start: bigint) {
    this.#low = Uint32Array.from(multipliers, (value) => Number(value & LOW));
    this.#high = Uint32Array.from(multipliers, (value) => Number(value >> 32n));
    this.#startLow = Number(start & LOW);
    this.#startHigh = Number(start >> 32n);
  }

  /** 32 bits. */
  of(key: ArrayLike<number>, words: number): number {
    let low = this.#startLow;
    let high = this.#startHigh;
    for (let index = 0; index < words; index++) {
      const word = key[index]!;
      const multiplier = this.#low[index]!;
      // The product of two 32-bit numbers by halves: every step stays below 2^53.
      const upper = multiplier * (word >>> 16);
      const lower = multiplier * (word & 0xffff) + (upper % 0x10000) * 0x10000 + low;
      low = lower % 2 ** 32;
      high =
        (high +
          Math.floor(upper / 0x10000) +
          Math.floor(lower / 2 ** 32) +
          Math.imul(this.#high[index]!, word)) %
        2 ** 32;
    }
    return high >>> 0;
  }
}

const LOW = 0xffff_ffffn;
