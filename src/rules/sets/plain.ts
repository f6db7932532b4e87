/**
 * A set of the reference evaluation: entries in a map, slow and obvious (net/netfilter/ipset/ip_set_hash_gen.h). The
 * tables in the arena must agree with this file.
 */
import {
  type KeyLayout,
  keyLayout,
  maskWords,
  type SetDefinition,
  type SetElement,
  type SetExtras,
} from './type.ts';

/** An entry with its clock. */
interface PlainEntry {
  readonly key: readonly number[];
  extras: SetExtras;
  packets: bigint;
  bytes: bigint;
  /** Milliseconds of the packet clock; Infinity: it stays. */
  expiresMs: number;
}

/** What `-m set` asks beside membership. */
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
    const name = element.key.join(' ');
    const known = this.#entries.get(name);
    if (known !== undefined && known.expiresMs > nowMs && !exist) return 'exists';
    if (known !== undefined && known.expiresMs <= nowMs) this.#remove(name, known);
    if (!this.#entries.has(name)) {
      if (this.#entries.size >= this.definition.maxelem) this.#sweep(nowMs);
      if (this.#entries.size >= this.definition.maxelem) return 'full';
      this.#countLengths(element.key, 1);
    }
    // A set without timeouts does not heed them.
    const timeoutSec =
      this.definition.timeoutSec === undefined ? 0 : (element.timeoutSec ?? this.definition.timeoutSec);
    this.#entries.set(name, {
      key: element.key,
      extras: element,
      packets: element.packets ?? 0n,
      bytes: element.bytes ?? 0n,
      expiresMs: timeoutSec === 0 ? Number.POSITIVE_INFINITY : nowMs + timeoutSec * 1000,
    });
    return 'added';
  }

  delete(key: readonly number[], nowMs: number): boolean {
    this.begin(nowMs);
    const name = key.join(' ');
    const known = this.#entries.get(name);
    if (known === undefined) return false;
    this.#remove(name, known);
    return known.expiresMs > nowMs;
  }

  /** Looks up a key whose networks have all their bits: the longest lengths first. */
  match(full: readonly number[], nowMs: number, request?: MatchRequest): SetAnswer {
    this.begin(nowMs);
    for (const key of this.#candidates(full)) {
      const entry = this.#entries.get(key.join(' '));
      if (entry === undefined || entry.expiresMs <= nowMs) continue;
      if (request !== undefined && this.definition.counters) {
        if (!request.keepCounters) {
          entry.packets = BigInt.asUintN(64, entry.packets + 1n);
          entry.bytes = BigInt.asUintN(64, entry.bytes + BigInt(request.length));
        }
        if (!request.countersHold(entry.packets, entry.bytes)) continue;
      }
      return entry.extras.nomatch === true ? 'nomatch' : 'match';
    }
    return 'none';
  }

  /** The entry that {@link match} would find, which is not counted. */
  find(full: readonly number[], nowMs: number): SetExtras | undefined {
    this.begin(nowMs);
    for (const key of this.#candidates(full)) {
      const entry = this.#entries.get(key.join(' '));
      if (entry !== undefined && entry.expiresMs > nowMs)
        return entry.extras.nomatch === true ? undefined : entry.extras;
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
    for (const { key, extras, packets, bytes, expiresMs } of this.#entries.values()) {
      if (expiresMs <= nowMs) continue;
      const timeoutSec =
        expiresMs === Number.POSITIVE_INFINITY ? 0 : Math.max(1, Math.ceil((expiresMs - nowMs) / 1000));
      found.push({ ...extras, key, packets, bytes, timeoutSec });
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

  #sweep(nowMs: number): void {
    for (const [name, entry] of this.#entries) if (entry.expiresMs <= nowMs) this.#remove(name, entry);
  }
}
