/** Bob Jenkins' lookup3 on 32-bit words, as jhash2() of include/linux/jhash.h has it. */

const JHASH_INITVAL = 0xdeadbeef;

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** The hash of the words, unsigned. */
export function jhash2(words: readonly number[], initval: number): number {
  const start = (JHASH_INITVAL + (words.length << 2) + initval) | 0;
  let [a, b, c] = [start, start, start];
  let at = 0;
  for (; words.length - at > 3; at += 3) {
    a = (a + words[at]!) | 0;
    b = (b + words[at + 1]!) | 0;
    c = (c + words[at + 2]!) | 0;
    a = (a - c) ^ rotate(c, 4);
    c = (c + b) | 0;
    b = (b - a) ^ rotate(a, 6);
    a = (a + c) | 0;
    c = (c - b) ^ rotate(b, 8);
    b = (b + a) | 0;
    a = (a - c) ^ rotate(c, 16);
    c = (c + b) | 0;
    b = (b - a) ^ rotate(a, 19);
    a = (a + c) | 0;
    c = (c - b) ^ rotate(b, 4);
    b = (b + a) | 0;
  }
  const left = words.length - at;
  if (left === 0) return c >>> 0;
  if (left === 3) c = (c + words[at + 2]!) | 0;
  if (left >= 2) b = (b + words[at + 1]!) | 0;
  a = (a + words[at]!) | 0;
  c = (c ^ b) - rotate(b, 14);
  a = (a ^ c) - rotate(c, 11);
  b = (b ^ a) - rotate(a, 25);
  c = (c ^ b) - rotate(b, 16);
  a = (a ^ c) - rotate(c, 4);
  b = (b ^ a) - rotate(a, 14);
  c = (c ^ b) - rotate(b, 24);
  return c >>> 0;
}

/** A number from 0 to `range` - 1 in proportion to a 32-bit hash (reciprocal_scale). */
export function reciprocalScale(hash: number, range: number): number {
  return Number((BigInt(hash >>> 0) * BigInt(range >>> 0)) >> 32n);
}
