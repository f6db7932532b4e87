/**
 * IP sets in the arena: a record for each set in a fixed place, and what it points to. Written up in docs/sets.md.
 *
 * A set is a table of buckets. A bucket is seven state words, the number of entries that had no room in it, and seven
 * entries. An entry lies in its home bucket, which its hash names, or up to fifteen buckets further on. A state word says
 * whether the entry is there; whoever changes an entry changes the word's sequence, so that a reader that finds the same
 * word before and after its look at the entry has seen it whole. A MAC address that entries hold lies in a cell of its own (mac.ts).
 */
import { keyLayout, MAX_KEY_WORDS, type SetDefinition } from '../../rules/index.ts';
import { alignUp } from '../arena/layout.ts';

export const SetRecord = {
  /** u32 pointer to the buckets, u32 number of buckets less one: one aligned u64, so that a table that grew appears at once */
  table: 0,
  bucketMask: 4,
  /** u32 bytes of a bucket and of an entry in it, words of a key that tell entries apart */
  bucketSize: 8,
  entrySize: 12,
  keyWords: 16,
  /** u32 {@link SetFlag} */
  flags: 20,
  /** u32 places in an entry, 0 where entries have no such thing */
  expiryAt: 24,
  countersAt: 28,
  skbinfoAt: 32,
  commentAt: 36,
  /** u32 entries, those that have timed out and were not met since among them; and how many there may be */
  count: 40,
  maxelem: 44,
  /** u64 nanoseconds that entries stay when nothing is said; 0: for good */
  timeoutNs: 48,
  /** u32 first and last value of a bitmap, host order */
  rangeFirst: 56,
  rangeLast: 60,
  /** u32 pointers to the {@link LengthNode} at the head of each network's list, 0 where there is no network */
  lengths: 64,
  /** u32 bucket at which the next search for timed-out entries begins */
  hand: 72,
  /** u32 1: in use */
  used: 76,
  /** u32[MAX_KEY_WORDS] what is masked out of a packet's key */
  masks: 80,
  /** u64[MAX_KEY_WORDS] random odd multipliers of the words, u64 random start: the hash is the sum's upper half */
  multipliers: 120,
  start: 200,
  /** u32 root and size of the extents: table, comments, lists of lengths */
  tableRoot: 208,
  tableSize: 212,
  commentsRoot: 216,
  commentsSize: 220,
  /** u32 bytes of comments */
  commentsUsed: 224,
  fixedRoot: 228,
  fixedSize: 232,
  /** u32 place in an entry of the MAC address that it holds, 0 where entries hold none */
  macAt: 236,
} as const;

export const SetFlag = {
  /** Addresses of all zeros are not stored (hash:ip, hash:ip,port) */
  notZero: 1,
  /** Keys are addresses, or ports, within the range */
  addressRange: 2,
  portRange: 4,
  /** Another entry makes room in a full set */
  forceAdd: 8,
} as const;

/** Slots of a bucket, and where things lie in it. */
export const BUCKET_SLOTS = 7;
export const Bucket = {
  /** u32[BUCKET_SLOTS] */
  states: 0,
  /** u32 entries whose home it is and that lie further on */
  overflow: 28,
  entries: 32,
} as const;

/** Buckets behind the home bucket that an entry may lie in. */
export const MAX_DISTANCE = 15;

/**
 * A state word: bit 1 the entry is there, bit 0 then: it is marked nomatch; bit 0 alone: it is being written. Bits 2..5 its
 * distance from home, bits 6..15 the upper bits of its hash, bits 16..31 the sequence.
 */
export const State = {
  low: 1,
  full: 2,
  distanceShift: 2,
  tagShift: 6,
  /** Bits that say which entry it could be. */
  same: 0xfffe,
  sequenceShift: 16,
} as const;
export const TAG_BITS = 10;

/** Bits of a MAC address in the cell of an entry that holds one; above them the sequence of the slot's use. */
export const MAC_BITS = 48;
/** In the expiry of an entry that waits for its MAC address: below it the nanoseconds that it stays from then on. */
export const WAITS: bigint = 1n << 63n;

/** One prefix length of a network: by length in an array, the head behind the longest. Lists go from long to short. */
export const LengthNode = {
  /** u32 pointer to the next shorter length that was ever used, 0 at the end */
  next: 0,
  /** u32 entries of this length */
  count: 4,
  length: 8,
  /** u32[4] */
  mask: 16,
} as const;
export const LENGTH_NODE_SIZE = 32;

/** Entries of a bucket's slots that a table is made for, so that one in a million has no room in sixteen buckets. */
const FILL = 0.7;

/** How the entries of a set are laid out, and where. */
export interface EntryLayout {
  readonly keyWords: number;
  readonly macAt: number;
  readonly expiryAt: number;
  readonly countersAt: number;
  readonly skbinfoAt: number;
  readonly commentAt: number;
  readonly entrySize: number;
  readonly bucketSize: number;
}

export function entryLayout(definition: SetDefinition): EntryLayout {
  const keyWords = keyLayout(definition.type, definition.family).identity;
  if (keyWords > MAX_KEY_WORDS) throw new RangeError(`a key of ${keyWords} words`);
  let end = keyWords * 4;
  const take = (wanted: boolean, bytes: number): number => {
    if (!wanted) return 0;
    const at = alignUp(end, 8);
    end = at + bytes;
    return at;
  };
  const macAt = take(definition.type.holdsMac, 8);
  const expiryAt = take(definition.timeoutSec !== undefined, 8);
  const countersAt = take(definition.counters, 16);
  const skbinfoAt = take(definition.skbinfo, 16);
  const commentAt = take(definition.comment, 8);
  const extras = macAt + expiryAt + countersAt + skbinfoAt + commentAt > 0;
  const entrySize = extras ? alignUp(end, 8) : end;
  return {
    keyWords,
    macAt,
    expiryAt,
    countersAt,
    skbinfoAt,
    commentAt,
    entrySize,
    bucketSize: alignUp(Bucket.entries + BUCKET_SLOTS * entrySize, 16),
  };
}

/** Buckets, a power of two, for so many entries. */
export function bucketsFor(entries: number): number {
  const wanted = Math.max(1, entries / (BUCKET_SLOTS * FILL));
  return 2 ** Math.ceil(Math.log2(wanted));
}

/** Bytes of the table for so many entries. */
export function tableBytes(definition: SetDefinition, entries: number): number {
  return bucketsFor(entries) * entryLayout(definition).bucketSize;
}
