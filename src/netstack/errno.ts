/** The errno values the packet path answers with (uapi/asm-generic/errno{,-base}.h); positive, as errno(3). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  E2BIG: 7,
  EBADF: 9,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  ENOLINK: 67,
  EPROTO: 71,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  ENETDOWN: 100,
  ENOBUFS: 105,
  EISCONN: 106,
  ECONNREFUSED: 111,
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
