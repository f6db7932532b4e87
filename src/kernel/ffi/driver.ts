/**
 * The one door to the C world: what the rest of `src/kernel` needs from a foreign-function interface.
 *
 * Everything else is TypeScript over `syscall(2)`, so another FFI (the `node:ffi` of later Node versions, an addon)
 * replaces koffi by implementing these five functions.
 */

/** A register's worth of argument: a number, a 64-bit integer, or memory whose address is passed. */
export type SyscallArgument = number | bigint | ArrayBufferView | null;

export interface KernelDriver {
  /** For `doctor`: which FFI this is, with its version. */
  readonly name: string;
  /**
   * Calls `syscall(2)`. Returns what the kernel returned, or **minus errno** on failure (never throws for an errno).
   * Memory passed as an argument stays alive for the call.
   */
  syscall(
    nr: number,
    a?: SyscallArgument,
    b?: SyscallArgument,
    c?: SyscallArgument,
    d?: SyscallArgument,
    e?: SyscallArgument,
    f?: SyscallArgument,
  ): number;
  /** Address of the first byte of `memory`. Valid while `memory` is reachable: keep a reference until after the call. */
  addressOf(memory: ArrayBufferView): bigint;
  /** An ArrayBuffer over memory that the caller maps and unmaps. Touching it after munmap(2) ends the process. */
  viewOf(address: bigint, length: number): ArrayBuffer;
  /**
   * poll(2) on a pool thread, for events that may come late. `fds` is an array of struct pollfd, written in place.
   * Resolves with poll's result (negative: failed). Occupies one of libuv's few pool threads: keep timeouts short.
   */
  pollAsync(fds: Uint8Array, count: number, timeoutMs: number): Promise<number>;
}
