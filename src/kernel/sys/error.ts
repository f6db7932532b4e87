/** Errors of the kernel engine. Each has a stable `code` and, where there is one, the way out as `hint`. */
import { errnoName, errnoText } from './errno.ts';

/** Base of every error that `src/kernel` throws on purpose. */
export class KernelError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  constructor(code: string, message: string, hint?: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.hint = hint;
  }
}

/** The kernel engine cannot run here at all: no FFI, no privilege, a kernel that is too old. */
export class KernelUnavailableError extends KernelError {}

/** Arguments that no kernel would take; thrown before any system call. */
export class KernelArgumentError extends KernelError {
  constructor(message: string, hint?: string) {
    super('KERNEL_ARGUMENT', message, hint);
  }
}

/** A system call failed with an errno for which there is no more exact error. `code` is `SYSCALL_<errno name>`. */
export class SyscallError extends KernelError {
  /** What was called, with its sub-command: `bpf(MAP_CREATE)`, `setns`. */
  readonly call: string;
  /** Positive errno. */
  readonly errno: number;
  /** `EPERM`, …; `E<number>` when the number is unknown. */
  readonly errnoName: string;
  constructor(call: string, errno: number, what?: string, hint?: string) {
    const text = `${errnoText(errno)} (${errnoName(errno)})`;
    super(`SYSCALL_${errnoName(errno)}`, `${what ?? call}: ${text}`, hint ?? privilegeHint(errno));
    this.call = call;
    this.errno = errno;
    this.errnoName = errnoName(errno);
  }
}

function privilegeHint(errno: number): string | undefined {
  return errno === 1 ? 'run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON' : undefined;
}

/** True when `error` is a failed system call with this errno. */
export function isErrno(error: unknown, ...errnos: readonly number[]): error is SyscallError {
  return error instanceof SyscallError && errnos.includes(error.errno);
}
