/**
 * Plain blocking sockets for tests, every wait bounded. Made inside a namespace (see Host), used from anywhere.
 * Bound to `::` they serve both families; IPv4 peers then show as IPv4.
 */

import { Errno, Fd, SyscallError } from '../../src/kernel/index.ts';
import {
  AF_INET,
  AF_INET6,
  decodeEndpoint,
  type Endpoint,
  encodeEndpoint,
  openSocket,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  setSocketOption,
  waitFor,
} from '../../src/kernel/sys/socket.ts';
import { syscall, trySyscall } from '../../src/kernel/sys/syscall.ts';
import { formatAddressBytes, parseAddress } from '../../src/net/index.ts';

const POLLIN = 1;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const ICMP_ECHO_REQUEST = 8;
const ICMPV6_ECHO_REQUEST = 128;
const POLLOUT = 4;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_MARK = 36;
const MSG_NOSIGNAL = 0x4000;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** The address for a socket of 16-byte family: IPv4 becomes IPv4-mapped. */
function addressFor(text: string, six: boolean): Uint8Array {
  const address = parseAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  if (!six || address.bytes.length === 16) return address.bytes;
  return Uint8Array.of(...mapped, ...address.bytes);
}

function text(address: Uint8Array): string {
  const isMapped = address.length === 16 && mapped.every((byte, index) => address[index] === byte);
  return formatAddressBytes(isMapped ? address.slice(12) : address);
}

function boundPort(socket: Fd): number {
  const name = new Uint8Array(28);
  syscall('getsockname', socket.number, name, Uint32Array.of(28));
  return decodeEndpoint(name).port;
}

function bind(socket: Fd, endpoint: Endpoint): void {
  const name = encodeEndpoint(endpoint);
  syscall('bind', socket.number, name, name.length);
}

function bytesOf(data: string | Uint8Array): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data;
}

export interface Datagram {
  readonly data: Uint8Array;
  readonly from: string;
  readonly port: number;
}

export class UdpSocket {
  readonly fd: Fd;
  readonly port: number;
  readonly #six: boolean;

  constructor(address: Uint8Array, port: number) {
    this.#six = address.length === 16;
    this.fd = openSocket(this.#six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0, 'a UDP socket');
    bind(this.fd, { address, port });
    this.port = boundPort(this.fd);
  }

  /** Sends one datagram. @throws {SyscallError} EPERM when a rule drops it on the way out */
  send(address: string, port: number, data: string | Uint8Array): void {
    const bytes = bytesOf(data);
    const to = encodeEndpoint({ address: addressFor(address, this.#six), port });
    syscall('sendto', this.fd.number, bytes, bytes.length, MSG_NOSIGNAL, to, to.length);
  }

  /** The next datagram, `undefined` when none comes within `timeoutMs`. */
  receive(timeoutMs = 300): Datagram | undefined {
    if (!waitFor(this.fd, POLLIN, timeoutMs)) return undefined;
    const buffer = new Uint8Array(65536);
    const name = new Uint8Array(28);
    const length = syscall('recvfrom', this.fd.number, buffer, buffer.length, 0, name, Uint32Array.of(28));
    const from = decodeEndpoint(name);
    return { data: buffer.slice(0, length), from: text(from.address), port: from.port };
  }

  /** As {@link receive}, the payload as text. */
  receiveText(timeoutMs = 300): string | undefined {
    const datagram = this.receive(timeoutMs);
    return datagram && new TextDecoder().decode(datagram.data);
  }

  mark(value: number): void {
    setSocketOption(this.fd, SOL_SOCKET, SO_MARK, new Uint8Array(Uint32Array.of(value).buffer));
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** An ICMP or ICMPv6 socket for echo requests; `net.ipv4.ping_group_range` must allow it. */
export class PingSocket {
  readonly fd: Fd;
  readonly #endpoint: Uint8Array<ArrayBuffer>;
  readonly #request: number;
  #sequence = 0;

  /** @param source where requests come from; chosen by the route without it */
  constructor(address: Uint8Array, source?: Uint8Array) {
    const six = address.length === 16;
    const protocol = six ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    this.fd = openSocket(six ? AF_INET6 : AF_INET, SOCK_DGRAM, protocol, 'an ICMP socket');
    this.#endpoint = encodeEndpoint({ address, port: 0 });
    this.#request = six ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST;
    if (source !== undefined) bind(this.fd, { address: source, port: 0 });
  }

  /** Sends one echo request. @throws {SyscallError} EPERM when a rule drops it on the way out */
  send(): void {
    const bytes = Uint8Array.of(this.#request, 0, 0, 0, 0, 0, 0, ++this.#sequence, 1, 2, 3, 4);
    syscall(
      'sendto',
      this.fd.number,
      bytes,
      bytes.length,
      MSG_NOSIGNAL,
      this.#endpoint,
      this.#endpoint.length,
    );
  }

  /** True when an answer comes within `timeoutMs`. */
  receive(timeoutMs: number): boolean {
    if (!waitFor(this.fd, POLLIN, timeoutMs)) return false;
    return syscall('recvfrom', this.fd.number, new Uint8Array(256), 256, 0, null, null) > 0;
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class TcpListener {
  readonly fd: Fd;
  readonly port: number;

  constructor(address: Uint8Array, port: number) {
    this.fd = openSocket(
      address.length === 16 ? AF_INET6 : AF_INET,
      SOCK_STREAM | SOCK_NONBLOCK,
      0,
      'a TCP listener',
    );
    setSocketOption(this.fd, SOL_SOCKET, SO_REUSEADDR, Uint8Array.of(1, 0, 0, 0));
    bind(this.fd, { address, port });
    syscall('listen', this.fd.number, 128);
    this.port = boundPort(this.fd);
  }

  /** The next connection, `undefined` when none comes within `timeoutMs`. */
  accept(timeoutMs = 300): TcpStream | undefined {
    if (!waitFor(this.fd, POLLIN, timeoutMs)) return undefined;
    const number = syscall('accept4', this.fd.number, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return new TcpStream(new Fd(number, 'an accepted TCP connection'));
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface SocketName {
  readonly address: string;
  readonly port: number;
}

export class TcpStream {
  readonly fd: Fd;

  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** @throws {SyscallError} ECONNREFUSED, EPERM, EHOSTUNREACH …; ETIMEDOUT after `timeoutMs` */
  static connect(address: Uint8Array, port: number, timeoutMs: number): TcpStream {
    const six = address.length === 16;
    const fd = openSocket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, 'a TCP connection');
    try {
      const name = encodeEndpoint({ address, port });
      const result = trySyscall('connect', fd.number, name, name.length);
      if (result < 0 && result !== -Errno.EINPROGRESS) throw new SyscallError('connect', -result);
      if (!waitFor(fd, POLLOUT, timeoutMs)) throw new SyscallError('connect', Errno.ETIMEDOUT);
      const error = new Int32Array(1);
      syscall('getsockopt', fd.number, SOL_SOCKET, SO_ERROR, error, Uint32Array.of(4));
      if (error[0] !== 0) throw new SyscallError('connect', error[0]!);
      return new TcpStream(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  send(data: string | Uint8Array): void {
    const bytes = bytesOf(data);
    syscall('sendto', this.fd.number, bytes, bytes.length, MSG_NOSIGNAL, null, 0);
  }

  /** Some bytes; empty at the end of the stream, `undefined` when nothing comes within `timeoutMs`. */
  receive(timeoutMs = 300): Uint8Array | undefined {
    if (!waitFor(this.fd, POLLIN, timeoutMs)) return undefined;
    const buffer = new Uint8Array(65536);
    const length = syscall('recvfrom', this.fd.number, buffer, buffer.length, 0, null, null);
    return buffer.slice(0, length);
  }

  receiveText(timeoutMs = 300): string | undefined {
    const bytes = this.receive(timeoutMs);
    return bytes && new TextDecoder().decode(bytes);
  }

  /** Address and port of this side. */
  localAddress(): SocketName {
    return this.#name('getsockname');
  }

  /** Address and port of the other side. */
  peerAddress(): SocketName {
    return this.#name('getpeername');
  }

  #name(call: 'getsockname' | 'getpeername'): SocketName {
    const name = new Uint8Array(28);
    syscall(call, this.fd.number, name, Uint32Array.of(28));
    const { address, port } = decodeEndpoint(name);
    return { address: text(address), port };
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
