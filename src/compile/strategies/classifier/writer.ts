/** A growing image with pointers in it: offsets count from its own start until it is known where it will lie. */
import type { TableImage } from '../../arena/image.ts';
import { alignUp } from '../../arena/layout.ts';
import { CELL_TAGS, CellTag, Way } from './layout.ts';

const INITIAL_WORDS = 1 << 11;

/** Words of 32 bits, little endian on every machine when built. Offsets are bytes. */
export class ImageWriter {
  #words = new Uint32Array(INITIAL_WORDS);
  #length = 0;
  #pointers = new Uint32Array(INITIAL_WORDS);
  #pointerCount = 0;

  /** Bytes so far. */
  get size(): number {
    return this.#length * 4;
  }

  /** Takes zeroed room, `alignment` a multiple of 4. */
  reserve(bytes: number, alignment = 4): number {
    const start = alignUp(this.size, alignment);
    this.#length = (start + alignUp(bytes, 4)) >>> 2;
    if (this.#length > this.#words.length) {
      const larger = new Uint32Array(Math.max(this.#words.length * 2, this.#length));
      larger.set(this.#words);
      this.#words = larger;
    }
    return start;
  }

  u32(offset: number, value: number): void {
    this.#words[offset >>> 2] = value;
  }

  /** A byte of a table of bytes. */
  u8(offset: number, value: number): void {
    const shift = (offset & 3) * 8;
    const word = this.#words[offset >>> 2]!;
    this.#words[offset >>> 2] = (word & ~(0xff << shift)) | (value << shift);
  }

  u16(offset: number, value: number): void {
    const shift = (offset & 2) * 8;
    const word = this.#words[offset >>> 2]!;
    this.#words[offset >>> 2] = (word & ~(0xffff << shift)) | (value << shift);
  }

  /** Bytes as they are, a multiple of 4 of them; pointers among them stay. */
  copy(offset: number, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; at += 4) this.u32(offset + at, view.getUint32(at, true));
  }

  /** The word at `from` once more at `to`: a node in this image, or one of the ways that are none (layout.ts). */
  copyWay(to: number, from: number): void {
    const way = this.get(from);
    if (way <= Way.hotdrop) this.u32(to, way);
    else this.pointer(to, way);
  }

  get(offset: number): number {
    return this.#words[offset >>> 2]!;
  }

  /** A cell (layout.ts): relocated where it is a pointer. */
  cell(offset: number, cell: number): void {
    if (cell === 0 || (cell & CELL_TAGS) === CellTag.single) this.u32(offset, cell);
    else this.pointer(offset, cell);
  }

  /** A pointer to `target` in this image; its low bits may carry a tag. */
  pointer(offset: number, target: number): void {
    this.u32(offset, target);
    if (this.#pointerCount === this.#pointers.length) {
      const larger = new Uint32Array(this.#pointers.length * 2);
      larger.set(this.#pointers);
      this.#pointers = larger;
    }
    this.#pointers[this.#pointerCount] = offset >>> 2;
    this.#pointerCount += 1;
  }

  /** The image as part of a generation. The writer is done. */
  finish(): TableImage {
    const words = this.#words.subarray(0, this.#length);
    const pointers = this.#pointers.subarray(0, this.#pointerCount);
    return { size: words.length * 4, build: (offset) => relocate(words, pointers, offset) };
  }
}

function relocate(words: Uint32Array, pointers: Uint32Array, offset: number): Uint8Array {
  const placed = words.slice();
  for (const place of pointers) placed[place] = placed[place]! + offset;
  if (!LITTLE_ENDIAN) {
    const view = new DataView(placed.buffer);
    for (const [place, word] of placed.entries()) view.setUint32(place * 4, word, true);
  }
  return new Uint8Array(placed.buffer);
}

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
