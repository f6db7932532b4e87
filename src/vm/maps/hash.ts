/**
 * Hash maps (`kernel/bpf/hashtab.c`): plain, per CPU, least recently used, and both.
 *
 * Chained buckets. Links, hashes and keys lie outside the region that programs may touch; only values lie inside.
 * The kernel's LRU is approximate (per-CPU lists, reference bits); here the entry that was used longest ago goes.
 */
import {
  BPF_EXIST,
  BPF_NOEXIST,
  E2BIG,
  EEXIST,
  EINVAL,
  ENOENT,
  type MapHost,
  type MapSpec,
  round8,
  VmMap,
} from './map.ts';

const NONE = -1;

export interface HashOptions {
  readonly perCpu: boolean;
  readonly lru: boolean;
}

export class HashMap extends VmMap {
  readonly perCpu: boolean;
  readonly #recency: Recency | undefined;
  readonly #mask: number;
  readonly #buckets: Int32Array;
  readonly #next: Int32Array;
  readonly #hashes: Int32Array;
  readonly #keyStride: number;
  readonly #keys: number;
  readonly #valueStride: number;
  readonly #entryStride: number;
  readonly #values: number;
  #free: number = NONE;
  #used = 0;
  #count = 0;

  constructor(host: MapHost, spec: MapSpec, handle: number, options: HashOptions) {
    super(host, spec, handle);
    this.perCpu = options.perCpu;
    let buckets = 4;
    while (buckets < spec.maxEntries) buckets *= 2;
    this.#mask = buckets - 1;
    this.#buckets = new Int32Array(buckets).fill(NONE);
    this.#next = new Int32Array(spec.maxEntries);
    this.#hashes = new Int32Array(spec.maxEntries);
    this.#recency = options.lru ? new Recency(spec.maxEntries) : undefined;
    this.#keyStride = round8(spec.keySize);
    this.#valueStride = round8(spec.valueSize);
    this.#entryStride = this.#valueStride * (options.perCpu ? host.cpus : 1);
    this.#keys = this.allocate(this.#keyStride * spec.maxEntries);
    this.#values = this.allocateRegion(this.#entryStride * spec.maxEntries);
  }

  /** Entries in use. */
  get size(): number {
    return this.#count;
  }
  override get hostValueBytes(): number {
    // The base class asks before the fields of this one are set.
    return isPerCpu(this.spec) ? round8(this.spec.valueSize) * this.host.cpus : this.spec.valueSize;
  }

  override lookupAt(key: number): number {
    return this.lookupCpu(key, this.perCpu ? this.host.cpu : 0);
  }
  /** The value of one CPU; 0 for a CPU or a key that does not exist. */
  lookupCpu(key: number, cpu: number): number {
    const entry = this.#find(key, this.#hash(key));
    if (entry === NONE || (this.perCpu && cpu >= this.host.cpus)) return 0;
    this.#recency?.touch(entry);
    return this.#valueOf(entry) + cpu * this.#valueStride;
  }
  protected override hostLookup(key: number): number {
    const entry = this.#find(key, this.#hash(key));
    return entry === NONE ? 0 : this.#valueOf(entry);
  }

  override updateAt(key: number, value: number, flags: number): number {
    const entry = this.#place(key, flags);
    if (entry < 0) return entry;
    this.copyValue(this.#valueOf(entry) + (this.perCpu ? this.host.cpu * this.#valueStride : 0), value);
    return 0;
  }
  protected override hostUpdate(key: number, value: number, flags: number): number {
    const entry = this.#place(key, flags);
    if (entry < 0) return entry;
    const to = this.#valueOf(entry);
    this.host.memory.u8.copyWithin(to, value, value + this.hostValueBytes);
    return 0;
  }

  override deleteAt(key: number): number {
    const entry = this.#find(key, this.#hash(key));
    if (entry === NONE) return -ENOENT;
    this.#drop(entry);
    return 0;
  }

  override *keys(): Generator<Uint8Array> {
    for (const head of this.#buckets) {
      for (let entry = head; entry !== NONE; entry = this.#next[entry]!) {
        yield this.host.memory.copy(this.#keys + entry * this.#keyStride, this.spec.keySize);
      }
    }
  }

  /** The entry to write to, made when needed; a negative error number when the flags or the size forbid it. */
  #place(key: number, flags: number): number {
    if (flags > BPF_EXIST) return -EINVAL;
    const hash = this.#hash(key);
    const known = this.#find(key, hash);
    if (known !== NONE) {
      if (flags === BPF_NOEXIST) return -EEXIST;
      this.#recency?.touch(known);
      return known;
    }
    if (flags === BPF_EXIST) return -ENOENT;
    if (this.#count === this.spec.maxEntries) {
      if (this.#recency === undefined) return -E2BIG;
      this.#drop(this.#recency.oldest);
    }
    let entry = this.#free;
    if (entry !== NONE) this.#free = this.#next[entry]!;
    else entry = this.#used++;
    this.#count++;
    const { u8 } = this.host.memory;
    u8.copyWithin(this.#keys + entry * this.#keyStride, key, key + this.spec.keySize);
    u8.fill(0, this.#valueOf(entry), this.#valueOf(entry) + this.#entryStride);
    const bucket = hash & this.#mask;
    this.#hashes[entry] = hash;
    this.#next[entry] = this.#buckets[bucket]!;
    this.#buckets[bucket] = entry;
    this.#recency?.add(entry);
    return entry;
  }

  #drop(entry: number): void {
    const bucket = this.#hashes[entry]! & this.#mask;
    if (this.#buckets[bucket] === entry) {
      this.#buckets[bucket] = this.#next[entry]!;
    } else {
      let before = this.#buckets[bucket]!;
      while (this.#next[before] !== entry) before = this.#next[before]!;
      this.#next[before] = this.#next[entry]!;
    }
    this.#recency?.remove(entry);
    this.#next[entry] = this.#free;
    this.#free = entry;
    this.#count--;
  }

  #valueOf(entry: number): number {
    return this.#values + entry * this.#entryStride;
  }

  #find(key: number, hash: number): number {
    for (let entry = this.#buckets[hash & this.#mask]!; entry !== NONE; entry = this.#next[entry]!) {
      if (this.#hashes[entry] === hash && this.#equals(entry, key)) return entry;
    }
    return NONE;
  }

  #equals(entry: number, key: number): boolean {
    const { u8 } = this.host.memory;
    const own = this.#keys + entry * this.#keyStride;
    for (let at = 0; at < this.spec.keySize; at++) if (u8[own + at] !== u8[key + at]) return false;
    return true;
  }

  /** Murmur3's mixing, over words and then the rest of the bytes. */
  #hash(key: number): number {
    const { view, u8 } = this.host.memory;
    const end = key + this.spec.keySize;
    let hash = this.spec.keySize;
    let at = key;
    for (; at + 4 <= end; at += 4) {
      hash = Math.imul(hash ^ Math.imul(view.getInt32(at, true), 0xcc9e2d51), 0x1b873593);
      hash = ((hash << 13) | (hash >>> 19)) + 0xe6546b64;
    }
    for (; at < end; at++) hash = Math.imul(hash ^ u8[at]!, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return hash ^ (hash >>> 16);
  }
}

function isPerCpu(spec: MapSpec): boolean {
  return spec.type === 'BPF_MAP_TYPE_PERCPU_HASH' || spec.type === 'BPF_MAP_TYPE_LRU_PERCPU_HASH';
}

/** Order of use: a doubly linked list over entry numbers, closed by a sentinel. */
class Recency {
  readonly #before: Int32Array;
  readonly #after: Int32Array;
  readonly #sentinel: number;

  constructor(entries: number) {
    this.#sentinel = entries;
    this.#before = new Int32Array(entries + 1).fill(entries);
    this.#after = new Int32Array(entries + 1).fill(entries);
  }
  get oldest(): number {
    return this.#after[this.#sentinel]!;
  }
  add(entry: number): void {
    const newest = this.#before[this.#sentinel]!;
    this.#before[entry] = newest;
    this.#after[entry] = this.#sentinel;
    this.#after[newest] = entry;
    this.#before[this.#sentinel] = entry;
  }
  remove(entry: number): void {
    this.#after[this.#before[entry]!] = this.#after[entry]!;
    this.#before[this.#after[entry]!] = this.#before[entry]!;
  }
  touch(entry: number): void {
    this.remove(entry);
    this.add(entry);
  }
}
