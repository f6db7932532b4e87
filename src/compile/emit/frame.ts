/**
 * The 512 bytes of stack of a program: where the facts about the packet and scratch space lie.
 *
 * Facts are 32-bit words in slots of 8 bytes, in the upper half of the slot. The verifier tracks what is stored at
 * multiples of 8, and what a comparison then tells about it: each rule would make another state to explore. It does
 * not track the upper halves, so a fact stays "any number" and the states behind two rules are equal.
 */
import { IsaError } from '../../isa/index.ts';

/** 512 bytes, less what the verifier takes for the iteration budget of `may_goto`. */
export const FRAME_SIZE: number = 512 - 16;

export class Frame {
  #used = 0;
  readonly #words = new Map<string, number>();
  readonly #blocks = new Map<string, number>();
  readonly #released = new Set<string>();

  /** Bytes in use. */
  get size(): number {
    return this.#used;
  }

  /** Offset from r10 of the word of that name, made at first use; its neighbours are not to be relied on. */
  word(name: string): number {
    const known = this.#words.get(name);
    if (known !== undefined) return known;
    this.#refuseReleased(name);
    const offset = this.#take(8, name) + 4;
    this.#words.set(name, offset);
    return offset;
  }

  /** Words that lie side by side in this order, four bytes each, so that a program can index them. */
  array(names: readonly string[]): void {
    const offset = this.block('array', names.length * 4);
    for (const [index, name] of names.entries()) this.#words.set(name, offset + index * 4);
  }

  /** Offset of an 8-byte slot whose contents the verifier follows: return sites, saved pointers. */
  slot(name: string): number {
    return this.block(name, 8);
  }

  /** Offset of `bytes` bytes, 8-aligned, contiguous upwards. A second use of the name must not ask for more. */
  block(name: string, bytes: number): number {
    const known = this.#blocks.get(name);
    if (known !== undefined) return known;
    this.#refuseReleased(name);
    const offset = this.#take(alignToSlot(bytes), name);
    this.#blocks.set(name, offset);
    return offset;
  }

  /** From now on `name` is the word or block `other`, which is there and large enough: both are never in use at once. */
  share(name: string, other: string): void {
    const word = this.#words.get(other);
    if (word === undefined) this.#blocks.set(name, this.block(other, 0));
    else this.#words.set(name, word);
  }

  /**
   * For code that does not come back: gives up all that was taken since {@link size} was `size`. What is taken from here on lies
   * there; the old names cannot be used any more.
   */
  release(size: number): void {
    for (const names of [this.#words, this.#blocks]) {
      for (const [name, offset] of names) {
        if (offset >= -size) continue;
        names.delete(name);
        this.#released.add(name);
      }
    }
    this.#used = size;
  }

  #refuseReleased(name: string): void {
    if (this.#released.has(name)) throw new RangeError(`${name} has been given up`);
  }

  #take(bytes: number, name: string): number {
    this.#used += bytes;
    if (this.#used > FRAME_SIZE) {
      throw new IsaError(
        'ISA_FIELD_RANGE',
        `no room on the stack for ${name}: ${this.#used} of ${FRAME_SIZE} bytes`,
      );
    }
    return -this.#used;
  }
}

function alignToSlot(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
