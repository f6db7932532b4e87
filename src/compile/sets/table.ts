/**
 * A set in the arena as user space works on it, beside programs that do the same: every operation takes a time that does
 * not depend on the number of entries, and no reader ever sees half an entry. Layout and protocol: layout.ts.
 */
import {
  keyLayout,
  MAX_KEY_WORDS,
  type SetDefinition,
  type SetElement,
  utf8Bytes,
  utf8Text,
} from '../../rules/index.ts';
import { SetHash } from './hash.ts';
import { HeldMacs } from './heldmac.ts';
import {
  BUCKET_SLOTS,
  Bucket,
  bucketsFor,
  type EntryLayout,
  entryLayout,
  LENGTH_NODE_SIZE,
  LengthNode,
  MAX_DISTANCE,
  SetRecord,
  State,
  WAITS,
} from './layout.ts';
import type { SetMemory } from './memory.ts';

export type AddOutcome = 'added' | 'exists' | 'full';

const COMMENTS_BYTES = 4096;
const NS_PER_SEC = 1_000_000_000n;

/** Where an entry was found: word index of its state, the state, and the offset of the entry. */
interface Found {
  readonly word: number;
  readonly state: number;
  readonly entry: number;
}

export class SetTable {
  readonly definition: SetDefinition;
  readonly #memory: SetMemory;
  readonly #record: number;
  readonly #layout: EntryLayout;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  readonly #hash: SetHash;
  /** Where entries hold MAC addresses. */
  readonly #macs: HeldMacs | undefined;
  readonly #networks: number;
  readonly #bits: number;
  readonly #lengthsAt: number;

  constructor(memory: SetMemory, record: number, definition: SetDefinition) {
    this.definition = definition;
    this.#memory = memory;
    this.#record = record;
    this.#layout = entryLayout(definition);
    this.#words = new Uint32Array(memory.buffer);
    this.#longs = new BigUint64Array(memory.buffer);
    this.#hash = new SetHash(
      new BigUint64Array(memory.buffer, record + SetRecord.multipliers, MAX_KEY_WORDS),
      this.#longs[(record + SetRecord.start) >>> 3]!,
    );
    const { macAt, keyWords } = this.#layout;
    this.#macs = macAt === 0 ? undefined : new HeldMacs(this.#longs, macAt, keyWords);
    const { networks, lengthsAt } = keyLayout(definition.type, definition.family);
    this.#networks = networks;
    this.#lengthsAt = lengthsAt;
    this.#bits = definition.family === 'ipv4' ? 32 : 128;
  }

  /** Entries, those that have timed out and that nobody met since among them. */
  get count(): number {
    return Atomics.load(this.#words, this.#word(SetRecord.count));
  }

  /** Bytes of arena memory that the set takes. */
  get bytes(): number {
    const at = (offset: number): number => this.#words[this.#word(offset)]!;
    return at(SetRecord.tableSize) + at(SetRecord.commentsSize) + at(SetRecord.fixedSize);
  }

  /** @param exist an entry that is there gets these extras, and is no failure */
  add(element: SetElement, exist: boolean): AddOutcome {
    const nowNs = this.#memory.nowNs();
    const { key } = element;
    const hash = this.#hash.of(key, this.#layout.keyWords);
    const found = this.#find(key, hash);
    if (found !== undefined) {
      if (!this.#hasExpired(found.entry, nowNs)) {
        if (this.#macs !== undefined) return this.#addKnown(this.#macs, found, element, exist, nowNs);
        if (!exist) return 'exists';
        this.#writeExtras(found.entry, element, this.#expiry(element, false, nowNs), false);
        this.#mark(found, element.nomatch === true);
        return 'added';
      }
      this.#remove(found.word, found.state, found.entry);
    }
    if (!this.#reserve(hash)) return 'full';
    for (;;) {
      const placed = this.#place(element, hash, nowNs);
      if (placed !== undefined) {
        this.#settle(key, hash, placed);
        return 'added';
      }
      if (this.#grow()) continue;
      Atomics.sub(this.#words, this.#word(SetRecord.count), 1);
      return 'full';
    }
  }

  /** Counts one more entry before it is made, as programs do, so that there are never more than there may be. */
  #reserve(hash: number): boolean {
    const reserved = (): boolean => {
      const at = this.#word(SetRecord.count);
      if (Atomics.add(this.#words, at, 1) < this.definition.maxelem) return true;
      Atomics.sub(this.#words, at, 1);
      return false;
    };
    if (reserved()) return true;
    this.sweep();
    if (reserved()) return true;
    return this.definition.forceadd && this.#evict(hash) && reserved();
  }

  /** An entry that waits for a MAC address gets it, which is an addition; one that has none to get keeps what it has. */
  #addKnown(macs: HeldMacs, found: Found, element: SetElement, exist: boolean, nowNs: bigint): AddOutcome {
    const before = macs.of(found);
    const address = macs.inKey(element.key);
    const completes = before === 0n && address !== 0n;
    if (!exist && !completes) return 'exists';
    const usual = this.definition.timeoutSec;
    const waiting = completes && usual !== undefined && (element.timeoutSec ?? usual) === usual;
    const timed = waiting ? { ...element, timeoutSec: this.#secondsLeft(found.entry, nowNs) } : element;
    if (address !== 0n && address !== before && !macs.replace(found, before, address))
      return this.add(element, exist);
    this.#writeExtras(found.entry, element, this.#expiry(timed, before + address === 0n, nowNs), false);
    return 'added';
  }

  /**
   * Makes room for all entries that there may be. Tables that programs write to must have it before they do: growing
   * would lose what they write meanwhile.
   */
  reserve(): void {
    while (this.#table().mask + 1 < bucketsFor(this.definition.maxelem)) this.#grow();
  }

  /** As many as fit of a table that no program sees yet. Returns how many were there before them, or did not fit. */
  load(elements: readonly SetElement[]): { readonly added: number; readonly full: number } {
    let added = 0;
    let full = 0;
    for (const element of elements) {
      const outcome = this.add(element, true);
      if (outcome === 'added') added += 1;
      else full += 1;
    }
    return { added, full };
  }

  delete(key: readonly number[]): boolean {
    const found = this.#find(key, this.#hash.of(key, this.#layout.keyWords));
    if (found === undefined) return false;
    const expired = this.#hasExpired(found.entry, this.#memory.nowNs());
    return this.#remove(found.word, found.state, found.entry) && !expired;
  }

  /** The entry of exactly this key; without a MAC address of that address, whatever it holds. */
  get(key: readonly number[]): SetElement | undefined {
    const found = this.#find(key, this.#hash.of(key, this.#layout.keyWords));
    if (found === undefined || this.#hasExpired(found.entry, this.#memory.nowNs())) return undefined;
    const [held, wanted] =
      this.#macs === undefined ? [0n, 0n] : [this.#macs.of(found), this.#macs.inKey(key)];
    if (held !== 0n && wanted !== 0n && held !== wanted) return undefined;
    return this.#read(found, this.#memory.nowNs());
  }

  /** What a packet with this key would meet, the longest networks first; lengths of the key itself do not count. */
  lookUp(full: readonly number[]): SetElement | undefined {
    if (this.#networks === 0) return this.get(full);
    for (const key of this.#narrower(full, 0)) {
      const found = this.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Entries that have not timed out. Entries that come and go meanwhile are there or not. */
  *elements(): Generator<SetElement> {
    const nowNs = this.#memory.nowNs();
    for (const found of this.#entries()) {
      if (this.#hasExpired(found.entry, nowNs)) continue;
      const element = this.#read(found, nowNs);
      if (Atomics.load(this.#words, found.word) === found.state) yield element;
    }
  }

  /** Takes all entries out, one by one. */
  flush(): void {
    for (const { word, state, entry } of this.#entries()) this.#remove(word, state, entry);
  }

  /** Takes out entries that have timed out; returns how many. */
  sweep(): number {
    if (this.#layout.expiryAt === 0) return 0;
    const nowNs = this.#memory.nowNs();
    let swept = 0;
    for (const { word, state, entry } of this.#entries()) {
      if (this.#hasExpired(entry, nowNs) && this.#remove(word, state, entry)) swept += 1;
    }
    return swept;
  }

  #word(offset: number): number {
    return (this.#record + offset) >>> 2;
  }

  #table(): { readonly at: number; readonly mask: number } {
    const both = Atomics.load(this.#longs, (this.#record + SetRecord.table) >>> 3);
    return { at: Number(both & 0xffff_ffffn), mask: Number(both >> 32n) };
  }

  *#entries(): Generator<Found> {
    const { at, mask } = this.#table();
    const { bucketSize, entrySize } = this.#layout;
    for (let bucket = at; bucket <= at + mask * bucketSize; bucket += bucketSize) {
      for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
        const word = (bucket >>> 2) + slot;
        const state = Atomics.load(this.#words, word);
        if ((state & State.full) !== 0)
          yield { word, state, entry: bucket + Bucket.entries + slot * entrySize };
      }
    }
  }

  /** `after`: the word index of a state behind which the search goes on. */
  #find(key: readonly number[], hash: number, except = -1): Found | undefined {
    const words = this.#words;
    const { at, mask } = this.#table();
    const { bucketSize, entrySize, keyWords } = this.#layout;
    const tag = ((hash >>> (32 - 10)) << State.tagShift) | State.full;
    const home = hash & mask;
    for (let distance = 0; distance <= MAX_DISTANCE; distance++) {
      const bucket = at + ((home + distance) & mask) * bucketSize;
      const wanted = tag | (distance << State.distanceShift);
      for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
        const word = (bucket >>> 2) + slot;
        const state = words[word]!;
        if ((state & State.same) !== wanted || word === except) continue;
        const entry = bucket + Bucket.entries + slot * entrySize;
        let index = 0;
        while (index < keyWords && words[(entry >>> 2) + index] === key[index]) index++;
        if (index === keyWords && Atomics.load(words, word) === state) return { word, state, entry };
      }
      if (distance === 0 && words[(bucket + Bucket.overflow) >>> 2] === 0) return undefined;
    }
    return undefined;
  }

  /** Claims a free slot, writes the entry and publishes it; its state word's index, or nothing when there is no room. */
  #place(element: SetElement, hash: number, nowNs: bigint): number | undefined {
    const words = this.#words;
    const { at, mask } = this.#table();
    const { bucketSize, entrySize, keyWords } = this.#layout;
    const home = hash & mask;
    for (let distance = 0; distance <= MAX_DISTANCE; distance++) {
      const bucket = at + ((home + distance) & mask) * bucketSize;
      for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
        const word = (bucket >>> 2) + slot;
        let state = words[word]!;
        const entry = bucket + Bucket.entries + slot * entrySize;
        if ((state & State.full) !== 0 && this.#hasExpired(entry, nowNs)) {
          this.#remove(word, state, entry);
          state = words[word]!;
        }
        if ((state & (State.full | State.low)) !== 0) continue;
        const sequence = (state & ~0xffff) + (1 << State.sequenceShift);
        if (Atomics.compareExchange(words, word, state, (sequence | State.low) >>> 0) !== state) continue;
        for (let index = 0; index < keyWords; index++) words[(entry >>> 2) + index] = element.key[index]!;
        const address = this.#macs?.inKey(element.key);
        if (address !== undefined) this.#macs!.write({ state: sequence, entry }, address);
        this.#writeExtras(entry, element, this.#expiry(element, address === 0n, nowNs), true);
        this.#countLengths(element.key, 1);
        if (distance > 0) Atomics.add(words, (at + home * bucketSize + Bucket.overflow) >>> 2, 1);
        const tag = (hash >>> (32 - 10)) << State.tagShift;
        const nomatch = element.nomatch === true ? State.low : 0;
        Atomics.store(
          words,
          word,
          (sequence | tag | (distance << State.distanceShift) | State.full | nomatch) >>> 0,
        );
        return word;
      }
    }
    return undefined;
  }

  /** Takes out an entry near the home of the hash; false when there is none. */
  #evict(hash: number): boolean {
    const { at, mask } = this.#table();
    const { bucketSize, entrySize } = this.#layout;
    for (let distance = 0; distance <= MAX_DISTANCE; distance++) {
      const bucket = at + (((hash & mask) + distance) & mask) * bucketSize;
      for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
        const word = (bucket >>> 2) + slot;
        const state = Atomics.load(this.#words, word);
        const entry = bucket + Bucket.entries + slot * entrySize;
        if ((state & State.full) !== 0 && this.#remove(word, state, entry)) return true;
      }
    }
    return false;
  }

  /** Two that add the same key at once each see the other's entry afterwards, and keep the one that lies first. */
  #settle(key: readonly number[], hash: number, own: number): void {
    const other = this.#find(key, hash, own);
    if (other === undefined) return;
    const state = this.#words[own]!;
    const later =
      this.#distanceOf(other.state) < this.#distanceOf(state) ||
      (this.#distanceOf(other.state) === this.#distanceOf(state) && other.word < own);
    if (!later) {
      this.#remove(other.word, other.state, other.entry);
      return;
    }
    const mine = this.#find(key, hash, other.word);
    if (mine !== undefined) this.#remove(mine.word, mine.state, mine.entry);
  }

  #distanceOf(state: number): number {
    return (state >>> State.distanceShift) & MAX_DISTANCE;
  }

  /** False when somebody else was quicker. */
  #remove(word: number, state: number, entry: number): boolean {
    const words = this.#words;
    const key = this.#networks > 0 ? words[(entry >>> 2) + this.#lengthsAt]! : 0;
    const free = ((state & ~0xffff) + (1 << State.sequenceShift)) >>> 0;
    if (Atomics.compareExchange(words, word, state, free) !== state) return false;
    Atomics.sub(words, this.#word(SetRecord.count), 1);
    this.#countLength(key, -1);
    const distance = this.#distanceOf(state);
    if (distance > 0) {
      const { at, mask } = this.#table();
      const { bucketSize } = this.#layout;
      const bucket = Math.floor((word * 4 - at) / bucketSize);
      Atomics.sub(words, (at + ((bucket - distance) & mask) * bucketSize + Bucket.overflow) >>> 2, 1);
    }
    return true;
  }

  /** Sets or clears the entry's nomatch. */
  #mark({ word, state }: Found, nomatch: boolean): void {
    const wanted = nomatch ? state | State.low : state & ~State.low;
    if (wanted >>> 0 !== state) Atomics.compareExchange(this.#words, word, state, wanted >>> 0);
  }

  #countLengths(key: readonly number[], by: number): void {
    if (this.#networks > 0) this.#countLength(key[this.#lengthsAt]!, by);
  }

  #countLength(lengths: number, by: number): void {
    for (let network = 0; network < this.#networks; network++) {
      const length = (lengths >>> (8 * network)) & 0xff;
      const node = this.#lengthNode(network, length);
      if (by > 0) this.#link(network, node);
      Atomics.add(this.#words, (node + LengthNode.count) >>> 2, by);
    }
  }

  #lengthNode(network: number, length: number): number {
    const head = this.#words[this.#word(SetRecord.lengths + network * 4)]!;
    return head - (this.#bits + 1 - length) * LENGTH_NODE_SIZE;
  }

  /** Puts a length into its list: one store at the end, so that readers see it or not. */
  #link(network: number, node: number): void {
    const words = this.#words;
    for (let before = this.#lengthNode(network, this.#bits + 1); ; ) {
      const next = words[(before + LengthNode.next) >>> 2]!;
      if (next === node) return;
      if (next < node) {
        // Nodes lie by length: whatever comes next is shorter.
        words[(node + LengthNode.next) >>> 2] = next;
        Atomics.store(words, (before + LengthNode.next) >>> 2, node);
        return;
      }
      before = next;
    }
  }

  *#narrower(full: readonly number[], network: number): Generator<number[]> {
    if (network === this.#networks) {
      yield [...full];
      return;
    }
    const words = this.#words;
    const width = this.#bits / 32;
    for (
      let node = words[(this.#lengthNode(network, this.#bits + 1) + LengthNode.next) >>> 2]!;
      node !== 0;
    ) {
      if (words[(node + LengthNode.count) >>> 2] !== 0) {
        const key = [...full];
        for (let word = 0; word < width; word++) {
          const at = network * width + word;
          key[at] = (key[at]! & words[((node + LengthNode.mask) >>> 2) + word]!) >>> 0;
        }
        const kept = key[this.#lengthsAt]! & ~(0xff << (8 * network));
        key[this.#lengthsAt] = kept | (words[(node + LengthNode.length) >>> 2]! << (8 * network));
        yield* this.#narrower(key, network + 1);
      }
      node = words[(node + LengthNode.next) >>> 2]!;
    }
  }

  /** 0: it stays. */
  #secondsLeft(entry: number, nowNs: bigint): number {
    const expiry = Atomics.load(this.#longs, (entry + this.#layout.expiryAt) >>> 3);
    if (expiry >= WAITS) return Number((expiry - WAITS) / NS_PER_SEC);
    return expiry === 0n ? 0 : Math.max(1, Math.ceil(Number(expiry - nowNs) / 1e9));
  }

  #hasExpired(entry: number, nowNs: bigint): boolean {
    const { expiryAt } = this.#layout;
    if (expiryAt === 0) return false;
    const expiry = Atomics.load(this.#longs, (entry + expiryAt) >>> 3);
    return expiry !== 0n && expiry <= nowNs;
  }

  /** Counters that are not said stay as they are in an entry that is not `fresh`. */
  #writeExtras(entry: number, element: SetElement, expiry: bigint, fresh: boolean): void {
    const { expiryAt, countersAt, skbinfoAt, commentAt } = this.#layout;
    if (countersAt > 0) {
      for (const [index, count] of [element.packets, element.bytes].entries()) {
        if (count === undefined && !fresh) continue;
        Atomics.store(this.#longs, ((entry + countersAt) >>> 3) + index, count ?? 0n);
      }
    }
    if (skbinfoAt > 0) {
      const at = (entry + skbinfoAt) >>> 2;
      this.#words[at] = element.skbmark?.value ?? 0;
      this.#words[at + 1] = element.skbmark?.mask ?? 0;
      this.#words[at + 2] = element.skbprio ?? 0;
      this.#words[at + 3] = element.skbqueue ?? 0;
    }
    if (commentAt > 0) this.#words[(entry + commentAt) >>> 2] = this.#keepComment(element.comment);
    if (expiryAt > 0) Atomics.store(this.#longs, (entry + expiryAt) >>> 3, expiry);
  }

  /** The time of an entry that `waits` for its MAC address does not run. */
  #expiry({ timeoutSec }: SetElement, waits: boolean, nowNs: bigint): bigint {
    const stays = BigInt(timeoutSec ?? this.definition.timeoutSec ?? 0) * NS_PER_SEC;
    if (waits) return WAITS | stays;
    return stays === 0n ? 0n : nowNs + stays;
  }

  #read({ entry, state }: Found, nowNs: bigint): SetElement {
    const words = this.#words;
    const { keyWords, expiryAt, countersAt, skbinfoAt, commentAt } = this.#layout;
    const key = Array.from(words.subarray(entry >>> 2, (entry >>> 2) + keyWords));
    if (this.#macs !== undefined) key.push(...this.#macs.words({ entry, state }));
    const comment = commentAt > 0 ? this.#comment(words[(entry + commentAt) >>> 2]!) : undefined;
    const info = (entry + skbinfoAt) >>> 2;
    return {
      key,
      ...((state & State.low) !== 0 ? { nomatch: true } : {}),
      ...(expiryAt > 0 ? { timeoutSec: this.#secondsLeft(entry, nowNs) } : {}),
      ...(countersAt > 0
        ? {
            packets: Atomics.load(this.#longs, (entry + countersAt) >>> 3),
            bytes: Atomics.load(this.#longs, (entry + countersAt + 8) >>> 3),
          }
        : {}),
      ...(comment === undefined ? {} : { comment }),
      ...(skbinfoAt > 0
        ? {
            skbmark: { value: words[info]!, mask: words[info + 1]! },
            skbprio: words[info + 2]!,
            skbqueue: words[info + 3]!,
          }
        : {}),
    };
  }

  /** Place of the text among the set's comments, 0 for none. */
  #keepComment(text: string | undefined): number {
    if (text === undefined) return 0;
    const bytes = utf8Bytes(text);
    const words = this.#words;
    let used = Math.max(1, words[this.#word(SetRecord.commentsUsed)]!);
    const size = words[this.#word(SetRecord.commentsSize)]!;
    if (used + 1 + bytes.length > size) {
      const larger = Math.max(COMMENTS_BYTES, size * 2);
      const root = this.#memory.allocate(larger);
      const all = new Uint8Array(this.#memory.buffer);
      const old = words[this.#word(SetRecord.commentsRoot)]!;
      all.copyWithin(root, old, old + size);
      words[this.#word(SetRecord.commentsRoot)] = root;
      words[this.#word(SetRecord.commentsSize)] = larger;
    }
    const at = used;
    const memory = new Uint8Array(this.#memory.buffer, words[this.#word(SetRecord.commentsRoot)]! + at);
    memory[0] = bytes.length;
    memory.set(bytes, 1);
    used += 1 + bytes.length;
    words[this.#word(SetRecord.commentsUsed)] = used;
    return at;
  }

  #comment(at: number): string | undefined {
    if (at === 0) return undefined;
    const memory = new Uint8Array(this.#memory.buffer, this.#words[this.#word(SetRecord.commentsRoot)]! + at);
    return utf8Text(memory.subarray(1, 1 + memory[0]!));
  }

  /** A table of twice the size, with all entries; false when it is as large as it may be. */
  #grow(): boolean {
    const { mask } = this.#table();
    const { bucketSize } = this.#layout;
    const buckets = (mask + 1) * 2;
    if (buckets > bucketsFor(this.definition.maxelem) * 2) return false;
    const root = this.#memory.allocate(buckets * bucketSize);
    this.#copyInto(root, buckets - 1);
    this.#words[this.#word(SetRecord.tableRoot)] = root;
    this.#words[this.#word(SetRecord.tableSize)] = buckets * bucketSize;
    Atomics.store(
      this.#longs,
      (this.#record + SetRecord.table) >>> 3,
      BigInt(root) | (BigInt(buckets - 1) << 32n),
    );
    return true;
  }

  /** Copies every entry into an empty table that nobody looks at yet. */
  #copyInto(root: number, mask: number): void {
    const words = this.#words;
    const { bucketSize, entrySize, keyWords } = this.#layout;
    const all = new Uint8Array(this.#memory.buffer);
    for (const found of this.#entries()) {
      const key = words.subarray(found.entry >>> 2, (found.entry >>> 2) + keyWords);
      const hash = this.#hash.of(key, keyWords);
      const home = hash & mask;
      copied: for (let distance = 0; ; distance++) {
        if (distance > MAX_DISTANCE)
          throw new RangeError('a table of twice the size has no room for the entries of one');
        const bucket = root + ((home + distance) & mask) * bucketSize;
        for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
          const word = (bucket >>> 2) + slot;
          if (words[word] !== 0) continue;
          all.copyWithin(bucket + Bucket.entries + slot * entrySize, found.entry, found.entry + entrySize);
          // The sequence too: an address that is held is known by it.
          const kept = found.state & (~0xffff | State.low | State.full);
          words[word] =
            (((hash >>> (32 - 10)) << State.tagShift) | (distance << State.distanceShift) | kept) >>> 0;
          if (distance > 0) {
            const home4 = (root + home * bucketSize + Bucket.overflow) >>> 2;
            words[home4] = words[home4]! + 1;
          }
          break copied;
        }
      }
    }
  }
}
