/**
 * System calls by name. Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
 * (aarch64); both are frozen ABI.
 */
import { driver, type SyscallArgument } from '../ffi/index.ts';
import { Errno } from './errno.ts';
import { SyscallError } from './error.ts';

/** name: [x86_64, aarch64]. Calls that aarch64 lacks (poll, open) are not used: their newer forms are. */
const numbers = {
  read: [0, 63],
  write: [1, 64],
  close: [3, 57],
  mmap: [9, 222],
  munmap: [11, 215],
  rt_sigaction: [13, 134],
  ioctl: [16, 29],
  socket: [41, 198],
  connect: [42, 203],
  sendto: [44, 206],
  recvfrom: [45, 207],
  sendmsg: [46, 211],
  recvmsg: [47, 212],
  bind: [49, 200],
  listen: [50, 201],
  getsockname: [51, 204],
  getpeername: [52, 205],
  setsockopt: [54, 208],
  getsockopt: [55, 209],
  execve: [59, 221],
  fcntl: [72, 25],
  flock: [73, 32],
  prctl: [157, 167],
  mount: [165, 40],
  umount2: [166, 39],
  openat: [257, 56],
  accept4: [288, 242],
  ppoll: [271, 73],
  unshare: [272, 97],
  setns: [308, 268],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  seccomp: [317, 277],
  memfd_create: [319, 279],
  clock_gettime: [228, 113],
  membarrier: [324, 283],
  bpf: [321, 280],
  capget: [125, 90],
  pidfd_open: [434, 434],
  pidfd_getfd: [438, 438],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  openat2: [437, 437],
} as const;

export type SyscallName = keyof typeof numbers;

const column: 0 | 1 = process.arch === 'arm64' ? 1 : 0;

/** The number of a system call on this machine. */
export function syscallNumber(name: SyscallName): number {
  return numbers[name][column];
}

/** Calls the kernel; returns its result, or minus errno. Restarts a call that a signal interrupted. */
export function trySyscall(
  name: SyscallName,
  a?: SyscallArgument,
  b?: SyscallArgument,
  c?: SyscallArgument,
  d?: SyscallArgument,
  e?: SyscallArgument,
  f?: SyscallArgument,
): number {
  const nr = numbers[name][column];
  for (;;) {
    const result = driver().syscall(nr, a, b, c, d, e, f);
    // close(2) frees the descriptor even when it reports EINTR; a second try could close someone else's.
    if (result !== -Errno.EINTR || name === 'close') return result;
  }
}

/** As {@link trySyscall}, but a failure is thrown. @throws {SyscallError} */
export function syscall(
  name: SyscallName,
  a?: SyscallArgument,
  b?: SyscallArgument,
  c?: SyscallArgument,
  d?: SyscallArgument,
  e?: SyscallArgument,
  f?: SyscallArgument,
): number {
  const result = trySyscall(name, a, b, c, d, e, f);
  if (result < 0) throw new SyscallError(name, -result);
  return result;
}
