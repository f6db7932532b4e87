/** A growing run of bytes whose pointers are final from the start: it knows where it will lie. */
import { alignUp } from '../layout.ts';

/** Memory that tables lie in, by pointer: an image that is being written, or an arena. */
export interface TableMemory {
  loadU32(pointer: number): number;
  storeU32(pointer: number, value: number): void;
}

/** Bits below 2^32 as two words; all 64-bit keys are written through this. */
const LOW = 0xffff_ffffn;

export class ImageWriter implements TableMemory {
  /** Pointer of the first byte. */
  readonly origin: number;
  readonly #limit: number;
  #view: DataView<ArrayBuffer>;
  #length = 0;

  /** @param origin a multiple of 128, the greatest alignment in tables
   *  @param limit bytes that the image may have at most */
  constructor(origin: number, limit: number) {
    this.origin = origin;
    this.#limit = limit;
    this.#view = new DataView(new ArrayBuffer(1 << 16));
  }

  get length(): number {
    return this.#length;
  }

  /** The offset of so many zeroed bytes. @throws {RangeError} when the image outgrows its limit */
  reserve(bytes: number, align: number): number {
    const at = alignUp(this.#length, align);
    const end = at + bytes;
    if (end > this.#limit) throw new RangeError(`the tables need more than ${this.#limit} bytes`);
    if (end > this.#view.byteLength) {
      const bigger = new Uint8Array(Math.max(end, 2 * this.#view.byteLength));
      bigger.set(new Uint8Array(this.#view.buffer, 0, this.#length));
      this.#view = new DataView(bigger.buffer);
    }
    this.#length = end;
    return at;
  }

  /** The pointer that stands for an offset. */
  pointer(offset: number): number {
    return this.origin + offset;
  }

  loadU32(pointer: number): number {
    return this.#view.getUint32(pointer - this.origin, true);
  }
  storeU32(pointer: number, value: number): void {
    this.#view.setUint32(pointer - this.origin, value, true);
  }
  setU16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }
  setU32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }
  setU64(offset: number, value: number | bigint): void {
    if (typeof value === 'number') {
      this.#view.setUint32(offset, value, true);
      this.#view.setUint32(offset + 4, value / 2 ** 32, true);
      return;
    }
    // Two stores of numbers are several times faster than one of a bigint.
    this.#view.setUint32(offset, Number(value & LOW), true);
    this.#view.setUint32(offset + 4, Number(value >> 32n), true);
  }
  setBytes(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.#view.buffer).set(bytes, offset);
  }

  /** The bytes so far: a view. */
  bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#view.buffer, 0, this.#length);
  }
}
