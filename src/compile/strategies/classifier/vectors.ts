/**
 * Sets of numbers below a bound as bits in blocks of 4,096. Blocks and vectors are kept once however often they occur:
 * the vectors of neighbouring address ranges differ in a block or two and share the others.
 */
import { CellTag, SINGLE_SHIFT } from './layout.ts';
import { WordPool } from './wordpool.ts';
import type { ImageWriter } from './writer.ts';

export const BLOCK_BITS = 4096;
/** 32-bit words of a block. */
const BLOCK_WORDS = BLOCK_BITS / 32;
/** The empty block, and the vector of empty blocks. */
export const EMPTY = 0;

export class VectorStore {
  /** Blocks a vector has. */
  readonly blocks: number;
  readonly #blocks = new WordPool(BLOCK_WORDS);
  /** Numbers of each vector's blocks. */
  readonly #vectors: WordPool;
  readonly #products = new Map<number, number>();
  /** Where blocks and vectors were written, by number; absent while they were not. */
  readonly #blockOffsets = new Map<number, number>();
  readonly #vectorOffsets = new Map<number, number>();

  constructor(bits: number) {
    this.blocks = Math.max(1, Math.ceil(bits / BLOCK_BITS));
    this.#vectors = new WordPool(this.blocks);
    this.#blocks.intern(new Uint32Array(BLOCK_WORDS));
    this.#vectors.intern(new Uint32Array(this.blocks));
  }

  /** Number of the block with these words, which are copied if it is new. */
  internBlock(words: Uint32Array): number {
    return this.#blocks.intern(words);
  }

  internVector(blocks: Uint32Array): number {
    return this.#vectors.intern(blocks);
  }

  /** Number of the vector that is in both. */
  and(a: number, b: number): number {
    if (a === b) return a;
    const left = this.#vectors.words(a);
    const right = this.#vectors.words(b);
    const both = new Uint32Array(this.blocks);
    for (let at = 0; at < this.blocks; at++) both[at] = this.#andBlocks(left[at]!, right[at]!);
    return this.internVector(both);
  }

  #andBlocks(a: number, b: number): number {
    if (a === b) return a;
    if (a === EMPTY || b === EMPTY) return EMPTY;
    const key = a < b ? a * 2 ** 26 + b : b * 2 ** 26 + a;
    const known = this.#products.get(key);
    if (known !== undefined) return known;
    const left = this.#blocks.words(a);
    const right = this.#blocks.words(b);
    const both = new Uint32Array(BLOCK_WORDS);
    for (let at = 0; at < BLOCK_WORDS; at++) both[at] = left[at]! & right[at]!;
    const id = this.internBlock(both);
    this.#products.set(key, id);
    return id;
  }

  /** Numbers that only one of two sets has. Where blocks are the same nothing is looked at: neighbours differ in a few numbers. */
  difference(a: number, b: number, onlyA: (member: number) => void, onlyB: (member: number) => void): void {
    for (let block = 0; block < this.blocks; block++) {
      const left = this.#vectors.words(a)[block]!;
      const right = this.#vectors.words(b)[block]!;
      if (left === right) continue;
      const [own, other] = [this.#blocks.words(left), this.#blocks.words(right)];
      for (let place = 0; place < BLOCK_WORDS; place++) {
        const word = own[place]!;
        for (let rest = word ^ other[place]!; rest !== 0; rest &= rest - 1) {
          const lowest = rest & -rest;
          const member = block * BLOCK_BITS + place * 32 + (31 - Math.clz32(lowest));
          if ((word & lowest) !== 0) onlyA(member);
          else onlyB(member);
        }
      }
    }
  }

  /** What stands for the vector in a cell, see layout.ts: written unless it is there already. */
  write(vector: number, image: ImageWriter): number {
    if (vector === EMPTY) return 0;
    const known = this.#vectorOffsets.get(vector);
    if (known !== undefined) return known;
    const blocks = this.#vectors.words(vector);
    const offset = this.#single(blocks) || this.#writeVector(blocks, image);
    this.#vectorOffsets.set(vector, offset);
    return offset;
  }

  #writeVector(blocks: Uint32Array, image: ImageWriter): number {
    const written: number[] = [];
    let low = 0;
    let high = 0;
    for (let place = 0; place < blocks.length; place++) {
      const id = blocks[place]!;
      if (id === EMPTY) continue;
      if (place < 32) low |= 1 << place;
      else high |= 1 << (place - 32);
      written.push(this.#writeBlock(id, image));
    }
    const offset = image.reserve(8 + written.length * 4, 8);
    image.u32(offset, low);
    image.u32(offset + 4, high);
    for (const [rank, block] of written.entries()) image.pointer(offset + 8 + rank * 4, block);
    return offset;
  }

  /** The cell of a set of one member, 0 for other sets. */
  #single(blocks: Uint32Array): number {
    let only = -1;
    for (let place = 0; place < blocks.length; place++) {
      if (blocks[place] === EMPTY) continue;
      if (only >= 0) return 0;
      only = place;
    }
    let member = -1;
    const words = this.#blocks.words(blocks[only]!);
    for (let place = 0; place < BLOCK_WORDS; place++) {
      const word = words[place]!;
      if (word === 0) continue;
      if (member >= 0 || (word & (word - 1)) !== 0) return 0;
      member = only * BLOCK_BITS + place * 32 + (31 - Math.clz32(word));
    }
    return (member << SINGLE_SHIFT) | CellTag.single;
  }

  #writeBlock(id: number, image: ImageWriter): number {
    const known = this.#blockOffsets.get(id);
    if (known !== undefined) return known;
    const words = this.#blocks.words(id);
    let low = 0;
    let high = 0;
    let count = 0;
    for (let place = 0; place < 64; place++) {
      if ((words[place * 2]! | words[place * 2 + 1]!) === 0) continue;
      if (place < 32) low |= 1 << place;
      else high |= 1 << (place - 32);
      count += 1;
    }
    const offset = image.reserve(8 + count * 8, 8);
    image.u32(offset, low);
    image.u32(offset + 4, high);
    let at = offset + 8;
    for (let place = 0; place < 64; place++) {
      if ((words[place * 2]! | words[place * 2 + 1]!) === 0) continue;
      image.u32(at, words[place * 2]!);
      image.u32(at + 4, words[place * 2 + 1]!);
      at += 8;
    }
    this.#blockOffsets.set(id, offset);
    return offset;
  }
}

/** A set under change, which can be made a vector at any time; only blocks that changed since are looked at again. */
export class ChangingSet {
  readonly #store: VectorStore;
  readonly #words: Uint32Array;
  readonly #ids: Uint32Array;
  readonly #changed = new Set<number>();

  constructor(store: VectorStore) {
    this.#store = store;
    this.#words = new Uint32Array(store.blocks * BLOCK_WORDS);
    this.#ids = new Uint32Array(store.blocks);
  }

  add(member: number): void {
    this.#words[member >>> 5]! |= 1 << (member & 31);
    this.#changed.add(member >>> 12);
  }

  delete(member: number): void {
    this.#words[member >>> 5]! &= ~(1 << (member & 31));
    this.#changed.add(member >>> 12);
  }

  /** The set as it is now. */
  vector(): number {
    for (const block of this.#changed) {
      const words = this.#words.subarray(block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS);
      this.#ids[block] = this.#store.internBlock(words);
    }
    this.#changed.clear();
    return this.#store.internVector(this.#ids);
  }
}
