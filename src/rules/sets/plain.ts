/**
 * A set of the reference evaluation: entries in a map, slow and obvious (net/netfilter/ipset/ip_set_hash_gen.h). The
 * tables in the arena must agree with this file.
 */
import {
  type KeyLayout,
  keyLayout,
  lacksMac,
  maskWords,
  type SetDefinition,
  type SetElement,
  type SetExtras,
} from './type.ts';

/** An entry with its clock. */
interface PlainEntry {
  readonly key: readonly number[];
  readonly extras: SetExtras;
  packets: bigint;
  bytes: bigint;
  /** Milliseconds of the packet clock; Infinity: it stays. */
  readonly expiresMs: number;
  /** Seconds that it will stay once it has its MAC address, while it waits for one. */
  readonly waitsSec: number;
}

/** What a packet asks beside membership. */
export interface MatchRequest {
  readonly length: number;
  readonly keepCounters: boolean;
  /** The same for the members of a list. */
  readonly keepSubcounters: boolean;
  /** The entry's counters, after this packet was counted, must be like this. */
  readonly countersHold: (packets: bigint, bytes: bigint) => boolean;
}

/** `nomatch`: the most specific network is marked so (-ENOTEMPTY in the kernel). */
export type SetAnswer = 'match' | 'nomatch' | 'none';

/** Sets by name, as evaluation asks for them. */
export function plainSets(
  sets: readonly { readonly definition: SetDefinition; readonly elements: Iterable<SetElement> }[] = [],
): Map<string, PlainSet> {
  return new Map(
    sets.map(({ definition, elements }) => [definition.name, new PlainSet(definition, elements)]),
  );
}

export class PlainSet {
  readonly definition: SetDefinition;
  readonly layout: KeyLayout;
  readonly #entries = new Map<string, PlainEntry>();
  #pending: Iterable<SetElement> | undefined;
  /** How many entries have each prefix length, by network of the entry. */
  readonly #lengths: Map<number, number>[];

  /** Timeouts of the elements begin at the first look at the set. */
  constructor(definition: SetDefinition, elements: Iterable<SetElement> = []) {
    this.definition = definition;
    this.layout = keyLayout(definition.type, definition.family);
    this.#lengths = Array.from({ length: this.layout.networks }, () => new Map<number, number>());
    this.#pending = elements;
  }

  /** @param exist an entry that is there gets these extras, and is no failure */
  add(element: SetElement, exist: boolean, nowMs: number): 'added' | 'exists' | 'full' {
    this.begin(nowMs);
    const name = this.#name(element.key);
    let known = this.#entries.get(name);
    if (known !== undefined && known.expiresMs <= nowMs) {
      this.#remove(name, known);
      known = undefined;
    }
    if (known === undefined) {
      if (this.#entries.size >= this.definition.maxelem) this.#sweep(nowMs);
      if (this.#entries.size >= this.definition.maxelem && this.definition.forceadd) this.#evict();
      if (this.#entries.size >= this.definition.maxelem) return 'full';
      this.#countLengths(element.key, 1);
    } else if (!exist && !(this.#waits(known.key) && !this.#waits(element.key))) return 'exists';
    // An entry keeps the MAC address that it has when none is said.
    const key = known !== undefined && this.#waits(element.key) ? known.key : element.key;
    const timeoutSec = this.#timeoutSec(element, known);
    const waits = this.#waits(key);
    this.#entries.set(name, {
      key,
      extras: element,
      packets: element.packets ?? known?.packets ?? 0n,
      bytes: element.bytes ?? known?.bytes ?? 0n,
      expiresMs: waits || timeoutSec === 0 ? Number.POSITIVE_INFINITY : nowMs + timeoutSec * 1000,
      waitsSec: timeoutSec,
    });
    return 'added';
  }

  /** Seconds that the entry is to stay, 0: for good. One that got its MAC address stays for what was said when it was made. */
  #timeoutSec({ key, timeoutSec }: SetElement, known: PlainEntry | undefined): number {
    const usual = this.definition.timeoutSec;
    // A set without timeouts does not heed them.
    if (usual === undefined) return 0;
    const completed = known !== undefined && this.#waits(known.key) && !this.#waits(key);
    return completed && (timeoutSec ?? usual) === usual ? known.waitsSec : (timeoutSec ?? usual);
  }

  delete(key: readonly number[], nowMs: number): boolean {
    this.begin(nowMs);
    const name = this.#name(key);
    const known = this.#entries.get(name);
    if (known === undefined) return false;
    this.#remove(name, known);
    return known.expiresMs > nowMs;
  }

  /**
   * Looks up a key whose networks have all their bits: the longest lengths first. An entry that waits for a MAC address gets that
   * of the packet, which is the first that it counts; without a request nobody's packet is looked up.
   */
  match(full: readonly number[], nowMs: number, request?: MatchRequest): SetAnswer {
    const entry = this.#find(full, nowMs, request);
    if (entry === undefined) return 'none';
    return entry.extras.nomatch === true ? 'nomatch' : 'match';
  }

  /** What the entry has that {@link match} finds, if it is none that is marked nomatch. */
  find(full: readonly number[], nowMs: number, request: MatchRequest): SetExtras | undefined {
    const extras = this.#find(full, nowMs, request)?.extras;
    return extras?.nomatch === true ? undefined : extras;
  }

  #find(full: readonly number[], nowMs: number, request?: MatchRequest): PlainEntry | undefined {
    this.begin(nowMs);
    for (const key of this.#candidates(full)) {
      const name = this.#name(key);
      const entry = this.#entries.get(name);
      if (entry === undefined || entry.expiresMs <= nowMs) continue;
      if (this.#waits(entry.key)) {
        if (request === undefined) return entry;
        this.add({ key: full, packets: 1n, bytes: BigInt(request.length) }, false, nowMs);
        return this.#entries.get(name);
      }
      if (!this.#waits(full) && key.some((word, index) => word !== entry.key[index])) continue;
      if (request !== undefined && this.definition.counters) {
        if (!request.keepCounters) {
          entry.packets = BigInt.asUintN(64, entry.packets + 1n);
          entry.bytes = BigInt.asUintN(64, entry.bytes + BigInt(request.length));
        }
        if (!request.countersHold(entry.packets, entry.bytes)) continue;
      }
      return entry;
    }
    return undefined;
  }

  /** The key under the longest lengths that entries have: what packets add and delete. */
  narrowed(full: readonly number[], nowMs: number): number[] {
    this.begin(nowMs);
    const bits = this.definition.family === 'ipv4' ? 32 : 128;
    return this.#masked(
      full,
      this.#lengths
        .map((lengths) => Math.max(-1, ...lengths.keys()))
        .map((length) => (length < 0 ? bits : length)),
    );
  }

  /** Entries that have not timed out, with the seconds they have left. */
  elements(nowMs: number): SetElement[] {
    this.begin(nowMs);
    const found: SetElement[] = [];
    for (const { key, extras, packets, bytes, expiresMs, waitsSec } of this.#entries.values()) {
      if (expiresMs <= nowMs) continue;
      const left = Math.max(1, Math.ceil((expiresMs - nowMs) / 1000));
      const stays = expiresMs === Number.POSITIVE_INFINITY ? 0 : left;
      found.push({ ...extras, key, packets, bytes, timeoutSec: this.#waits(key) ? waitsSec : stays });
    }
    return found;
  }

  /** From now on the elements that it was made with grow old: the first packet that asks says when. */
  begin(nowMs: number): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    for (const element of pending) this.add(element, true, nowMs);
  }

  flush(): void {
    this.#pending = undefined;
    this.#entries.clear();
    for (const lengths of this.#lengths) lengths.clear();
  }

  /** What tells entries apart. */
  #name(key: readonly number[]): string {
    return key.slice(0, this.layout.identity).join(' ');
  }

  #waits(key: readonly number[]): boolean {
    return lacksMac(this.definition.type, this.layout, key);
  }

  #candidates(full: readonly number[]): (readonly number[])[] {
    if (this.#lengths.length === 0) return [full];
    const [first, second] = this.#lengths.map((lengths) => [...lengths.keys()].sort((a, b) => b - a));
    return first!.flatMap((a) =>
      second === undefined ? [this.#masked(full, [a])] : second.map((b) => this.#masked(full, [a, b])),
    );
  }

  #masked(full: readonly number[], lengths: readonly number[]): number[] {
    const key = [...full];
    if (lengths.length === 0) return key;
    key[this.layout.lengthsAt] = 0;
    for (const [network, length] of lengths.entries()) {
      const masks = maskWords(this.definition.family, length);
      for (const [word, mask] of masks.entries()) {
        const at = network * masks.length + word;
        key[at] = (key[at]! & mask) >>> 0;
      }
      key[this.layout.lengthsAt] = key[this.layout.lengthsAt]! | (length << (8 * network));
    }
    return key;
  }

  #remove(name: string, entry: PlainEntry): void {
    this.#entries.delete(name);
    this.#countLengths(entry.key, -1);
  }

  #countLengths(key: readonly number[], by: number): void {
    for (const [network, lengths] of this.#lengths.entries()) {
      const length = (key[this.layout.lengthsAt]! >>> (8 * network)) & 0xff;
      const count = (lengths.get(length) ?? 0) + by;
      if (count === 0) lengths.delete(length);
      else lengths.set(length, count);
    }
  }

  /** Any entry: which one it is nobody may rely on. */
  #evict(): void {
    for (const [name, entry] of this.#entries) {
      this.#remove(name, entry);
      return;
    }
  }

  #sweep(nowMs: number): void {
    for (const [name, entry] of this.#entries) if (entry.expiresMs <= nowMs) this.#remove(name, entry);
  }
}
