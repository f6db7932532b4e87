/**
 * The table of buckets behind `-m hashlimit`: net/netfilter/xt_hashlimit.c, revision 3. Credits are 64 bits wide where packets
 * are counted, and 32 where bytes are.
 */

import { costToBytes, credits } from './hashlimit-rate.ts';
import { HZ } from './jiffies.ts';

/** CREDITS_PER_JIFFY and CREDITS_PER_JIFFY_BYTES: the largest powers of two that a day, or a second, of ticks cannot overflow. */
const CREDITS_PER_JIFFY = 1n << 39n;
const BYTE_CREDITS_PER_JIFFY = 1n << 24n;
const BYTE_CREDIT_CAP = BYTE_CREDITS_PER_JIFFY * BigInt(HZ);
/** XT_HASHLIMIT_SCALE_v2 */
const SCALE = 1_000_000n;
const UINT32 = 0xffff_ffffn;
const UINT64 = 0xffff_ffff_ffff_ffffn;
/** Buckets of a machine with more than 1 GiB, when a rule does not say. */
const USUAL_SIZE = 8192;
const ENTRIES_PER_BUCKET = 8;

/** What the rule that makes a table says of it (struct hashlimit_cfg3); later rules of the same name take it as it is. */
export interface HashlimitSettings {
  readonly unit: 'packets' | 'bytes';
  readonly cost: bigint;
  readonly burst: bigint;
  readonly rateMatch: boolean;
  readonly rateIntervalSec: number;
  /** 0: chosen by the kernel. */
  readonly size: number;
  readonly maximum: number;
  readonly gcIntervalMs: number;
  readonly expireMs: number;
}

interface Bucket {
  expires: number;
  previous: number;
  credit: bigint;
  /** Packets: the most there is. Bytes: how often it may be filled up at once. */
  cap: bigint;
  /** What came since `previous`, where the rate alone is matched, and whether it was too much before. */
  current: bigint;
  wasAbove: boolean;
}

export class HashlimitTable {
  readonly #settings: HashlimitSettings;
  readonly #most: number;
  readonly #cost: bigint;
  readonly #buckets = new Map<string, Bucket>();
  readonly #gcInterval: number;
  #nextGc: number;

  /** @param now jiffies */
  constructor(settings: HashlimitSettings, now: number) {
    this.#settings = settings;
    const size = settings.size === 0 ? USUAL_SIZE : settings.size;
    this.#most = settings.maximum === 0 ? ENTRIES_PER_BUCKET * size : Math.max(settings.maximum, size);
    this.#cost =
      settings.unit === 'packets' ? credits(settings.cost) : (settings.cost * BYTE_CREDIT_CAP) >> 32n;
    this.#gcInterval = Math.max(1, ticks(settings.gcIntervalMs));
    this.#nextGc = now + this.#gcInterval;
  }

  /** Whether a packet of so many bytes is within the rate of its key; `undefined`: the table is full. @param now jiffies */
  take(key: string, bytes: number, now: number): boolean | undefined {
    this.#collect(now);
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#most) return undefined;
      bucket = this.#fresh(now);
      this.#buckets.set(key, bucket);
    } else this.#fill(bucket, now);
    bucket.expires = now + ticks(this.#settings.expireMs);
    if (this.#settings.rateMatch) return this.#measure(bucket, bytes);
    const cost = this.#settings.unit === 'bytes' ? this.#byteCost(bucket, bytes) : this.#cost;
    if (bucket.credit < cost) return false;
    bucket.credit -= cost;
    return true;
  }

  #fresh(now: number): Bucket {
    const { unit, cost, burst } = this.#settings;
    const fresh = { expires: 0, previous: now, current: 0n, wasAbove: false };
    if (unit === 'bytes') return { ...fresh, credit: BYTE_CREDIT_CAP, cap: burst };
    const credit = credits(BigInt.asUintN(64, cost * burst));
    return { ...fresh, credit, cap: credit };
  }

  /** rateinfo_recalc */
  #fill(bucket: Bucket, now: number): void {
    const passed = BigInt(now - bucket.previous);
    if (passed === 0n) return;
    const { unit, rateMatch, rateIntervalSec } = this.#settings;
    if (rateMatch) {
      const interval = BigInt(rateIntervalSec * HZ);
      if (passed < interval) return;
      bucket.wasAbove = bucket.current * interval > passed * this.#rate();
      bucket.current = 0n;
    } else {
      const [perJiffy, most] =
        unit === 'bytes' ? [BYTE_CREDITS_PER_JIFFY, BYTE_CREDIT_CAP] : [CREDITS_PER_JIFFY, bucket.cap];
      const filled = bucket.credit + perJiffy * passed;
      bucket.credit = filled > most ? most : filled;
    }
    bucket.previous = now;
  }

  /** user2rate, user2rate_bytes */
  #rate(): bigint {
    const { unit, cost } = this.#settings;
    if (unit === 'bytes') return costToBytes(cost);
    return cost === 0n ? UINT64 : SCALE / cost;
  }

  #measure(bucket: Bucket, bytes: number): boolean {
    bucket.current += this.#settings.unit === 'bytes' ? BigInt(bytes) : 1n;
    return !bucket.wasAbove && bucket.current <= this.#settings.burst;
  }

  /** hashlimit_byte_cost: a bucket that is too empty is filled up as often as the burst says. */
  #byteCost(bucket: Bucket, bytes: number): bigint {
    const chunks = BigInt((bytes >> 4) + 1) * this.#cost;
    const cost = chunks > BYTE_CREDIT_CAP ? BYTE_CREDIT_CAP : chunks;
    if (bucket.credit < cost && bucket.cap > 0n) {
      bucket.cap--;
      bucket.credit = BYTE_CREDIT_CAP;
    }
    return cost & UINT32;
  }

  /** htable_gc, which a timer runs: between packets nobody can tell when. */
  #collect(now: number): void {
    if (now < this.#nextGc) return;
    const last = now - ((now - this.#nextGc) % this.#gcInterval);
    for (const [key, { expires }] of this.#buckets) if (expires <= last) this.#buckets.delete(key);
    this.#nextGc = last + this.#gcInterval;
  }
}

function ticks(ms: number): number {
  return Math.ceil((ms * HZ) / 1000);
}
