/** @returns the next of a sequence of numbers below 2^32 (xorshift32), the same for a seed on every machine; 0 is no seed */
export function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
