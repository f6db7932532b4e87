/** The errno values the packet path answers with (uapi/asm-generic/errno{,-base}.h); positive, as errno(3). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  E2BIG: 7,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  EPROTO: 71,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  ENETDOWN: 100,
  ENOBUFS: 105,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
  ESTALE: 116,
} as const;
export type ErrnoName = keyof typeof Errno;

/**
 * Thrown where a Linux call would return -1: `code` is the errno's name and stable, `errno` its number,
 * `hint` the way out.
 */
export class NetstackError extends Error {
  readonly code: ErrnoName;
  readonly errno: number;
  readonly hint: string;

  constructor(code: ErrnoName, message: string, hint: string) {
    super(`${message} (${code})`);
    this.name = 'NetstackError';
    this.code = code;
    this.errno = Errno[code];
    this.hint = hint;
  }
}
