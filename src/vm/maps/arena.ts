/**
 * Arena (`kernel/bpf/arena.c`): pages that programs and host share. Here the user-space address of the arena is its
 * address in the machine's memory, so that both casts between the address spaces keep the low 32 bits.
 */
import { type MapHost, type MapSpec, UnkeyedMap } from './map.ts';

export const ARENA_PAGE_BYTES = 4096;

export class ArenaMap extends UnkeyedMap {
  /** Address of the first byte. */
  readonly base: number;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.base = this.allocateRegion(spec.maxEntries * ARENA_PAGE_BYTES, ARENA_PAGE_BYTES);
  }

  /** The arena's bytes: a view, valid until the machine's memory grows (creating maps or packets can do that). */
  get bytes(): Uint8Array {
    return this.host.memory.u8.subarray(this.base, this.base + this.spec.maxEntries * ARENA_PAGE_BYTES);
  }
}
