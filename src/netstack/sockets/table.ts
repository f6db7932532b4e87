/**
 * The sockets of a namespace and the order in which a packet looks for its own.
 * Source: __inet_lookup and inet_lookup_run_sk_lookup of net/ipv4/inet_hashtables.c, __udp4_lib_lookup of net/ipv4/udp.c,
 * and their IPv6 twins; bind conflicts after inet_csk_bind_conflict and inet_rcv_saddr_equal.
 */
import { NetstackError } from '../errno.ts';
import { defaultFlowHash, type FlowHash, type SocketQuery } from './query.ts';
import { ReuseportGroup, selectReuseport } from './reuseport.ts';
import { listenerScore, udpScore } from './score.ts';
import { IPPROTO_TCP, isAny, isMapped, NetSocket, type SocketOptions, sameBytes } from './socket.ts';

/** What a program says before the listeners are asked: nothing, a socket (perhaps without its group), or a refusal. */
export type Steering =
  | { readonly kind: 'pass' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'socket'; readonly socket: NetSocket; readonly noReuseport: boolean };

const FIRST_EPHEMERAL = 32_768;
const LAST_EPHEMERAL = 60_999;

export class SocketTable {
  /** Newest first, as the kernel's hash chains are. */
  readonly #sockets: NetSocket[] = [];
  readonly #hash: FlowHash;
  #nextCookie = 1n;
  #nextPort = FIRST_EPHEMERAL;
  /** Asked for TCP listeners and unconnected UDP sockets, before them. */
  steer: (query: SocketQuery) => Steering = () => ({ kind: 'pass' });
  /** Told when a socket is closed, so that maps forget it. */
  onClose: (socket: NetSocket) => void = () => undefined;

  constructor(hash: FlowHash = defaultFlowHash) {
    this.#hash = hash;
  }

  socket(options: SocketOptions): NetSocket {
    return new NetSocket(this.#nextCookie++, options);
  }

  /** @throws {NetstackError} EINVAL bound already, EADDRINUSE, EAFNOSUPPORT */
  bind(socket: NetSocket, address: Uint8Array, port: number): NetSocket {
    if (socket.localPort !== 0)
      throw new NetstackError('EINVAL', 'the socket is bound already', 'make a new one');
    if (address.length !== (socket.domain === 'ipv4' ? 4 : 16))
      throw new NetstackError(
        'EAFNOSUPPORT',
        'the address is of another family',
        'give one of the socket’s family',
      );
    socket.localAddress = address.slice();
    socket.localPort = port === 0 ? this.#freePort(socket) : port;
    if (port !== 0 && this.#conflict(socket)) {
      socket.localAddress = new Uint8Array(0);
      socket.localPort = 0;
      throw new NetstackError(
        'EADDRINUSE',
        `port ${port} is taken`,
        'choose another, or set SO_REUSEPORT on all',
      );
    }
    if (address.length === 16 && !isAny(address) && !isMapped(address)) socket.v6Only = true;
    this.#sockets.unshift(socket);
    if (socket.protocol === 'udp') this.#joinGroup(socket);
    return socket;
  }

  /** @throws {NetstackError} EINVAL when it is not bound, EOPNOTSUPP for UDP */
  listen(socket: NetSocket): NetSocket {
    if (socket.protocol !== 'tcp') throw new NetstackError('EOPNOTSUPP', 'UDP does not listen', 'bind it');
    if (socket.localPort === 0) throw new NetstackError('EINVAL', 'the socket is not bound', 'bind it first');
    socket.state = 'LISTEN';
    this.#joinGroup(socket);
    return socket;
  }

  /** Connects, or makes a TCP socket an established one. @throws {NetstackError} EISCONN, EAFNOSUPPORT */
  connect(socket: NetSocket, address: Uint8Array, port: number, local?: Uint8Array): NetSocket {
    if (socket.state === 'LISTEN') throw new NetstackError('EISCONN', 'the socket listens', 'make a new one');
    if (address.length !== (socket.domain === 'ipv4' ? 4 : 16))
      throw new NetstackError(
        'EAFNOSUPPORT',
        'the address is of another family',
        'give one of the socket’s family',
      );
    if (socket.localPort === 0) this.bind(socket, local ?? address.slice().fill(0), 0);
    // connect(2) chooses the source address; here the caller says it, or it is the one that is bound.
    if (local !== undefined && isAny(socket.localAddress)) socket.localAddress = local.slice();
    socket.remoteAddress = address.slice();
    socket.remotePort = port;
    socket.state = 'ESTABLISHED';
    if (socket.group !== undefined) socket.group.hasConnections = true;
    return socket;
  }

  /** The socket that a listener makes for a connection. */
  accept(listener: NetSocket, query: SocketQuery): NetSocket {
    const { domain, protocol, uid } = listener;
    const child = this.socket({ domain, protocol, uid });
    const widen = (bytes: Uint8Array): Uint8Array =>
      domain === 'ipv6' && bytes.length === 4 ? mapped(bytes) : bytes.slice();
    child.localAddress = widen(query.localAddress);
    child.localPort = query.localPort;
    child.remoteAddress = widen(query.remoteAddress);
    child.remotePort = query.remotePort;
    child.state = 'ESTABLISHED';
    this.#sockets.unshift(child);
    return child;
  }

  close(socket: NetSocket): void {
    const at = this.#sockets.indexOf(socket);
    if (at >= 0) this.#sockets.splice(at, 1);
    socket.group?.remove(socket);
    socket.closed = true;
    socket.state = 'CLOSE';
    this.onClose(socket);
  }

  /** By cookie; `undefined` when it has been closed. */
  find(predicate: (socket: NetSocket) => boolean): NetSocket | undefined {
    return this.#sockets.find(predicate);
  }

  // Look-up.

  /** The socket that a packet goes to; `undefined`: none, which is refused (RST, port unreachable). */
  lookup(query: SocketQuery): NetSocket | undefined {
    return query.protocol === IPPROTO_TCP ? this.#lookupTcp(query) : this.#lookupUdp(query);
  }

  /** The socket of this connection, and no other (inet_lookup_established); of UDP a connected one. */
  established(query: SocketQuery): NetSocket | undefined {
    if (query.protocol === IPPROTO_TCP) return this.#sockets.find((socket) => isConnection(socket, query));
    const found = this.#lookupUdp(query);
    return found?.state === 'ESTABLISHED' ? found : undefined;
  }

  /** The socket that waits for connections like this one (inet_lookup_listener); of UDP one that is not connected. */
  listening(query: SocketQuery): NetSocket | undefined {
    if (query.protocol === IPPROTO_TCP) return this.#listener(query);
    const found = this.#lookupUdp(query);
    return found?.state === 'ESTABLISHED' ? undefined : found;
  }

  #lookupTcp(query: SocketQuery): NetSocket | undefined {
    return this.established(query) ?? this.#listener(query);
  }

  #listener(query: SocketQuery): NetSocket | undefined {
    const steered = this.#steered(query);
    if (steered !== undefined) return steered === 'drop' ? undefined : steered;
    for (const address of [query.localAddress, anyOf(query.localAddress)]) {
      const best = this.#best(query, 'tcp', (socket) => listenerScore(socket, query, address));
      if (best === undefined) continue;
      const chosen = selectReuseport(best, this.#hash(query)) ?? best;
      return chosen === 'drop' ? undefined : chosen;
    }
    return undefined;
  }

  #lookupUdp(query: SocketQuery): NetSocket | undefined {
    const exact = this.#bestUdp(query, query.localAddress);
    if (exact !== undefined && exact !== 'drop' && exact.state === 'ESTABLISHED') return exact;
    const steered = this.#steered(query);
    if (steered !== undefined) return steered === 'drop' ? undefined : steered;
    const found = exact ?? this.#bestUdp(query, anyOf(query.localAddress));
    return found === 'drop' ? undefined : found;
  }

  /** What programs choose, the choice's group asked; `undefined`: they pass. */
  #steered(query: SocketQuery): NetSocket | 'drop' | undefined {
    const steering = this.steer(query);
    if (steering.kind === 'pass') return undefined;
    if (steering.kind === 'drop') return 'drop';
    const { socket, noReuseport } = steering;
    return noReuseport ? socket : (selectReuseport(socket, this.#hash(query)) ?? socket);
  }

  #best(
    query: SocketQuery,
    protocol: 'tcp' | 'udp',
    score: (socket: NetSocket) => number,
  ): NetSocket | undefined {
    let best: NetSocket | undefined;
    let highest = -1;
    for (const socket of this.#sockets) {
      if (socket.protocol !== protocol || (socket.v6Only && query.localAddress.length === 4)) continue;
      const own = score(socket);
      if (own > highest) {
        highest = own;
        best = socket;
      }
    }
    return best;
  }

  /** udp4_lib_lookup2: a group's choice is final, unless the group has connected members that score higher. */
  #bestUdp(query: SocketQuery, address: Uint8Array): NetSocket | 'drop' | undefined {
    let result: NetSocket | 'drop' | undefined;
    let highest = -1;
    for (const socket of this.#sockets) {
      if (socket.protocol !== 'udp') continue;
      const score = udpScore(socket, query, address);
      if (score <= highest) continue;
      highest = score;
      if (socket.state === 'ESTABLISHED') {
        result = socket;
        continue;
      }
      const chosen = selectReuseport(socket, this.#hash(query));
      if (chosen === undefined) {
        result = socket;
        continue;
      }
      result = chosen;
      if (socket.group?.hasConnections !== true) return chosen;
      if (chosen !== 'drop') highest = udpScore(chosen, query, address);
    }
    return result;
  }

  // Binding.

  #freePort(socket: NetSocket): number {
    for (let tried = FIRST_EPHEMERAL; tried <= LAST_EPHEMERAL; tried++) {
      socket.localPort = this.#nextPort;
      this.#nextPort = this.#nextPort === LAST_EPHEMERAL ? FIRST_EPHEMERAL : this.#nextPort + 1;
      if (!this.#conflict(socket)) return socket.localPort;
    }
    socket.localPort = 0;
    throw new NetstackError('EADDRINUSE', 'all ephemeral ports are taken', 'close sockets');
  }

  #conflict(socket: NetSocket): boolean {
    return this.#sockets.some((other) => {
      if (other.protocol !== socket.protocol || other.localPort !== socket.localPort) return false;
      if (other.protocol === 'tcp' && other.state === 'ESTABLISHED') return false;
      if (other.boundDevice !== 0 && socket.boundDevice !== 0 && other.boundDevice !== socket.boundDevice)
        return false;
      if (!addressesMeet(socket, other)) return false;
      if (socket.reusePort && other.reusePort && socket.uid === other.uid) return false;
      return !(socket.reuseAddr && other.reuseAddr && other.state !== 'LISTEN');
    });
  }

  /** The group of sockets that have all of this one's address, port, device and family. */
  #joinGroup(socket: NetSocket): void {
    if (!socket.reusePort || socket.group !== undefined) return;
    const mate = this.#sockets.find(
      (other) =>
        other !== socket &&
        other.group !== undefined &&
        other.protocol === socket.protocol &&
        other.domain === socket.domain &&
        other.v6Only === socket.v6Only &&
        other.localPort === socket.localPort &&
        other.boundDevice === socket.boundDevice &&
        other.uid === socket.uid &&
        sameBytes(other.localAddress, socket.localAddress),
    );
    (mate?.group ?? new ReuseportGroup()).add(socket);
  }
}

function anyOf(address: Uint8Array): Uint8Array {
  return new Uint8Array(address.length);
}

function mapped(address: Uint8Array): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address);
}

/** True when a packet for one could be for the other (inet_rcv_saddr_equal). */
function addressesMeet(a: NetSocket, b: NetSocket): boolean {
  if (a.domain === b.domain && sameBytes(a.localAddress, b.localAddress)) return true;
  const [four, other] = [a.ipv4View, b.ipv4View];
  if (four !== undefined && other !== undefined && (isAny(four) || isAny(other) || sameBytes(four, other)))
    return true;
  if (a.domain === 'ipv4' || b.domain === 'ipv4') return false;
  const any = (socket: NetSocket): boolean => isAny(socket.localAddress);
  return (any(a) && !isMapped(b.localAddress)) || (any(b) && !isMapped(a.localAddress));
}

/** A TCP socket of exactly this connection. */
function isConnection(socket: NetSocket, query: SocketQuery): boolean {
  if (socket.protocol !== 'tcp' || socket.state !== 'ESTABLISHED') return false;
  if (socket.localPort !== query.localPort || socket.remotePort !== query.remotePort) return false;
  if (socket.boundDevice !== 0 && socket.boundDevice !== query.ingressIfindex) return false;
  const six = query.localAddress.length === 16;
  const local = six ? (socket.domain === 'ipv6' ? socket.localAddress : undefined) : connectionView(socket);
  const remote = six ? (socket.domain === 'ipv6' ? socket.remoteAddress : undefined) : socket.remoteIpv4View;
  return (
    local !== undefined &&
    remote !== undefined &&
    sameBytes(local, query.localAddress) &&
    sameBytes(remote, query.remoteAddress)
  );
}

function connectionView({ domain, localAddress }: NetSocket): Uint8Array | undefined {
  if (domain === 'ipv4') return localAddress;
  return isMapped(localAddress) ? localAddress.subarray(12) : undefined;
}
