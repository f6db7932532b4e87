/**
 * The records of an arena (docs/arena.md): which generation runs in which namespace. Words that programs read are stored
 * with Atomics, which is one aligned 8-byte store.
 */
import {
  RECORD_PROBES,
  RECORD_SIZE,
  RECORD_SLOTS,
  RECORDS_OFFSET,
  Record as RecordLayout,
  recordHome,
} from '../../compile/index.ts';
import { PolicyError } from './error.ts';

const LOW_32 = 0xffff_ffffn;

/** One namespace's record. */
export class NetnsRecord {
  readonly cookie: bigint;
  readonly #words: BigUint64Array;
  /** Index of the record's first word. */
  readonly #at: number;

  constructor(words: BigUint64Array, at: number, cookie: bigint) {
    this.#words = words;
    this.#at = at;
    this.cookie = cookie;
  }

  get root(): number {
    return Number(this.#load(RecordLayout.root) & LOW_32);
  }

  get previous(): number {
    return Number(this.#load(RecordLayout.root) >> 32n);
  }

  /** bpf_ktime_get_ns, 0n when confirmed. */
  get deadlineNs(): bigint {
    return this.#load(RecordLayout.deadline);
  }

  set deadlineNs(value: bigint) {
    this.#store(RecordLayout.deadline, value);
  }

  get inFlight(): number {
    return Number(this.#load(RecordLayout.inFlight) & LOW_32);
  }

  set inFlight(root: number) {
    this.#store(RecordLayout.inFlight, BigInt(root));
  }

  /** The commit: one store. */
  commit(root: number, previous: number): void {
    this.#store(RecordLayout.root, BigInt(root) | (BigInt(previous) << 32n));
  }

  /** True when the deadline has passed: dispatchers run `previous`. */
  isReverted(nowNs: bigint = process.hrtime.bigint()): boolean {
    const { deadlineNs } = this;
    return deadlineNs !== 0n && nowNs >= deadlineNs && this.previous !== 0;
  }

  /** The root that runs now. */
  get running(): number {
    return this.isReverted() ? this.previous : this.root;
  }

  /** Roots that the record names. */
  get named(): readonly number[] {
    return [...new Set([this.root, this.previous, this.inFlight])].filter((root) => root !== 0);
  }

  /** The namespace has no policy from now on: packets that still meet a dispatcher are dropped. */
  free(): void {
    this.#store(RecordLayout.cookie, 0n);
  }

  #load(offset: number): bigint {
    return Atomics.load(this.#words, this.#at + offset / 8);
  }

  #store(offset: number, value: bigint): void {
    Atomics.store(this.#words, this.#at + offset / 8, value);
  }
}

export class Records {
  readonly #words: BigUint64Array;

  constructor(arena: ArrayBuffer) {
    this.#words = new BigUint64Array(
      arena,
      RECORDS_OFFSET,
      ((RECORD_SLOTS + RECORD_PROBES) * RECORD_SIZE) / 8,
    );
  }

  all(): NetnsRecord[] {
    const found: NetnsRecord[] = [];
    for (let at = 0; at < this.#words.length; at += RECORD_SIZE / 8) {
      const cookie = Atomics.load(this.#words, at);
      if (cookie !== 0n) found.push(new NetnsRecord(this.#words, at, cookie));
    }
    return found;
  }

  find(cookie: bigint): NetnsRecord | undefined {
    const at = this.#places(cookie).find((place) => Atomics.load(this.#words, place) === cookie);
    return at === undefined ? undefined : new NetnsRecord(this.#words, at, cookie);
  }

  /** Makes a record that runs `root`. @throws {PolicyError} `HOST_POLICY_FULL` */
  make(cookie: bigint, root: number): NetnsRecord {
    const at = this.#places(cookie).find((place) => Atomics.load(this.#words, place) === 0n);
    if (at === undefined) {
      throw new PolicyError(
        'HOST_POLICY_FULL',
        'the policy has no record left for this namespace',
        'use another --policy name',
      );
    }
    const record = new NetnsRecord(this.#words, at, cookie);
    record.deadlineNs = 0n;
    record.inFlight = 0;
    record.commit(root, 0);
    Atomics.store(this.#words, at, cookie);
    return record;
  }

  /** Word indexes where the namespace's record may lie. */
  #places(cookie: bigint): number[] {
    const home = (recordHome(cookie) - RECORDS_OFFSET) / 8;
    return Array.from({ length: RECORD_PROBES }, (_, probe) => home + (probe * RECORD_SIZE) / 8);
  }
}
