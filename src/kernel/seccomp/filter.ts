/**
 * A seccomp filter (classic BPF over struct seccomp_data, seccomp(2)) that hands chosen system calls to a listener,
 * refuses others, and lets the rest pass. No way leads around it: a 64-bit program can make calls of the 32-bit ABI, with
 * other numbers, so all of those are handed over, and those of x32 end as where the kernel lacks it.
 */
import { Errno } from '../sys/errno.ts';
import { KernelArgumentError, SyscallError } from '../sys/error.ts';
import { Fd } from '../sys/fd.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { encodeStruct } from '../sys/struct.ts';
import { type SyscallName, syscallNumber, trySyscall } from '../sys/syscall.ts';

const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER = 8;
const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32;
const SECCOMP_RET_USER_NOTIF = 0x7fc00000;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const SECCOMP_RET_ERRNO = 0x00050000;
/** AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64. */
export const AUDIT_ARCH: number = process.arch === 'arm64' ? 0xc00000b7 : 0xc000003e;
const PR_SET_NO_NEW_PRIVS = 38;

// Offsets in struct seccomp_data.
const NR = 0;
const ARCH = 4;
const ARGUMENTS = 16;

const BPF_LD_W_ABS = 0x20;
const BPF_JEQ_K = 0x15;
const BPF_JGE_K = 0x35;
const BPF_RET_K = 0x06;

/** __X32_SYSCALL_BIT: calls of x32 come with the architecture of x86_64 and numbers from here on. */
const X32_SYSCALL_BIT = 0x4000_0000;

/**
 * Calls to hand over: those of `name` (or of a number, for a call that only one architecture has) whose listed arguments
 * have one of the listed values (low 32 bits).
 */
export interface NotifiedCall {
  readonly name: SyscallName | number;
  readonly arguments?: readonly { readonly index: number; readonly values: readonly number[] }[];
}

/** What becomes of the calls of a command. */
export interface CallFilter {
  readonly notified: readonly NotifiedCall[];
  /** Calls that end with an errno, unseen. */
  readonly refused: readonly { readonly name: SyscallName; readonly errno: number }[];
}

interface Step {
  readonly code: number;
  readonly k: number;
  /** Where to go: number of steps to skip, or the end of this call's tests. */
  readonly ifTrue: number | 'next';
  readonly ifFalse: number | 'next';
}

/** struct sock_filter[]: 8 bytes an instruction. */
export function buildNotifyFilter({ notified, refused }: CallFilter): Uint8Array<ArrayBuffer> {
  const load = (k: number): Step => ({ code: BPF_LD_W_ABS, k, ifTrue: 0, ifFalse: 0 });
  const ret = (k: number): Step => ({ code: BPF_RET_K, k, ifTrue: 0, ifFalse: 0 });
  const program: Step[] = [
    load(ARCH),
    { code: BPF_JEQ_K, k: AUDIT_ARCH, ifTrue: 1, ifFalse: 0 },
    ret(SECCOMP_RET_USER_NOTIF),
    load(NR),
    { code: BPF_JGE_K, k: X32_SYSCALL_BIT, ifTrue: 0, ifFalse: 1 },
    ret(SECCOMP_RET_ERRNO | Errno.ENOSYS),
  ];
  for (const { name, errno } of refused)
    program.push(
      { code: BPF_JEQ_K, k: syscallNumber(name), ifTrue: 0, ifFalse: 1 },
      ret(SECCOMP_RET_ERRNO | errno),
    );
  for (const call of notified) {
    const number = typeof call.name === 'number' ? call.name : syscallNumber(call.name);
    const steps: Step[] = [load(NR), { code: BPF_JEQ_K, k: number, ifTrue: 0, ifFalse: 'next' }];
    for (const { index, values } of call.arguments ?? []) {
      steps.push(load(ARGUMENTS + 8 * index));
      for (const [position, k] of values.entries()) {
        const left = values.length - 1 - position;
        steps.push({ code: BPF_JEQ_K, k, ifTrue: left, ifFalse: left === 0 ? 'next' : 0 });
      }
    }
    steps.push(ret(SECCOMP_RET_USER_NOTIF));
    const resolve = (target: number | 'next', at: number): number =>
      target === 'next' ? steps.length - 1 - at : target;
    for (const [at, step] of steps.entries()) {
      program.push({ ...step, ifTrue: resolve(step.ifTrue, at), ifFalse: resolve(step.ifFalse, at) });
    }
  }
  program.push(ret(SECCOMP_RET_ALLOW));
  return encode(program);
}

function encode(program: readonly Step[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, { code, k, ifTrue, ifFalse }] of program.entries()) {
    if (ifTrue === 'next' || ifFalse === 'next' || ifTrue > 255 || ifFalse > 255) {
      throw new KernelArgumentError(
        'a notified call has too many argument values',
        'split it into several calls',
      );
    }
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, ifTrue);
    view.setUint8(index * 8 + 3, ifFalse);
    view.setUint32(index * 8 + 4, k, true);
  }
  return bytes;
}

const fprog = { size: 16, fields: { length: [0, 'u16'], filter: [8, 'ptr'] } } as const;

/**
 * Installs a filter on the calling thread, for good, and on what it forks and executes; gives the listener's descriptor.
 * Without CAP_SYS_ADMIN the thread first gives up gaining privileges (set-user-id programs no longer work). From Linux 5.19 on
 * a call that the listener has taken waits for its answer whatever signals come but a fatal one: it would be made again
 * otherwise, and what it does be done twice.
 */
export function installNotifyFilter(filter: Uint8Array): Fd {
  const install = (flags: number): number => {
    const program = encodeStruct(fprog, { length: filter.length / 8, filter });
    const set = SECCOMP_FILTER_FLAG_NEW_LISTENER | flags;
    const result = trySyscall('seccomp', SECCOMP_SET_MODE_FILTER, set, program);
    keepAlive(filter);
    // Kernels of before do not know the flag.
    return result === -Errno.EINVAL && flags !== 0 ? install(0) : result;
  };
  let result = install(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  if (result === -Errno.EACCES) {
    trySyscall('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    result = install(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  }
  if (result < 0) throw new SyscallError('seccomp', -result, 'installing a seccomp filter with a listener');
  return new Fd(result, 'a seccomp listener');
}
