/** Where sets lie, and what user space needs to work on them. */

/** Memory that a set lies in. Pointers in it are offsets into `buffer`. */
export interface SetMemory {
  readonly buffer: ArrayBufferLike;
  /** Zeroed room of so many bytes, a multiple of 4096 into the buffer. @throws when there is none */
  allocate(bytes: number): number;
  /** bpf_ktime_get_ns */
  nowNs(): bigint;
  /** 64 random bits. */
  random64(): bigint;
}
