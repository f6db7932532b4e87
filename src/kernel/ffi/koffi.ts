/**
 * {@link KernelDriver} through koffi (https://koffi.dev), an optional dependency.
 *
 * `syscall(3)` is variadic in C, but its implementation in glibc and musl reads plain argument registers, so on x86_64
 * and aarch64 it may be called through a fixed prototype. `void *` takes numbers, bigints and typed arrays alike.
 */
import { createRequire } from 'node:module';
import type { KernelDriver, SyscallArgument } from './driver.ts';

/** The part of koffi that is used; typed here so that the package compiles without it. */
interface Koffi {
  readonly version: string;
  load(path: null): {
    func(name: string, result: string, parameters: string[]): ForeignFunction;
  };
  address(memory: ArrayBufferView): bigint;
  view(address: bigint, length: number): ArrayBuffer;
  errno(): number;
}

interface ForeignFunction {
  (...values: unknown[]): unknown;
  async(...values: unknown[]): void;
}

/** Loads koffi; throws what `require` throws when it is not installed or its binary does not fit this machine. */
export function loadKoffi(): KernelDriver {
  const require = createRequire(import.meta.url);
  const koffi = require('koffi') as Koffi;
  const library = koffi.load(null);
  const pointers = ['void *', 'void *', 'void *', 'void *', 'void *', 'void *'];
  const syscall = library.func('syscall', 'int64_t', ['int64_t', ...pointers]);
  const poll = library.func('poll', 'int', ['void *', 'ulong', 'int']);

  return {
    name: `koffi ${koffi.version}`,
    syscall(nr, a = null, b = null, c = null, d = null, e = null, f = null): number {
      const result = Number(syscall(nr, word(a), word(b), word(c), word(d), word(e), word(f)));
      // Nothing of ours runs between the call and this; only -1 is an error, so a stale errno is never looked at.
      return result === -1 ? -koffi.errno() : result;
    },
    addressOf: (memory) => koffi.address(memory),
    viewOf: (address, length) => koffi.view(address, length),
    pollAsync: (fds, count, timeoutMs) =>
      new Promise((resolve, reject) => {
        poll.async(fds, count, timeoutMs, (error: unknown, result: number) => {
          if (error === null || error === undefined) resolve(result);
          else reject(error);
        });
      }),
  };
}

/** Negative integers become their two's complement; empty arrays (no memory of their own) become NULL. */
function word(value: SyscallArgument): SyscallArgument {
  if (typeof value === 'number') return value < 0 ? BigInt.asUintN(64, BigInt(value)) : value;
  if (typeof value === 'bigint') return BigInt.asUintN(64, value);
  return value === null || value.byteLength === 0 ? null : value;
}
