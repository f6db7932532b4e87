/**
 * How well a socket fits a packet; the highest wins, the first of equals stays.
 * Source: compute_score of net/ipv4/inet_hashtables.c, net/ipv6/inet6_hashtables.c, net/ipv4/udp.c, net/ipv6/udp.c.
 * SO_INCOMING_CPU is left out: one machine here is one CPU.
 */
import type { SocketQuery } from './query.ts';
import { isAny, type NetSocket, sameBytes } from './socket.ts';

const NO_MATCH = -1;

/** inet_sk_bound_dev_eq, without VRF. */
function deviceFits(socket: NetSocket, ifindex: number): boolean {
  return socket.boundDevice === 0 || socket.boundDevice === ifindex;
}

/** The local address by which packets of this family find the socket. */
function localView(socket: NetSocket, six: boolean): Uint8Array | undefined {
  if (!six) return socket.ipv4View;
  return socket.domain === 'ipv6' ? socket.localAddress : undefined;
}

/** @param address the packet's local address, or all zeros for the wildcard */
export function listenerScore(socket: NetSocket, query: SocketQuery, address: Uint8Array): number {
  const six = address.length === 16;
  const local = localView(socket, six);
  if (socket.state !== 'LISTEN' || socket.localPort !== query.localPort || local === undefined)
    return NO_MATCH;
  if (!sameBytes(local, address) || !deviceFits(socket, query.ingressIfindex)) return NO_MATCH;
  const score = socket.boundDevice === 0 ? 1 : 2;
  return !six && socket.domain === 'ipv4' ? score + 1 : score;
}

/** @param address as for {@link listenerScore} */
export function udpScore(socket: NetSocket, query: SocketQuery, address: Uint8Array): number {
  const six = address.length === 16;
  const local = localView(socket, six);
  if (socket.localPort !== query.localPort || local === undefined || !sameBytes(local, address))
    return NO_MATCH;
  const step = six ? 1 : 4;
  let score = six ? 0 : socket.domain === 'ipv4' ? 2 : 1;
  if (socket.connected) {
    const remote = six
      ? socket.domain === 'ipv6'
        ? socket.remoteAddress
        : undefined
      : socket.remoteIpv4View;
    if (remote === undefined || (!isAny(remote) && !sameBytes(remote, query.remoteAddress))) return NO_MATCH;
    score += step;
    if (socket.remotePort !== query.remotePort) return NO_MATCH;
    score += step;
  }
  if (!deviceFits(socket, query.ingressIfindex)) return NO_MATCH;
  return socket.boundDevice === 0 ? score : score + step;
}
