/**
 * Sets of numbers below a bound as bits in blocks of 4,096. Blocks and vectors are kept once however often they occur:
 * the vectors of neighbouring address ranges differ in a block or two and share the others.
 */
import { CellTag, SINGLE_SHIFT } from './layout.ts';
import type { ImageWriter } from './writer.ts';

export const BLOCK_BITS = 4096;
/** 32-bit words of a block. */
const BLOCK_WORDS = BLOCK_BITS / 32;
/** The empty block, and the vector of empty blocks. */
export const EMPTY = 0;

interface Block {
  /** 32-bit words, all of the block's. */
  readonly words: Uint32Array;
  /** Where it was written, 0 while it was not. */
  offset: number;
}

export class VectorStore {
  /** Blocks a vector has. */
  readonly blocks: number;
  readonly #blocks: Block[] = [{ words: new Uint32Array(BLOCK_WORDS), offset: 0 }];
  readonly #blocksByHash = new Map<number, number[]>();
  readonly #vectors: { blocks: Uint32Array; offset: number }[];
  readonly #vectorsByHash = new Map<number, number[]>();
  readonly #products = new Map<number, number>();

  constructor(bits: number) {
    this.blocks = Math.max(1, Math.ceil(bits / BLOCK_BITS));
    this.#vectors = [{ blocks: new Uint32Array(this.blocks), offset: 0 }];
    this.#vectorsByHash.set(hashWords(this.#vectors[0]!.blocks), [EMPTY]);
    this.#blocksByHash.set(hashWords(this.#blocks[0]!.words), [EMPTY]);
  }

  /** Number of the block with these words, which are copied if it is new. */
  internBlock(words: Uint32Array): number {
    const hash = hashWords(words);
    const known = this.#blocksByHash.get(hash);
    if (known !== undefined) {
      for (const id of known) if (sameWords(this.#blocks[id]!.words, words)) return id;
    }
    const id = this.#blocks.push({ words: words.slice(), offset: 0 }) - 1;
    if (known === undefined) this.#blocksByHash.set(hash, [id]);
    else known.push(id);
    return id;
  }

  internVector(blocks: Uint32Array): number {
    const hash = hashWords(blocks);
    const known = this.#vectorsByHash.get(hash);
    if (known !== undefined) {
      for (const id of known) if (sameWords(this.#vectors[id]!.blocks, blocks)) return id;
    }
    const id = this.#vectors.push({ blocks: blocks.slice(), offset: 0 }) - 1;
    if (known === undefined) this.#vectorsByHash.set(hash, [id]);
    else known.push(id);
    return id;
  }

  /** Number of the vector that is in both. */
  and(a: number, b: number): number {
    if (a === b) return a;
    const left = this.#vectors[a]!.blocks;
    const right = this.#vectors[b]!.blocks;
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
    const left = this.#blocks[a]!.words;
    const right = this.#blocks[b]!.words;
    const both = new Uint32Array(BLOCK_WORDS);
    for (let at = 0; at < BLOCK_WORDS; at++) both[at] = left[at]! & right[at]!;
    const id = this.internBlock(both);
    this.#products.set(key, id);
    return id;
  }

  /** Numbers in the set, ascending. */
  members(vector: number): number[] {
    const found: number[] = [];
    const { blocks } = this.#vectors[vector]!;
    for (let block = 0; block < blocks.length; block++) {
      const id = blocks[block]!;
      if (id === EMPTY) continue;
      const { words } = this.#blocks[id]!;
      for (let place = 0; place < BLOCK_WORDS; place++) {
        const word = words[place]!;
        for (let rest = word; rest !== 0; rest &= rest - 1) {
          found.push(block * BLOCK_BITS + place * 32 + (31 - Math.clz32(rest & -rest)));
        }
      }
    }
    return found;
  }

  /** What stands for the vector in a cell, see layout.ts: written unless it is there already. */
  write(vector: number, image: ImageWriter): number {
    if (vector === EMPTY) return 0;
    const known = this.#vectors[vector]!;
    if (known.offset !== 0) return known.offset;
    known.offset = this.#single(known.blocks);
    if (known.offset !== 0) return known.offset;
    const { blocks } = known;
    let present = 0;
    for (let place = 0; place < blocks.length; place++) {
      if (blocks[place] === EMPTY) continue;
      this.#writeBlock(this.#blocks[blocks[place]!]!, image);
      present += 1;
    }
    known.offset = image.reserve(8 + present * 4, 8);
    let low = 0;
    let high = 0;
    let rank = 0;
    for (let place = 0; place < blocks.length; place++) {
      const id = blocks[place]!;
      if (id === EMPTY) continue;
      if (place < 32) low |= 1 << place;
      else high |= 1 << (place - 32);
      image.pointer(known.offset + 8 + rank * 4, this.#blocks[id]!.offset);
      rank += 1;
    }
    image.u32(known.offset, low);
    image.u32(known.offset + 4, high);
    return known.offset;
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
    const { words } = this.#blocks[blocks[only]!]!;
    for (let place = 0; place < BLOCK_WORDS; place++) {
      const word = words[place]!;
      if (word === 0) continue;
      if (member >= 0 || (word & (word - 1)) !== 0) return 0;
      member = only * BLOCK_BITS + place * 32 + (31 - Math.clz32(word));
    }
    return (member << SINGLE_SHIFT) | CellTag.single;
  }

  #writeBlock(block: Block, image: ImageWriter): void {
    if (block.offset !== 0) return;
    const { words } = block;
    let low = 0;
    let high = 0;
    let count = 0;
    for (let place = 0; place < 64; place++) {
      if ((words[place * 2]! | words[place * 2 + 1]!) === 0) continue;
      if (place < 32) low |= 1 << place;
      else high |= 1 << (place - 32);
      count += 1;
    }
    block.offset = image.reserve(8 + count * 8, 8);
    image.u32(block.offset, low);
    image.u32(block.offset + 4, high);
    let at = block.offset + 8;
    for (let place = 0; place < 64; place++) {
      if ((words[place * 2]! | words[place * 2 + 1]!) === 0) continue;
      image.u32(at, words[place * 2]!);
      image.u32(at + 4, words[place * 2 + 1]!);
      at += 8;
    }
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

function hashWords(words: Uint32Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word !== 0) hash = Math.imul(hash ^ word ^ Math.imul(at, 0x9e3779b1), 0x01000193) ^ (hash >>> 15);
  }
  return hash;
}

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}
