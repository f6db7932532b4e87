/**
 * The records of an arena (docs/arena.md): which generation runs in which namespace. Words that programs read are stored
 * with Atomics, which is one aligned 8-byte store.
 */
import {
  GATE_OPEN,
  GATE_SLOTS,
  GATES_OFFSET,
  RECORD_PROBES,
  RECORD_SIZE,
  RECORD_SLOTS,
  RECORDS_OFFSET,
  Record as RecordLayout,
  ROOT_ALIGNMENT,
  recordHome,
} from '../../compile/index.ts';
import { PolicyError } from './error.ts';

const LOW_32 = 0xffff_ffffn;
const GATE_MASK = ROOT_ALIGNMENT - 1;

/** One namespace's record. */
export class NetnsRecord {
  readonly cookie: bigint;
  readonly #words: BigUint64Array;
  /** Index of the record's first word. */
  readonly #at: number;
  readonly #gates: BigUint64Array;

  constructor(words: BigUint64Array, at: number, cookie: bigint, gates: BigUint64Array) {
    this.#words = words;
    this.#at = at;
    this.cookie = cookie;
    this.#gates = gates;
  }

  get root(): number {
    return this.#low & ~GATE_MASK;
  }

  get previous(): number {
    return Number(this.#load(RecordLayout.root) >> 32n);
  }

  /** Number of the record's gate; 0: none. */
  get gate(): number {
    return this.#low & GATE_MASK;
  }

  /** bpf_ktime_get_ns at which the gate closes; {@link GATE_OPEN} without a gate. */
  get closesNs(): bigint {
    const { gate } = this;
    return gate === 0 ? GATE_OPEN : Atomics.load(this.#gates, gate);
  }

  get inFlight(): number {
    return Number(this.#load(RecordLayout.inFlight) & LOW_32);
  }

  set inFlight(root: number) {
    this.#store(RecordLayout.inFlight, BigInt(root));
  }

  /** The commit, one store: from now on `root` runs, or `previous` while the gate of this number is closed. */
  commit(root: number, previous = 0, gate = 0): void {
    this.#store(RecordLayout.root, BigInt(root | gate) | (BigInt(previous) << 32n));
  }

  /** True while the gate is closed: dispatchers run `previous`. */
  isClosed(nowNs: bigint = process.hrtime.bigint()): boolean {
    return nowNs >= this.closesNs;
  }

  /** True when `root` runs and will be given up unless it is confirmed. */
  isWaiting(): boolean {
    return this.closesNs !== GATE_OPEN && !this.isClosed();
  }

  /** The root that runs now. */
  get running(): number {
    return this.isClosed() ? this.previous : this.root;
  }

  /** The root that runs once nothing waits for confirmation and nobody confirms. */
  get confirmed(): number {
    return this.closesNs === GATE_OPEN ? this.root : this.previous;
  }

  /** Roots that the record names. */
  get named(): readonly number[] {
    return [...new Set([this.root, this.previous, this.inFlight])].filter((root) => root !== 0);
  }

  /** The namespace has no policy from now on: packets that still meet a dispatcher are dropped. */
  free(): void {
    this.#store(RecordLayout.cookie, 0n);
  }

  get #low(): number {
    return Number(this.#load(RecordLayout.root) & LOW_32);
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
  readonly #gates: BigUint64Array;

  constructor(arena: ArrayBuffer) {
    this.#gates = new BigUint64Array(arena, GATES_OFFSET, GATE_SLOTS);
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
      if (cookie !== 0n) found.push(this.#record(at, cookie));
    }
    return found;
  }

  find(cookie: bigint): NetnsRecord | undefined {
    const at = this.#places(cookie).find((place) => Atomics.load(this.#words, place) === cookie);
    return at === undefined ? undefined : this.#record(at, cookie);
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
    const record = this.#record(at, cookie);
    record.inFlight = 0;
    record.commit(root);
    Atomics.store(this.#words, at, cookie);
    return record;
  }

  /** A gate that no record names. @throws {PolicyError} `HOST_POLICY_FULL` */
  freeGate(): number {
    const named = new Set(this.all().map(({ gate }) => gate));
    for (let gate = 1; gate < GATE_SLOTS; gate++) if (!named.has(gate)) return gate;
    throw new PolicyError(
      'HOST_POLICY_FULL',
      'too many commits wait for confirmation',
      'confirm them, or let their time pass, then: sluice gc',
    );
  }

  /** Lets a gate close at this time of bpf_ktime_get_ns: one store for all records that name it. */
  setGate(gate: number, closesNs: bigint): void {
    Atomics.store(this.#gates, gate, closesNs);
  }

  #record(at: number, cookie: bigint): NetnsRecord {
    return new NetnsRecord(this.#words, at, cookie, this.#gates);
  }

  /** Word indexes where the namespace's record may lie. */
  #places(cookie: bigint): number[] {
    const home = (recordHome(cookie) - RECORDS_OFFSET) / 8;
    return Array.from({ length: RECORD_PROBES }, (_, probe) => home + (probe * RECORD_SIZE) / 8);
  }
}
