/**
 * BPF arena (Linux 6.9, kernel/bpf/arena.c): sparse memory that programs and user space share, both with plain loads and
 * stores. Pointers in it are user addresses; a program turns one into its own with the addr_space_cast instruction.
 *
 * The first mapping fixes the user address for the arena's life; every other process must map it at the same place
 * (so it is kept beside the pin). Pages come into being on first touch.
 */
import { MapFlag } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { isErrno, KernelError, KernelUnavailableError } from '../sys/error.ts';
import { Mapping, pageSize } from '../sys/mapping.ts';
import { BpfMap } from './map.ts';

/**
 * Where arenas that several processes map are best put, 4 GiB apart: above what V8 picks at random (46 bits), below where
 * Linux puts programs, heap and libraries on x86_64 and on aarch64 with 48-bit addresses.
 */
export const SHARED_ARENA_BASE = 0x4800_0000_0000n;

export interface ArenaOptions {
  readonly name: string;
  /** Size in pages; at most 4 GiB in all. */
  readonly pages: number;
  /** Wanted user address, page aligned, not crossing a 4 GiB boundary; without it the kernel chooses. */
  readonly address?: bigint;
}

export class Arena {
  readonly map: BpfMap;
  readonly mapping: Mapping;

  private constructor(map: BpfMap, mapping: Mapping) {
    this.map = map;
    this.mapping = mapping;
  }

  /**
   * Creates an arena and maps it.
   * @throws {KernelUnavailableError} `KERNEL_NO_ARENA` before Linux 6.9 or without a JIT that supports it
   */
  static create(options: ArenaOptions): Arena {
    let map: BpfMap;
    try {
      map = BpfMap.create({
        type: 'BPF_MAP_TYPE_ARENA',
        name: options.name,
        keySize: 0,
        valueSize: 0,
        maxEntries: options.pages,
        flags: MapFlag.BPF_F_MMAPABLE,
        extra: options.address ?? 0n,
      });
    } catch (error) {
      if (options.address !== undefined || !isErrno(error, Errno.EINVAL, Errno.EOPNOTSUPP)) throw error;
      throw new KernelUnavailableError(
        'KERNEL_NO_ARENA',
        'this kernel has no BPF arena',
        'use Linux 6.9 or later',
        {
          cause: error,
        },
      );
    }
    return Arena.open(map, options.address ?? 0n);
  }

  /**
   * Maps an arena that exists, at the user address it was first mapped at.
   * @throws {KernelError} `ARENA_ADDRESS_TAKEN` when something else lies there in this process, or the address is wrong
   */
  static open(map: BpfMap, address: bigint): Arena {
    try {
      const length = map.maxEntries * pageSize();
      return new Arena(map, new Mapping({ fd: map.fd.number, length, address, label: map.fd.label }));
    } catch (error) {
      map.close();
      if (!isErrno(error, Errno.EEXIST, Errno.EBUSY, Errno.EINVAL)) throw error;
      throw new KernelError(
        'ARENA_ADDRESS_TAKEN',
        `${map.fd.label} cannot be mapped at 0x${address.toString(16)}: ${error.errnoName}`,
        'another mapping of this process lies there, or the arena was first mapped elsewhere; start again',
        { cause: error },
      );
    }
  }

  /** The user address of offset 0: what programs know the arena by. */
  get address(): bigint {
    return this.mapping.address;
  }

  /** The shared memory. */
  get buffer(): ArrayBuffer {
    return this.mapping.buffer;
  }

  /** Unmaps it and closes the descriptor; the memory lives on while a pin or a program holds the map. */
  close(): void {
    this.mapping.unmap();
    this.map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
