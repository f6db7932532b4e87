/**
 * A machine's memory: one linear memory, an allocator, and the table of regions that programs may touch.
 *
 * Views are replaced when the memory grows: use them through this object, never keep them.
 */
import { VmError } from './error.ts';
import * as layout from './layout.ts';
import { createMemory, PAGE_BYTES, type WasmMemory } from './wasm/host.ts';

/** 2 GiB: addresses stay positive as 32-bit signed numbers. */
export const MAX_PAGES = 32_768;

/** A range of memory that programs may touch. */
export interface Region {
  /** Address of its table entry. */
  readonly entry: number;
  readonly name: string;
  readonly writable: boolean;
  start: number;
  length: number;
}

export class LinearMemory {
  readonly wasm: WasmMemory;
  u8!: Uint8Array;
  u16!: Uint16Array;
  i32!: Int32Array;
  u32!: Uint32Array;
  u64!: BigUint64Array;
  view!: DataView;
  #top: number = layout.HEAP;
  /** Freed blocks by size; sizes are rounded, so blocks are reused whole. */
  readonly #free = new Map<number, number[]>();
  readonly #regions: Region[] = [];
  readonly #freeEntries: number[] = [];

  constructor(initialPages = 4) {
    this.wasm = createMemory(initialPages, MAX_PAGES);
    this.#refresh();
    this.addRegion('nothing', 0, 0, false);
    this.addRegion(
      'stack',
      layout.STACK_TOP - layout.STACK_BYTES_PER_FRAME,
      layout.STACK_BYTES_PER_FRAME,
      true,
    );
  }

  #refresh(): void {
    const { buffer } = this.wasm;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.view = new DataView(buffer);
  }

  /**
   * Zeroed bytes at a multiple of `align` (a power of two, at least 16).
   *
   * @throws VmError `VM_MEMORY`
   */
  allocate(bytes: number, align = 16): number {
    const size = roundedSize(bytes);
    const reused = align === 16 ? this.#free.get(size)?.pop() : undefined;
    if (reused !== undefined) {
      this.u8.fill(0, reused, reused + size);
      return reused;
    }
    const start = Math.ceil(this.#top / align) * align;
    const end = start + size;
    if (end > this.u8.length) {
      const pages = Math.ceil((end - this.u8.length) / PAGE_BYTES);
      const wanted = Math.max(pages, Math.min(this.u8.length / PAGE_BYTES, 256));
      if (!this.#grow(wanted) && !this.#grow(pages)) {
        throw new VmError('VM_MEMORY', `no room for ${bytes} more bytes`, {
          hint: 'use smaller maps, or several machines',
        });
      }
    }
    this.#top = end;
    return start;
  }

  #grow(pages: number): boolean {
    if (this.u8.length / PAGE_BYTES + pages > MAX_PAGES) return false;
    try {
      this.wasm.grow(pages);
    } catch {
      return false;
    }
    this.#refresh();
    return true;
  }

  /** Gives back what `allocate(bytes)` returned. */
  release(address: number, bytes: number): void {
    const size = roundedSize(bytes);
    const blocks = this.#free.get(size);
    if (blocks === undefined) this.#free.set(size, [address]);
    else blocks.push(address);
  }

  /** Lets programs touch a range. @throws VmError `VM_MEMORY` when there are too many */
  addRegion(name: string, start: number, length: number, writable: boolean): Region {
    const entry = this.#freeEntries.pop() ?? layout.REGION_TABLE + this.#regions.length * layout.REGION_BYTES;
    if (entry >= layout.REGION_TABLE + layout.MAX_REGIONS * layout.REGION_BYTES) {
      throw new VmError('VM_MEMORY', `more than ${layout.MAX_REGIONS} regions`, {
        hint: 'use fewer maps in one machine',
      });
    }
    const region: Region = { entry, name, writable, start: 0, length: 0 };
    this.#regions.push(region);
    this.moveRegion(region, start, length);
    return region;
  }

  /** Changes the range of a region; running programs see it at once. */
  moveRegion(region: Region, start: number, length: number): void {
    region.start = start;
    region.length = length;
    const { i32 } = this;
    const at = region.entry >> 2;
    i32[at] = start;
    i32[at + 1] = 0;
    this.#setPlaces(at + layout.REGION_READ / 4, length);
    this.#setPlaces(at + layout.REGION_WRITE / 4, region.writable ? length : 0);
  }

  /** How many places accesses of 1, 2, 4 and 8 bytes have in so many bytes. */
  #setPlaces(at: number, length: number): void {
    const { i32 } = this;
    i32[at] = length;
    i32[at + 1] = length < 2 ? 0 : length - 1;
    i32[at + 2] = length < 4 ? 0 : length - 3;
    i32[at + 3] = length < 8 ? 0 : length - 7;
  }

  removeRegion(region: Region): void {
    this.moveRegion(region, 0, 0);
    this.#regions.splice(this.#regions.indexOf(region), 1);
    this.#freeEntries.push(region.entry);
  }

  /** The region that holds all of `[address, address + bytes)`; `undefined` when none does. */
  findRegion(address: number, bytes: number, write: boolean): Region | undefined {
    for (const region of this.#regions) {
      const offset = address - region.start;
      // The interpreter moves the stack region by itself, so its table entry is the truth.
      if (region.entry === layout.STACK_REGION) {
        const start = this.i32[layout.STACK_REGION >> 2]!;
        if (address >= start && address + bytes <= layout.STACK_TOP) return region;
      } else if (offset >= 0 && offset + bytes <= region.length && (region.writable || !write)) {
        return region;
      }
    }
    return undefined;
  }

  /** Names of the regions near an address, for error messages. */
  describe(address: number): string {
    let best: Region | undefined;
    for (const region of this.#regions) {
      if (region.length === 0 || region.start > address) continue;
      if (best === undefined || region.start > best.start) best = region;
    }
    if (address < layout.NULL_PAGE_BYTES)
      return address === 0 ? 'a null pointer' : `null pointer + ${address}`;
    if (best === undefined) return 'no region';
    const past = address - best.start - best.length;
    return past < 0 ? `${best.name} + ${address - best.start}` : `${past} bytes past the end of ${best.name}`;
  }

  readU64(address: number): bigint {
    return this.view.getBigUint64(address, true);
  }
  writeU64(address: number, value: bigint): void {
    this.view.setBigUint64(address, BigInt.asUintN(64, value), true);
  }
  /** A copy of bytes. */
  copy(address: number, bytes: number): Uint8Array {
    return this.u8.slice(address, address + bytes);
  }
}

/** Small blocks go by 16 bytes, large ones by an eighth of their power of two. */
function roundedSize(bytes: number): number {
  const size = Math.max(16, bytes);
  const step = Math.max(16, 2 ** (31 - Math.clz32(size)) / 8);
  return Math.ceil(size / step) * step;
}
