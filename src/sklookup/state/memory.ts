/** The socket arena as numbers: loads and stores at offsets, aligned stores that programs see at once. */
import type { LiveMemory } from '../table/edit.ts';

export class ArenaMemory implements LiveMemory {
  readonly #bytes: () => Uint8Array;
  #viewed: DataView;
  /** Pointer of the first byte: 0 in the kernel (see layout.ts), an address in a virtual machine. */
  readonly base: number;

  /** @param bytes the arena's memory now; asked each time, because a virtual machine's can move */
  constructor(bytes: () => Uint8Array, base: number) {
    this.#bytes = bytes;
    this.#viewed = new DataView(new ArrayBuffer(0));
    this.base = base;
  }

  get length(): number {
    return this.#bytes().length;
  }
  bytes(offset: number, length: number): Uint8Array {
    return this.#bytes().subarray(offset, offset + length);
  }
  #view(): DataView {
    const bytes = this.#bytes();
    if (this.#viewed.buffer !== bytes.buffer)
      this.#viewed = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.#viewed;
  }

  u8(offset: number): number {
    return this.#bytes()[offset]!;
  }
  u16(offset: number): number {
    return this.#view().getUint16(offset, true);
  }
  u32(offset: number): number {
    return this.#view().getUint32(offset, true);
  }
  u64(offset: number): bigint {
    return this.#view().getBigUint64(offset, true);
  }
  setU8(offset: number, value: number): void {
    this.#bytes()[offset] = value;
  }
  setU16(offset: number, value: number): void {
    this.#view().setUint16(offset, value, true);
  }
  setU32(offset: number, value: number): void {
    this.#view().setUint32(offset, value, true);
  }
  setU64(offset: number, value: bigint): void {
    this.#view().setBigUint64(offset, value, true);
  }
  setBytes(offset: number, bytes: Uint8Array): void {
    this.#bytes().set(bytes, offset);
  }

  // By pointer, as tables name their parts.

  loadU32(pointer: number): number {
    return this.#view().getUint32(pointer - this.base, true);
  }
  storeU32(pointer: number, value: number): void {
    this.#view().setUint32(pointer - this.base, value, true);
  }

  storeBytes(pointer: number, bytes: Uint8Array): void {
    this.setBytes(pointer - this.base, bytes);
  }
  publishPointer(pointer: number, value: number): void {
    this.publishU32(pointer - this.base, value);
  }
  publishPair(pointer: number, first: number, second: number): void {
    this.publishU64(pointer - this.base, BigInt(first) | (BigInt(second) << 32n));
  }

  /** One aligned store, after everything that was stored before it. */
  publishU32(offset: number, value: number): void {
    const bytes = this.#bytes();
    Atomics.store(new Int32Array(bytes.buffer, bytes.byteOffset + offset, 1), 0, value);
  }
  publishU64(offset: number, value: bigint): void {
    const bytes = this.#bytes();
    Atomics.store(new BigUint64Array(bytes.buffer, bytes.byteOffset + offset, 1), 0, value);
  }

  text(offset: number, room: number): string {
    const bytes = this.#bytes().slice(offset, offset + room);
    const end = bytes.indexOf(0);
    return decodeAscii(end < 0 ? bytes : bytes.subarray(0, end));
  }
  setText(offset: number, room: number, text: string): void {
    const field = new Uint8Array(room);
    field.set(encodeAscii(text).subarray(0, room - 1));
    this.setBytes(offset, field);
  }
}

// TextEncoder belongs to no ECMAScript library; labels and the lines that say their options are ASCII.
/** ASCII text as bytes. */
export function encodeAscii(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index) & 0x7f;
  return bytes;
}
/** ASCII bytes as text. */
export function decodeAscii(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 8192)
    parts.push(String.fromCharCode(...bytes.subarray(at, at + 8192)));
  return parts.join('');
}
