/** Sockets by plain system calls: made in one network namespace, used in any; closed with their descriptor. */
import { Errno } from './errno.ts';
import { SyscallError } from './error.ts';
import { Fd } from './fd.ts';
import { syscall, trySyscall } from './syscall.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOL_SOCKET = 1;
const SOCK_CLOEXEC = 0o2000000;
const SO_RCVTIMEO = 20;
const SO_NETNS_COOKIE = 71;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** @throws {SyscallError} with `what` in front */
export function openSocket(domain: number, type: number, protocol: number, what: string): Fd {
  const result = trySyscall('socket', domain, type | SOCK_CLOEXEC, protocol);
  if (result < 0) throw new SyscallError('socket', -result, `opening ${what}`);
  return new Fd(result, what);
}

export function setSocketOption(socket: Fd, level: number, option: number, value: Uint8Array): void {
  const result = trySyscall('setsockopt', socket.number, level, option, value, value.length);
  if (result < 0) throw new SyscallError('setsockopt', -result, `option ${option} of ${socket.label}`);
}

/** A receive that waits longer fails with EAGAIN. */
export function setReceiveTimeout(socket: Fd, timeoutMs: number): void {
  const seconds = Math.floor(timeoutMs / 1000);
  const timeval = BigInt64Array.of(BigInt(seconds), BigInt((timeoutMs - seconds * 1000) * 1000));
  setSocketOption(socket, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(timeval.buffer));
}

/**
 * Receives one datagram into `buffer`; `undefined` when there is none. A datagram longer than the buffer is cut, its true
 * length returned.
 */
export function receive(socket: Fd, buffer: Uint8Array, wait: boolean): number | undefined {
  const flags = MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT);
  const result = trySyscall('recvfrom', socket.number, buffer, buffer.length, flags, null, null);
  if (result === -Errno.EAGAIN) return undefined;
  if (result < 0) throw new SyscallError('recvfrom', -result, `receiving from ${socket.label}`);
  return result;
}

/**
 * Cookie of the namespace in which a socket was made (SO_NETNS_COOKIE, Linux 5.14): unique since boot, what programs
 * see as `net_cookie`.
 */
export function socketNetnsCookie(socket: Fd): bigint {
  const value = new BigUint64Array(1);
  const length = Uint32Array.of(8);
  syscall('getsockopt', socket.number, SOL_SOCKET, SO_NETNS_COOKIE, value, length);
  return value[0]!;
}

/** Cookie of the calling thread's namespace. */
export function currentNetnsCookie(): bigint {
  const socket = openSocket(AF_INET, SOCK_DGRAM, 0, 'a socket to ask for the namespace cookie');
  try {
    return socketNetnsCookie(socket);
  } finally {
    socket.close();
  }
}

/** An address and port as the socket calls take them. */
export interface Endpoint {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
  /** Device index of an IPv6 link-local address. */
  readonly scopeId?: number;
}

/** struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)). */
export function encodeEndpoint({ address, port, scopeId = 0 }: Endpoint): Uint8Array<ArrayBuffer> {
  const six = address.length === 16;
  const bytes = new Uint8Array(six ? 28 : 16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, six ? AF_INET6 : AF_INET, true);
  view.setUint16(2, port);
  bytes.set(address, six ? 8 : 4);
  if (six) view.setUint32(24, scopeId, true);
  return bytes;
}

export function decodeEndpoint(bytes: Uint8Array): Endpoint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const six = view.getUint16(0, true) === AF_INET6;
  const port = view.getUint16(2);
  return six
    ? { address: bytes.slice(8, 24), port, scopeId: view.getUint32(24, true) }
    : { address: bytes.slice(4, 8), port };
}

/** Waits until one of the poll(2) `events` happens; false when `timeoutMs` passed first. Blocks the thread. */
export function waitFor(socket: Fd, events: number, timeoutMs: number): boolean {
  const poll = new Uint8Array(8);
  const view = new DataView(poll.buffer);
  view.setInt32(0, socket.number, true);
  view.setUint16(4, events, true);
  const seconds = Math.floor(timeoutMs / 1000);
  const timespec = BigInt64Array.of(BigInt(seconds), BigInt(Math.round((timeoutMs - seconds * 1000) * 1e6)));
  return syscall('ppoll', poll, 1, timespec, null, 0) > 0;
}
