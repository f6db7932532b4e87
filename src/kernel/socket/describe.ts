/** What a socket descriptor is: getsockopt(2) at level SOL_SOCKET, getsockname(2), getpeername(2). */
import { Errno } from '../sys/errno.ts';
import { SyscallError } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { AF_INET, AF_INET6, decodeEndpoint, type Endpoint, SOL_SOCKET } from '../sys/socket.ts';
import { trySyscall } from '../sys/syscall.ts';

const SO_TYPE = 3;
const SO_REUSEPORT = 15;
const SO_ACCEPTCONN = 30;
const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
const SO_COOKIE = 57;
const SO_NETNS_COOKIE = 71;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** A socket of IPv4 or IPv6. */
export interface SocketDescription {
  readonly domain: 'ipv4' | 'ipv6';
  /** SOCK_STREAM, SOCK_DGRAM … */
  readonly type: number;
  /** IPPROTO_TCP, IPPROTO_UDP … */
  readonly protocol: number;
  readonly listening: boolean;
  readonly reusePort: boolean;
  /** IPv6 only; an IPv6 socket without it takes IPv4 packets too. */
  readonly v6Only: boolean;
  /** Unique since boot. */
  readonly cookie: bigint;
  readonly netnsCookie: bigint;
  readonly local: Endpoint;
  /** `undefined`: not connected. */
  readonly peer: Endpoint | undefined;
}

/** Describes an IPv4 or IPv6 socket; `undefined` when the descriptor is something else (a file, another family). */
export function describeSocket(fd: Fd): SocketDescription | undefined {
  const domain = tryOption(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain !== AF_INET && domain !== AF_INET6) return undefined;
  const local = endpoint(fd, 'getsockname');
  if (local === undefined) return undefined;
  return {
    domain: domain === AF_INET ? 'ipv4' : 'ipv6',
    type: option(fd, SOL_SOCKET, SO_TYPE),
    protocol: option(fd, SOL_SOCKET, SO_PROTOCOL),
    listening: option(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 0,
    reusePort: option(fd, SOL_SOCKET, SO_REUSEPORT) !== 0,
    v6Only: domain === AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) !== 0,
    cookie: wideOption(fd, SO_COOKIE),
    netnsCookie: wideOption(fd, SO_NETNS_COOKIE),
    local,
    peer: endpoint(fd, 'getpeername'),
  };
}

/** The option's value, or `undefined` when the descriptor is no socket. */
function tryOption(fd: Fd, level: number, name: number): number | undefined {
  const value = new Int32Array(1);
  const result = trySyscall('getsockopt', fd.number, level, name, value, Uint32Array.of(4));
  if (result === -Errno.ENOTSOCK || result === -Errno.EBADF) return undefined;
  if (result < 0) throw new SyscallError('getsockopt', -result, `asking ${fd.label}`);
  return value[0]!;
}

function option(fd: Fd, level: number, name: number): number {
  return tryOption(fd, level, name) ?? 0;
}

function wideOption(fd: Fd, name: number): bigint {
  const value = new BigUint64Array(1);
  const result = trySyscall('getsockopt', fd.number, SOL_SOCKET, name, value, Uint32Array.of(8));
  if (result < 0) throw new SyscallError('getsockopt', -result, `asking ${fd.label}`);
  return value[0]!;
}

function endpoint(fd: Fd, call: 'getsockname' | 'getpeername'): Endpoint | undefined {
  const name = new Uint8Array(28);
  return trySyscall(call, fd.number, name, Uint32Array.of(28)) < 0 ? undefined : decodeEndpoint(name);
}
