/**
 * The supervisor's end of seccomp user notification: seccomp_unotify(2), Linux 5.0 (ADDFD 5.9, atomic answer 5.14).
 *
 * The target's memory may only be trusted after {@link NotificationListener.stillValid} said so: until then its pid may
 * belong to another process already.
 */
import { Errno } from '../sys/errno.ts';
import { SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { pollReadable } from '../sys/poll.ts';
import { waitFor } from '../sys/socket.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';
import { AUDIT_ARCH } from './filter.ts';

const SECCOMP_IOCTL_NOTIF_RECV = 0xc0502100;
const SECCOMP_IOCTL_NOTIF_SEND = 0xc0182101;
const SECCOMP_IOCTL_NOTIF_ID_VALID = 0x40082102;
const SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103;
const SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104;
const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;
const SECCOMP_ADDFD_FLAG_SEND = 2;
const O_CLOEXEC = 0o2000000;
const POLLIN = 1;

const request = {
  size: 80,
  fields: {
    id: [0, 'u64'],
    pid: [8, 'u32'],
    nr: [16, 's32'],
    arch: [20, 'u32'],
    a0: [32, 'u64'],
    a1: [40, 'u64'],
    a2: [48, 'u64'],
    a3: [56, 'u64'],
    a4: [64, 'u64'],
    a5: [72, 'u64'],
  },
} as const;
const response = {
  size: 24,
  fields: { id: [0, 'u64'], value: [8, 's64'], error: [16, 's32'], flags: [20, 'u32'] },
} as const;
const addFd = {
  size: 24,
  fields: {
    id: [0, 'u64'],
    flags: [8, 'u32'],
    source: [12, 'u32'],
    target: [16, 'u32'],
    targetFlags: [20, 'u32'],
  },
} as const;

export interface Notification {
  readonly id: bigint;
  /** Thread id in our pid namespace; 0 when it is not visible. */
  readonly pid: number;
  /** A call of the machine's other ABI (a 32-bit one), which numbers calls differently. */
  readonly foreign: boolean;
  /** System call number. */
  readonly nr: number;
  readonly arguments: readonly bigint[];
}

/** How a call ends: with a value, with an errno, or by going on in the kernel as if nothing had happened. */
export type Answer = { readonly value: bigint } | { readonly errno: number } | 'continue';

export class NotificationListener {
  readonly fd: Fd;

  /** Takes ownership of a listener's descriptor. */
  constructor(fd: Fd) {
    this.fd = fd;
    // Both sides wait for each other: the scheduler then hands over on one CPU. Kernels before 6.6 do not know of it.
    trySyscall('ioctl', fd.number, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  }

  /** Waits, without blocking the thread, for a call or for the end of all targets; false after `timeoutMs`. */
  wait(timeoutMs: number): Promise<boolean> {
    return pollReadable(this.fd, timeoutMs);
  }

  /**
   * As {@link wait}, but the thread waits: calls that follow each other closely are then answered without a turn through
   * libuv's pool, which takes longer than most answers.
   */
  waitBlocking(timeoutMs: number): boolean {
    return waitFor(this.fd, POLLIN, timeoutMs);
  }

  /** Takes the next call. Blocks when there is none: wait first. `undefined`: the target was interrupted or has ended. */
  receive(): Notification | undefined {
    const bytes = new Uint8Array(request.size);
    const result = trySyscall('ioctl', this.fd.number, SECCOMP_IOCTL_NOTIF_RECV, bytes);
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0)
      throw new SyscallError('ioctl(SECCOMP_IOCTL_NOTIF_RECV)', -result, 'taking a notified call');
    const { id, pid, nr, arch, a0, a1, a2, a3, a4, a5 } = decodeStruct(request, bytes);
    return { id, pid, foreign: arch !== AUDIT_ARCH, nr, arguments: [a0, a1, a2, a3, a4, a5] };
  }

  /** False when the target has gone: what was read from its memory may be another process's. */
  stillValid(id: bigint): boolean {
    const word = BigUint64Array.of(id);
    return trySyscall('ioctl', this.fd.number, SECCOMP_IOCTL_NOTIF_ID_VALID, word) === 0;
  }

  /** Ends a call. False: the target has gone meanwhile. */
  answer(id: bigint, answer: Answer): boolean {
    const bytes =
      answer === 'continue'
        ? encodeStruct(response, { id, flags: SECCOMP_USER_NOTIF_FLAG_CONTINUE })
        : 'errno' in answer
          ? encodeStruct(response, { id, error: -answer.errno })
          : encodeStruct(response, { id, value: answer.value });
    const result = trySyscall('ioctl', this.fd.number, SECCOMP_IOCTL_NOTIF_SEND, bytes);
    if (result === -Errno.ENOENT) return false;
    if (result < 0)
      throw new SyscallError('ioctl(SECCOMP_IOCTL_NOTIF_SEND)', -result, 'answering a notified call');
    return true;
  }

  /** Gives the target a duplicate of `source` and ends its call with the new number. False: the target has gone. */
  answerWithFd(id: bigint, source: Fd): boolean {
    const bytes = encodeStruct(addFd, {
      id,
      flags: SECCOMP_ADDFD_FLAG_SEND,
      source: source.number,
      targetFlags: O_CLOEXEC,
    });
    const result = trySyscall('ioctl', this.fd.number, SECCOMP_IOCTL_NOTIF_ADDFD, bytes);
    if (result === -Errno.ENOENT) return false;
    if (result < 0)
      throw new SyscallError('ioctl(SECCOMP_IOCTL_NOTIF_ADDFD)', -result, 'answering with a descriptor');
    return true;
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
