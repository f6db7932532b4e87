/** The one question before any work: can the kernel engine run here? */
import { release } from 'node:os';
import { driver } from '../ffi/index.ts';
import { attr, BpfCommand, tryBpf } from '../sys/bpf.ts';
import { Errno, errnoText } from '../sys/errno.ts';
import { KernelUnavailableError } from '../sys/error.ts';
import { encodeStruct } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

/** Arenas and the netfilter, tcx and defragmentation links that everything stands on: all there since this version. */
export const OLDEST_KERNEL = '6.9';

/** True when the running kernel's version is at least `wanted` (`6.9`). */
export function kernelIsAtLeast(wanted: string, running: string = release()): boolean {
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split('.').map(Number);
  const [major = 0, minor = 0] = running.split('.').map((part) => Number.parseInt(part, 10));
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

/**
 * Returns when the kernel engine can be used.
 * @throws {KernelUnavailableError} `KERNEL_NOT_LINUX`, `KERNEL_ARCHITECTURE`, `KERNEL_NO_FFI`, `KERNEL_TOO_OLD`,
 *   `KERNEL_NO_PRIVILEGE` or `KERNEL_NO_BPF`
 */
export function requireKernel(): void {
  driver();
  if (!kernelIsAtLeast(OLDEST_KERNEL)) {
    throw new KernelUnavailableError(
      'KERNEL_TOO_OLD',
      `Linux ${release()} is older than ${OLDEST_KERNEL}`,
      `use Linux ${OLDEST_KERNEL} or later, or the netstack engine`,
    );
  }
  // The smallest thing that takes CAP_BPF: a map with one entry of a type that is closed to the unprivileged.
  const LPM_TRIE = 11;
  const BPF_F_NO_PREALLOC = 1;
  const request = { mapType: LPM_TRIE, keySize: 8, valueSize: 4, maxEntries: 1, mapFlags: BPF_F_NO_PREALLOC };
  const result = tryBpf(BpfCommand.MAP_CREATE, encodeStruct(attr.mapCreate, request));
  if (result >= 0) {
    trySyscall('close', result);
    return;
  }
  if (result === -Errno.EPERM || result === -Errno.EACCES) {
    throw new KernelUnavailableError(
      'KERNEL_NO_PRIVILEGE',
      'this process may not use bpf(2)',
      'run as root, or give it CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN; the netstack engine needs none',
    );
  }
  throw new KernelUnavailableError(
    'KERNEL_NO_BPF',
    `bpf(2) does not work here: ${errnoText(-result)}`,
    'use a kernel built with CONFIG_BPF_SYSCALL; in a container, let seccomp pass bpf(2)',
  );
}
