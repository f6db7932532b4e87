/** The MAC addresses that entries hold, as user space works on their cells beside programs (mac.ts). */
import { MAC_BITS, State } from './layout.ts';

/** An entry that was found: its state, and where it lies. */
interface HeldBy {
  readonly state: number;
  readonly entry: number;
}

const ADDRESS = (1n << BigInt(MAC_BITS)) - 1n;

/** Addresses are numbers, their first byte the lowest; 0 is that of an entry that waits for one. */
export class HeldMacs {
  readonly #longs: BigUint64Array;
  readonly #macAt: number;
  readonly #identity: number;

  /** `identity`: the words of a key before those of the address. */
  constructor(longs: BigUint64Array, macAt: number, identity: number) {
    this.#longs = longs;
    this.#macAt = macAt;
    this.#identity = identity;
  }

  inKey(key: readonly number[]): bigint {
    return (BigInt(key[this.#identity + 1]!) << 32n) | BigInt(key[this.#identity]!);
  }

  of({ entry }: HeldBy): bigint {
    return Atomics.load(this.#longs, this.#cell(entry)) & ADDRESS;
  }

  /** The address as words of a key. */
  words(found: HeldBy): [number, number] {
    const address = this.of(found);
    return [Number(address & 0xffff_ffffn), Number(address >> 32n)];
  }

  /** Of an entry that nobody sees yet. */
  write({ entry, state }: HeldBy, address: bigint): void {
    Atomics.store(this.#longs, this.#cell(entry), sequence(state) | address);
  }

  /** Gives the entry, which held `before`, another address; false when somebody else was quicker. */
  replace({ entry, state }: HeldBy, before: bigint, address: bigint): boolean {
    const known = sequence(state) | before;
    const wanted = sequence(state) | address;
    return Atomics.compareExchange(this.#longs, this.#cell(entry), known, wanted) === known;
  }

  #cell(entry: number): number {
    return (entry + this.#macAt) >>> 3;
  }
}

function sequence(state: number): bigint {
  return BigInt(state >>> State.sequenceShift) << BigInt(MAC_BITS);
}
