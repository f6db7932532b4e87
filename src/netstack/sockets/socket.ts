/** TCP and UDP sockets as the look-up knows them: struct sock_common of include/net/sock.h. */
import type { KernelObject, Machine } from '../../vm/index.ts';
import type { ReuseportGroup } from './reuseport.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;

/** include/net/tcp_states.h */
export const SocketStateNumber = { ESTABLISHED: 1, CLOSE: 7, LISTEN: 10 } as const;
export type SocketStateName = keyof typeof SocketStateNumber;

export interface SocketOptions {
  readonly protocol: 'tcp' | 'udp';
  /** Family of the socket. */
  readonly domain: 'ipv4' | 'ipv6';
  /** IPV6_V6ONLY: without it an IPv6 socket takes IPv4 packets too. */
  readonly v6Only?: boolean;
  readonly reusePort?: boolean;
  readonly reuseAddr?: boolean;
  /** SO_BINDTODEVICE: index of the device; 0 for none. */
  readonly boundDevice?: number;
  readonly uid?: number;
  /** IP_TRANSPARENT: may take and send packets of addresses that are not this host's. */
  readonly transparent?: boolean;
  /** SO_MARK. */
  readonly mark?: number;
}

/**
 * An address as the tables keep it. IPv4 sockets have 4 bytes; IPv6 ones 16. A dual-stack socket at `::` or at a mapped
 * address is found by IPv4 packets through `ipv4View`.
 */
export class NetSocket {
  readonly cookie: bigint;
  readonly protocol: 'tcp' | 'udp';
  readonly domain: 'ipv4' | 'ipv6';
  /** Becomes true when it is bound to an address that is neither `::` nor mapped (__inet6_bind). */
  v6Only: boolean;
  readonly reusePort: boolean;
  readonly reuseAddr: boolean;
  readonly boundDevice: number;
  readonly uid: number;
  readonly transparent: boolean;
  readonly mark: number;
  state: SocketStateName = 'CLOSE';
  /** Local address; empty before it is bound. */
  localAddress: Uint8Array = new Uint8Array(0);
  /** Host order; 0: not bound. */
  localPort = 0;
  /** Empty: not connected. */
  remoteAddress: Uint8Array = new Uint8Array(0);
  remotePort = 0;
  group: ReuseportGroup | undefined = undefined;
  closed = false;
  readonly #objects = new Map<Machine, KernelObject>();

  constructor(cookie: bigint, options: SocketOptions) {
    this.cookie = cookie;
    this.protocol = options.protocol;
    this.domain = options.domain;
    this.v6Only = options.v6Only ?? false;
    this.reusePort = options.reusePort ?? false;
    this.reuseAddr = options.reuseAddr ?? false;
    this.boundDevice = options.boundDevice ?? 0;
    this.uid = options.uid ?? 0;
    this.transparent = options.transparent ?? false;
    this.mark = options.mark ?? 0;
  }

  get protocolNumber(): number {
    return this.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP;
  }
  get connected(): boolean {
    return this.remoteAddress.length > 0;
  }
  /** inet_rcv_saddr: the 4 bytes by which IPv4 packets find it; `undefined` when they do not. */
  get ipv4View(): Uint8Array | undefined {
    if (this.domain === 'ipv4') return this.localAddress;
    if (this.v6Only) return undefined;
    if (isAny(this.localAddress)) return new Uint8Array(4);
    return isMapped(this.localAddress) ? this.localAddress.subarray(12) : undefined;
  }
  /** inet_daddr, likewise. */
  get remoteIpv4View(): Uint8Array | undefined {
    if (this.domain === 'ipv4') return this.connected ? this.remoteAddress : undefined;
    return this.connected && isMapped(this.remoteAddress) ? this.remoteAddress.subarray(12) : undefined;
  }

  /** The `bpf_sock` that stands for it in a machine; made once. */
  objectIn(machine: Machine): KernelObject {
    let object = this.#objects.get(machine);
    if (object === undefined) {
      object = machine.kernel.create('bpf_sock');
      this.#objects.set(machine, object);
    }
    this.#describe(object);
    return object;
  }

  #describe(object: KernelObject): void {
    const family = this.domain === 'ipv4' ? AF_INET : AF_INET6;
    const state = SocketStateNumber[this.state];
    object
      .set('bound_dev_if', this.boundDevice)
      .set('family', family)
      .set('type', this.protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM)
      .set('protocol', this.protocolNumber)
      .set('src_port', this.localPort)
      .set('dst_port', ((this.remotePort & 0xff) << 8) | (this.remotePort >> 8))
      .set('state', state);
    object.set(this.domain === 'ipv4' ? 'src_ip4' : 'src_ip6', this.localAddress);
    object.set(this.domain === 'ipv4' ? 'dst_ip4' : 'dst_ip6', this.remoteAddress);
  }
}

export function isAny(address: Uint8Array): boolean {
  return address.every((byte) => byte === 0);
}

/** ::ffff:0:0/96 */
export function isMapped(address: Uint8Array): boolean {
  return (
    address.length === 16 && address.every((byte, index) => index >= 12 || byte === (index < 10 ? 0 : 0xff))
  );
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
