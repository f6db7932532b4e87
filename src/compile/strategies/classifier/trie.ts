/** Writes a partition of addresses as a trie: layout.ts says what it looks like. */
import { predecessor } from './intervals.ts';
import { CellTag, NODE_BITS, SEARCH_KEYS, SEARCH_SIZE } from './layout.ts';
import type { Partition } from './sweep.ts';
import type { VectorStore } from './vectors.ts';
import type { ImageWriter } from './writer.ts';

const SMALL_ROOT_BITS = 8;
const LARGE_ROOT_BITS = 16;
/** Pieces from which on the large root pays. */
const LARGE_ROOT_PIECES = 2048;
/**
 * A node takes a kilobyte: it pays where its pieces fall into many of its places, and where they are so many that
 * comparisons would be a long way. So no more than some 300 bytes go to a piece, however prefixes are chosen.
 */
const NODE_PLACES = 12;
const NODE_PIECES = 64;

export interface WrittenTrie {
  readonly offset: number;
  readonly rootBits: number;
}

export function writeTrie(image: ImageWriter, store: VectorStore, pieces: Partition): WrittenTrie {
  const rootBits = pieces.vectors.length < LARGE_ROOT_PIECES ? SMALL_ROOT_BITS : LARGE_ROOT_BITS;
  const writer = new TrieWriter(image, store, pieces);
  const offset = image.reserve(4 << rootBits, 8);
  writer.cells(0, rootBits, 0, pieces.vectors.length, (first, last, cell) => {
    for (let slot = first; slot <= last; slot++) image.cell(offset + slot * 4, cell);
  });
  return { offset, rootBits };
}

class TrieWriter {
  readonly #image: ImageWriter;
  readonly #store: VectorStore;
  readonly #pieces: Partition;

  constructor(image: ImageWriter, store: VectorStore, pieces: Partition) {
    this.#image = image;
    this.#store = store;
    this.#pieces = pieces;
  }

  /**
   * The cells for the `bits` bits behind the first `depth`, of the pieces `from` to `to` (exclusive), the first of which
   * may begin before these cells: runs of slots with the cell that all of the run have.
   */
  cells(
    depth: number,
    bits: number,
    from: number,
    to: number,
    run: (first: number, last: number, cell: number) => void,
  ): void {
    let current = from;
    let slot = 0;
    let next = from + 1;
    // The first piece may begin just here; it is the current one in either case.
    while (next < to) {
      const taken = this.#slot(next, depth, bits);
      if (taken > slot) run(slot, taken - 1, this.#leaf(current));
      let end = next + 1;
      while (end < to && this.#slot(end, depth, bits) === taken) end += 1;
      const first = this.#zeroBehind(next, depth + bits) ? next : current;
      run(taken, taken, this.#cell(depth + bits, first, end));
      current = end - 1;
      slot = taken + 1;
      next = end;
    }
    if (slot < 1 << bits) run(slot, (1 << bits) - 1, this.#leaf(current));
  }

  #cell(depth: number, from: number, to: number): number {
    const count = to - from;
    if (count === 1) return this.#leaf(from);
    const vectors = this.#pieces.vectors;
    if (count === 2 || (count === 3 && vectors[from] === vectors[to - 1])) {
      const cells = [this.#leaf(from + 1), this.#leaf(from)] as const;
      return this.#comparison(from + 1, count === 3 ? to - 1 : undefined, cells);
    }
    if (count >= NODE_PIECES || this.#places(depth, from, to) >= NODE_PLACES)
      return this.#node(depth, from, to);
    if (this.#pieces.width === 1) return this.#search(depth, from, to);
    const middle = (from + to + 1) >>> 1;
    const cells = [this.#cell(depth, middle, to), this.#cell(depth, from, middle)] as const;
    return this.#comparison(middle, undefined, cells);
  }

  /** IPv4: the pieces in as many parts of like length as a search has cells. */
  #search(depth: number, from: number, to: number): number {
    const count = to - from;
    const parts = Math.min(count, SEARCH_KEYS + 1);
    const image = this.#image;
    const offset = image.reserve(SEARCH_SIZE, SEARCH_SIZE);
    const begin = (part: number): number => from + Math.floor((part * count) / parts);
    for (let part = 0; part < SEARCH_KEYS; part++) {
      image.u32(offset + part * 4, part + 1 < parts ? this.#key(begin(part + 1))[0]! - 1 : 0xffffffff);
    }
    for (let part = 0; part < parts; part++) {
      const cell = this.#cell(depth, begin(part), begin(part + 1));
      image.cell(offset + (SEARCH_KEYS + part) * 4, cell);
    }
    return offset | CellTag.search;
  }

  /** How many places of a node the pieces begin in. */
  #places(depth: number, from: number, to: number): number {
    let places = 0;
    let last = -1;
    for (let piece = from + 1; piece < to; piece++) {
      const place = this.#slot(piece, depth, NODE_BITS);
      if (place !== last) places += 1;
      last = place;
    }
    return places;
  }

  /** Cells for addresses from where `inside` begins to where `behind` does, or to the last one, and for the others. */
  #comparison(
    inside: number,
    behind: number | undefined,
    cells: readonly [inside: number, outside: number],
  ): number {
    const { width } = this.#pieces;
    const image = this.#image;
    const offset = image.reserve(width * 8 + 8, 8);
    const first = this.#key(inside);
    const last = behind === undefined ? first.map(() => 0xffffffff) : predecessor(this.#key(behind))!;
    const bounds = width === 1 ? [first, [last[0]! - first[0]!]] : [first, last];
    for (const [index, key] of bounds.entries()) {
      for (let word = 0; word < width; word++) {
        // IPv6: two u64, the upper half of the address first, each little endian.
        image.u32(offset + (index * width + (width === 1 ? 0 : word ^ 1)) * 4, key[word]!);
      }
    }
    for (const [index, cell] of cells.entries()) image.cell(offset + width * 8 + index * 4, cell);
    return offset | CellTag.comparison;
  }

  #key(piece: number): number[] {
    const { keys, width } = this.#pieces;
    return [...keys.subarray(piece * width, (piece + 1) * width)];
  }

  #leaf(piece: number): number {
    return this.#store.write(this.#pieces.vectors[piece]!, this.#image);
  }

  #node(depth: number, from: number, to: number): number {
    const offset = this.#image.reserve(4 << NODE_BITS, 8);
    this.cells(depth, NODE_BITS, from, to, (first, last, cell) => {
      for (let place = first; place <= last; place++) this.#image.cell(offset + place * 4, cell);
    });
    return offset | CellTag.node;
  }

  /** `bits` bits of a piece's key behind the first `depth`. */
  #slot(piece: number, depth: number, bits: number): number {
    const { keys, width } = this.#pieces;
    const word = depth >>> 5;
    const shift = depth & 31;
    const base = piece * width + word;
    const high = (keys[base]! << shift) >>> 0;
    const low = shift + bits > 32 && word + 1 < width ? keys[base + 1]! >>> (32 - shift) : 0;
    return (high | low) >>> (32 - bits);
  }

  /** No bit of a piece's key is set behind the first `depth`. */
  #zeroBehind(piece: number, depth: number): boolean {
    const { keys, width } = this.#pieces;
    for (let word = depth >>> 5; word < width; word++) {
      const shift = word === depth >>> 5 ? depth & 31 : 0;
      if ((keys[piece * width + word]! << shift) >>> 0 !== 0) return false;
    }
    return true;
  }
}
