/** What a look-up is for. */
import type { SocketLookup } from '../../vm/index.ts';

/** Addresses of one family in network order, ports in host order. */
export interface SocketQuery extends SocketLookup {
  /** IPPROTO_TCP or IPPROTO_UDP. */
  readonly protocol: number;
  /** Index of the device that the packet came in by; 0 for none. */
  readonly ingressIfindex: number;
}

/** Hash of a flow; the kernel's is seeded at boot, so any even one will do. */
export type FlowHash = (query: SocketQuery) => number;

/** FNV-1a over addresses and ports, finished so that the upper bits are even too. */
export function defaultFlowHash(query: SocketQuery): number {
  let hash = 0x811c9dc5;
  const add = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x01000193);
  };
  for (const byte of query.localAddress) add(byte);
  for (const byte of query.remoteAddress) add(byte);
  for (const port of [query.localPort, query.remotePort]) {
    add(port >> 8);
    add(port & 0xff);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
