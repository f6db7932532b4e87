/** The errors that the tables' socket options end with (asm-generic/errno-base.h, asm-generic/errno.h). */
export const AbiErrno = {
  EPERM: 1,
  ENOENT: 2,
  EAGAIN: 11,
  ENOMEM: 12,
  EFAULT: 14,
  EINVAL: 22,
  EDOM: 33,
  ERANGE: 34,
  ELOOP: 40,
  EPROTO: 71,
  EBADMSG: 74,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
} as const;
export type AbiErrno = (typeof AbiErrno)[keyof typeof AbiErrno];

/** What is asked over the socket ABI is refused, with the kernel's errno; the message says why in words. */
export class AbiError extends Error {
  readonly code = 'RULES_ABI_REFUSED';
  readonly errno: AbiErrno;
  readonly hint: string | undefined;
  constructor(errno: AbiErrno, message: string, hint?: string) {
    super(message);
    this.name = 'AbiError';
    this.errno = errno;
    this.hint = hint;
  }
}

/** @throws {AbiError} EINVAL */
export function refuse(message: string): never {
  throw new AbiError(AbiErrno.EINVAL, message);
}

/**
 * What the kernel might take, but no iptables writes, and rules cannot say: refused after everything that the kernel
 * would refuse, so that a wrong request ends with the kernel's errno.
 */
export class UnwrittenError extends AbiError {
  constructor(message: string) {
    super(AbiErrno.EINVAL, message);
    this.name = 'UnwrittenError';
  }
}

/** @throws {UnwrittenError} */
export function unwritten(message: string): never {
  throw new UnwrittenError(message);
}
