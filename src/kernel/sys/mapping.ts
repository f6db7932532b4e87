/**
 * mmap(2) as an ArrayBuffer that stays safe after it is unmapped.
 *
 * JavaScript can hold views of a mapping for as long as it likes, and an external ArrayBuffer cannot be detached. So
 * `unmap` lays private anonymous memory over the range (the kernel object is released at once; stale views read
 * zeros), and the address range itself is given back when the last view has been collected.
 */
import { readFileSync } from 'node:fs';
import { driver } from '../ffi/index.ts';
import { SyscallError } from './error.ts';
import { syscall, trySyscall } from './syscall.ts';

export const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
/** Linux 4.17: fail with EEXIST instead of replacing what lies there. */
const MAP_FIXED_NOREPLACE = 0x100000;

/** The page size of the machine; asked once. aarch64 kernels may use 16 or 64 KiB. */
export function pageSize(): number {
  page ??= readPageSize();
  return page;
}
let page: number | undefined;

/** AT_PAGESZ of the auxiliary vector: pairs of words, getauxval(3). */
function readPageSize(): number {
  const words = readFileSync('/proc/self/auxv');
  for (let offset = 0; offset + 16 <= words.length; offset += 16) {
    if (words.readBigUInt64LE(offset) === 6n) return Number(words.readBigUInt64LE(offset + 8));
  }
  return 4096;
}

export interface MappingOptions {
  readonly fd: number;
  /** Bytes; the kernel rounds up to pages. */
  readonly length: number;
  readonly protection?: number;
  /** Byte offset in the file, page aligned. */
  readonly offset?: number;
  /** Wanted user address, exactly there or not at all; 0n leaves the choice to the kernel. */
  readonly address?: bigint;
  readonly label?: string;
}

const collected = new FinalizationRegistry<{ address: bigint; length: number }>(({ address, length }) => {
  trySyscall('munmap', address, length);
});

export class Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly #buffer: ArrayBuffer;
  #mapped = true;

  /** @throws {SyscallError} with the errno of mmap(2) */
  constructor(options: MappingOptions) {
    const { fd, length, protection = PROT_READ | PROT_WRITE, offset = 0, address = 0n } = options;
    const flags = MAP_SHARED | (address === 0n ? 0 : MAP_FIXED_NOREPLACE);
    const result = trySyscall('mmap', address, length, protection, flags, fd, offset);
    if (result < 0) throw new SyscallError('mmap', -result, `mapping ${options.label ?? 'memory'}`);
    this.address = BigInt(result);
    this.length = length;
    this.#buffer = driver().viewOf(this.address, length);
  }

  get mapped(): boolean {
    return this.#mapped;
  }

  /** The memory. Views of it taken before {@link unmap} read zeros afterwards and their stores go nowhere. */
  get buffer(): ArrayBuffer {
    return this.#buffer;
  }

  /** Releases the mapped object; a second call does nothing. */
  unmap(): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    syscall('mmap', this.address, this.length, PROT_READ | PROT_WRITE, flags, -1, 0);
    collected.register(this.#buffer, { address: this.address, length: this.length });
  }

  [Symbol.dispose](): void {
    this.unmap();
  }
}
