/** Lazy choice of the driver: nothing is loaded before the first system call. */
import { KernelUnavailableError } from '../sys/error.ts';
import type { KernelDriver } from './driver.ts';
import { loadKoffi } from './koffi.ts';

export type { KernelDriver, SyscallArgument } from './driver.ts';

let current: KernelDriver | undefined;

/**
 * The driver in use.
 * @throws {KernelUnavailableError} `KERNEL_NOT_LINUX`, `KERNEL_ARCHITECTURE` or `KERNEL_NO_FFI`
 */
export function driver(): KernelDriver {
  current ??= open();
  return current;
}

/** Uses another driver from now on (tests, another FFI); `undefined` goes back to the default. */
export function useDriver(replacement: KernelDriver | undefined): void {
  current = replacement;
}

function open(): KernelDriver {
  if (process.platform !== 'linux') {
    throw new KernelUnavailableError(
      'KERNEL_NOT_LINUX',
      `the kernel engine needs Linux, this is ${process.platform}`,
      'use the netstack engine here, or run on Linux 6.9 or later',
    );
  }
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    throw new KernelUnavailableError(
      'KERNEL_ARCHITECTURE',
      `the kernel engine knows the system calls of x86_64 and aarch64, this is ${process.arch}`,
      'use the netstack engine here',
    );
  }
  try {
    return loadKoffi();
  } catch (cause) {
    throw new KernelUnavailableError(
      'KERNEL_NO_FFI',
      'the kernel engine calls the kernel through the optional dependency koffi, which cannot be loaded',
      'install it beside sluice: npm install koffi',
      { cause },
    );
  }
}
