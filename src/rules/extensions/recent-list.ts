/** A list of addresses as `-m recent` keeps it: net/netfilter/xt_recent.c, with the module's default parameters. */
import type { Family } from '../../net/index.ts';

/** ip_list_tot: the oldest address makes room for one more. */
const MOST_ADDRESSES = 100;
/** How many times are kept for an address when no rule of the list asks for more. */
const USUAL_STAMPS = 32;

export interface RecentEntry {
  readonly family: Family;
  ttl: number;
  /** Jiffies, a ring. */
  readonly stamps: number[];
  /** Where the next time goes; the last one is before it. */
  index: number;
}

/** One list, from all rules that name it. Entries stand in the order in which they were last refreshed. */
export class RecentList {
  /** That of the rule which made the list. */
  readonly #mask: Uint8Array;
  readonly #entries = new Map<string, RecentEntry>();
  #stampCount: number;

  constructor(mask: Uint8Array, hitCount: number) {
    this.#mask = mask;
    this.#stampCount = stampCount(hitCount);
  }

  /** Another rule of the list: one that counts further than the list remembers begins it anew. */
  join(hitCount: number): void {
    const wanted = stampCount(hitCount);
    if (wanted <= this.#stampCount) return;
    this.#entries.clear();
    this.#stampCount = wanted;
  }

  /** What the list knows an address by. */
  keyOf(family: Family, address: Uint8Array): string {
    return `${family} ${address.map((byte, index) => byte & this.#mask[index]!)}`;
  }

  /** @param ttl 0: any will do */
  find(key: string, ttl: number): RecentEntry | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined || ttl === 0 || entry.ttl === 0 || entry.ttl === ttl ? entry : undefined;
  }

  add(key: string, family: Family, ttl: number, now: number): void {
    if (this.#entries.size >= MOST_ADDRESSES) this.remove(this.#oldest()!);
    this.#entries.delete(key);
    this.#entries.set(key, { family, ttl, stamps: [now], index: 1 });
  }

  refresh(key: string, entry: RecentEntry, now: number): void {
    entry.index %= this.#stampCount;
    entry.stamps[entry.index++] = now;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
  }

  remove(key: string): void {
    this.#entries.delete(key);
  }

  /** Forgets the address that was refreshed longest ago, if that was before `since`; `kept` stays. */
  reap(since: number, kept: string | undefined): void {
    const key = this.#oldest();
    if (key === undefined || key === kept) return;
    const { stamps, index } = this.#entries.get(key)!;
    if (stamps[index - 1]! < since) this.remove(key);
  }

  #oldest(): string | undefined {
    return this.#entries.keys().next().value;
  }
}

/** The next power of two: the ring's size. */
function stampCount(hitCount: number): number {
  return hitCount === 0 ? USUAL_STAMPS : 2 ** Math.ceil(Math.log2(hitCount));
}
