/**
 * The fragments of one datagram: a balanced tree of runs. A run is a chain of adjacent fragments that arrived in order at
 * the tail; what counts as a duplicate (contained in one run) and what as an overlap depends on it.
 * Source: net/ipv4/inet_fragment.c (inet_frag_queue_insert); RFC 5722 §3 and its erratum 3089.
 */
import type { SkBuff } from '../skb.ts';

/** One stored fragment: `skb.data` from `start`, `length` bytes, belong at `offset` of the datagram. */
export interface Fragment {
  readonly skb: SkBuff;
  readonly offset: number;
  readonly start: number;
  readonly length: number;
  /** The next one of the same run. */
  next: Fragment | undefined;
}

/** Node of an AA tree: disjoint byte ranges in ascending order. */
interface Run {
  readonly start: number;
  end: number;
  readonly head: Fragment;
  level: number;
  left: Run | undefined;
  right: Run | undefined;
}

export type InsertResult = 'ok' | 'duplicate' | 'overlap';

/** All fragments of a datagram that have come so far. Inserting costs O(log n) in the number of runs. */
export class FragmentRuns {
  #root: Run | undefined;
  #lastRun: Run | undefined;
  #tail: Fragment | undefined;
  /** skb truesizes of what is stored, bytes. */
  truesize = 0;
  /** Number of fragments stored. */
  count = 0;

  get empty(): boolean {
    return this.#tail === undefined;
  }

  /** The fragment with the lowest offset. */
  get head(): Fragment | undefined {
    let run = this.#root;
    while (run?.left !== undefined) run = run.left;
    return run?.head;
  }

  /** Stores a fragment (length > 0), unless its range was there before or crosses what is there. */
  insert(fragment: Fragment): InsertResult {
    const { offset } = fragment;
    const end = offset + fragment.length;
    const tail = this.#tail;
    const tailEnd = tail === undefined ? -1 : tail.offset + tail.length;
    if (tail === undefined || tailEnd < end) {
      if (offset < tailEnd) return 'overlap';
      if (tail !== undefined && offset === tailEnd) {
        tail.next = fragment;
        this.#lastRun!.end = end;
      } else {
        this.#lastRun = newRun(fragment);
        this.#root = insertRun(this.#root, this.#lastRun);
      }
      this.#tail = fragment;
    } else {
      const met = this.#find(offset, end);
      if (met !== undefined) return offset >= met.start && end <= met.end ? 'duplicate' : 'overlap';
      this.#root = insertRun(this.#root, newRun(fragment));
    }
    this.truesize += fragment.skb.truesize;
    this.count++;
    return 'ok';
  }

  /** Calls `visit` for each fragment in order of offset. */
  forEach(visit: (fragment: Fragment) => void): void {
    const pending: Run[] = [];
    let run = this.#root;
    while (run !== undefined || pending.length > 0) {
      while (run !== undefined) {
        pending.push(run);
        run = run.left;
      }
      const next = pending.pop()!;
      for (let fragment: Fragment | undefined = next.head; fragment !== undefined; fragment = fragment.next)
        visit(fragment);
      run = next.right;
    }
  }

  /** Forgets everything; the bytes that were charged for it. */
  purge(): number {
    const released = this.truesize;
    this.#root = undefined;
    this.#lastRun = undefined;
    this.#tail = undefined;
    this.truesize = 0;
    this.count = 0;
    return released;
  }

  /** Some run that shares a byte with [start, end). When there are several, none of them contains it. */
  #find(start: number, end: number): Run | undefined {
    let run = this.#root;
    while (run !== undefined) {
      if (end <= run.start) run = run.left;
      else if (start >= run.end) run = run.right;
      else return run;
    }
    return undefined;
  }
}

function newRun(fragment: Fragment): Run {
  return {
    start: fragment.offset,
    end: fragment.offset + fragment.length,
    head: fragment,
    level: 1,
    left: undefined,
    right: undefined,
  };
}

// AA tree (Andersson 1993): a left child lies one level lower, a right child may share the level once.
function insertRun(root: Run | undefined, run: Run): Run {
  if (root === undefined) return run;
  if (run.start < root.start) root.left = insertRun(root.left, run);
  else root.right = insertRun(root.right, run);
  return split(skew(root));
}

function skew(run: Run): Run {
  const left = run.left;
  if (left === undefined || left.level !== run.level) return run;
  run.left = left.right;
  left.right = run;
  return left;
}

function split(run: Run): Run {
  const right = run.right;
  if (right?.right === undefined || right.right.level !== run.level) return run;
  run.right = right.left;
  right.left = run;
  right.level++;
  return right;
}
