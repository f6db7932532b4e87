/** From the values that each member of a set asks for to the sets that each value has: a sweep over all bounds. */
import type { Intervals } from './intervals.ts';
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
  const { keys, members } = eventsOf(wanted, width, (member) => set.add(member));
  const order = sortedOrder(keys, members.length, width);
  const starts: number[] = [];
  const vectors: number[] = [];
  // Where the key of the piece under way lies; before the first event, nowhere: all zeros.
  let start = -1;
  const close = (): void => {
    const vector = set.vector();
    if (vector === vectors.at(-1)) return;
    for (let word = 0; word < width; word++) starts.push(start < 0 ? 0 : keys[start + word]!);
    vectors.push(vector);
  };
  for (const event of order) {
    const key = event * width;
    if (!sameKey(keys, key, start, width)) {
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

/** Bounds: `members[event]` is a member times 2, and 1 more where its interval has ended; its key begins at `event * width`. */
interface Events {
  readonly keys: Uint32Array;
  readonly members: Uint32Array;
}

function eventsOf(
  wanted: readonly (Intervals | undefined)[],
  width: number,
  always: (member: number) => void,
): Events {
  const bounds = wanted.reduce((sum, intervals) => sum + (intervals?.length ?? 0) * 2, 0);
  const keys = new Uint32Array(bounds * width);
  const members = new Uint32Array(bounds);
  let events = 0;
  for (const [member, intervals] of wanted.entries()) {
    if (intervals === undefined) {
      always(member);
      continue;
    }
    for (const { low, high } of intervals) {
      keys.set(low, events * width);
      members[events] = member * 2;
      events += 1;
      keys.set(high, events * width);
      if (!increment(keys, events * width, width)) continue;
      members[events] = member * 2 + 1;
      events += 1;
    }
  }
  return { keys, members: members.subarray(0, events) };
}

/** Adds 1 to the value at `at`; false when it was the last there is. */
function increment(keys: Uint32Array, at: number, width: number): boolean {
  for (let word = at + width - 1; word >= at; word--) {
    keys[word]! += 1;
    if (keys[word] !== 0) return true;
  }
  return false;
}

/** `other` below 0 stands for all zeros. */
function sameKey(keys: Uint32Array, key: number, other: number, width: number): boolean {
  for (let word = 0; word < width; word++) {
    if (keys[key + word] !== (other < 0 ? 0 : keys[other + word])) return false;
  }
  return true;
}

/** Events in the order of their keys. An interval that ends where another of its member begins must end first. */
function sortedOrder(keys: Uint32Array, count: number, width: number): Uint32Array {
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
