/** From the values that each member of a set asks for to the sets that each value has: a sweep over all bounds. */
import { compareValues, type Intervals, successor } from './intervals.ts';
import { ChangingSet, type VectorStore } from './vectors.ts';

/** A partition of a field's values: piece i begins at `keys[i]` (`width` words) and has the set `vectors[i]`. */
export interface Partition {
  readonly width: number;
  /** Flat, ascending; the first is 0. */
  readonly keys: Uint32Array;
  readonly vectors: Uint32Array;
}

/** `wanted[m]` is what member m asks for, `undefined` when it takes any value. */
export function partition(
  store: VectorStore,
  wanted: readonly (Intervals | undefined)[],
  width: number,
): Partition {
  const set = new ChangingSet(store);
  const keys: number[] = [];
  const members: number[] = [];
  for (const [member, intervals] of wanted.entries()) {
    if (intervals === undefined) {
      set.add(member);
      continue;
    }
    for (const { low, high } of intervals) {
      keys.push(...low);
      members.push(member * 2);
      const end = successor(high);
      if (end === undefined) continue;
      keys.push(...end);
      members.push(member * 2 + 1);
    }
  }
  const order = sortedOrder(keys, members.length, width);
  const starts: number[] = [];
  const vectors: number[] = [];
  let start: ArrayLike<number> = new Array<number>(width).fill(0);
  const close = (): void => {
    const vector = set.vector();
    if (vector === vectors.at(-1)) return;
    starts.push(...Array.from(start));
    vectors.push(vector);
  };
  for (const event of order) {
    const key = keys.slice(event * width, (event + 1) * width);
    if (compareValues(key, start) !== 0) {
      close();
      start = key;
    }
    const member = members[event]! >>> 1;
    if ((members[event]! & 1) === 0) set.add(member);
    else set.delete(member);
  }
  close();
  return { width, keys: Uint32Array.from(starts), vectors: Uint32Array.from(vectors) };
}

/** Events in the order of their keys. An interval that ends where another of its member begins must end first. */
function sortedOrder(keys: readonly number[], count: number, width: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, event) => event);
  if (width === 1) {
    // Key and event in one double: 32 and 21 bits.
    if (count < 2 ** 21) {
      const packed = Float64Array.from(order, (event) => keys[event]! * 2 ** 21 + event).sort();
      return Uint32Array.from(packed, (value) => value % 2 ** 21);
    }
    return order.sort((a, b) => keys[a]! - keys[b]! || a - b);
  }
  return order.sort((a, b) => {
    for (let word = 0; word < width; word++) {
      const difference = keys[a * width + word]! - keys[b * width + word]!;
      if (difference !== 0) return difference;
    }
    return a - b;
  });
}
