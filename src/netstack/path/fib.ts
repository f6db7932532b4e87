/**
 * Where packets go: what all families' forwarding information bases share.
 * Source: net/ipv4/fib_frontend.c, net/ipv4/route.c, net/ipv6/route.c.
 */
import { compareLongestFirst, type Family, type Prefix, prefixContainsBytes } from '../../net/index.ts';

/** One address of a device with its prefix length; `address` keeps its host bits. */
export interface DeviceAddress {
  readonly device: string;
  readonly prefix: Prefix;
}

export interface StaticRoute {
  readonly prefix: Prefix;
  readonly device: string;
  /** The router to send to; absent where the destination is on the link. */
  readonly gateway?: Uint8Array;
  /** `ip route add unreachable|prohibit|blackhole`; default: unicast. */
  readonly type?: 'unicast' | 'unreachable' | 'prohibit' | 'blackhole';
  /** Of two routes to the same prefix the one with the lower number counts. */
  readonly metric?: number;
}

export interface FibConfig {
  readonly family: Family;
  readonly addresses: readonly DeviceAddress[];
  /** Besides the connected prefixes of the addresses. */
  readonly routes: readonly StaticRoute[];
  readonly forwarding: boolean;
  /** net.ipv4.conf.*.rp_filter: 0 off, 1 strict, 2 loose. IPv6 has none. */
  readonly rpFilter: 0 | 1 | 2;
  /** net.ipv4.conf.*.route_localnet: 127.0.0.0/8 may be on the wire. Default: no. */
  readonly routeLocalnet?: boolean;
  /** net.ipv4.conf.all.send_redirects. Default: yes. */
  readonly sendRedirects?: boolean;
  /** What devices have switches of their own for. */
  readonly devices?: ReadonlyMap<string, DeviceInput>;
}

/** net.ipv4.conf.DEVICE: what of {@link FibConfig} one device may say for itself. */
export interface DeviceInput {
  /** The higher of this and the one for all counts. */
  readonly rpFilter?: 0 | 1 | 2;
  /** This or the one for all. */
  readonly routeLocalnet?: boolean;
  /** In place of the one for all. */
  readonly forwarding?: boolean;
  /** This or the one for all. */
  readonly sendRedirects?: boolean;
}

/** Why routing refuses a packet. */
export type FibFault =
  | 'martian-source'
  | 'martian-destination'
  | 'no-route'
  | 'unreachable'
  | 'prohibited'
  | 'blackhole'
  | 'not-forwarding'
  | 'not-joined';

export type FibDecision =
  | { readonly kind: 'local' }
  | {
      readonly kind: 'forward';
      readonly outDevice: string;
      /** The sender is on the link that the packet leaves by, and could have sent it to the next hop itself. */
      readonly redirect?: boolean;
    }
  | { readonly kind: 'drop'; readonly fault: FibFault };

/** One family's addresses and routes. Addresses are in network order. */
export interface Fib {
  readonly config: FibConfig;
  /** Where a packet goes that came in by this device (ip_route_input, ip6_route_input). */
  input(source: Uint8Array, destination: Uint8Array, inDevice: string): FibDecision;
  /** The device by which a packet of this host leaves, `lo` for its own addresses; `undefined`: no route. */
  output(destination: Uint8Array): string | undefined;
  /** The next hop towards an address: a router, or the address itself. */
  nextHop(destination: Uint8Array): Uint8Array;
  /** Whether packets to it are this host's, and answers may come from it: its own addresses, and those that it answers to as a router. */
  isOwn(address: Uint8Array): boolean;
  /** RTN_* of an address; with a device, local to it. */
  addressType(address: Uint8Array, device?: string): number;
  /** The address a host shows by a device towards a next hop (inet_select_addr, ipv6_dev_get_saddr). */
  sourceAddress(device: string, towards: Uint8Array): Uint8Array | undefined;
}

/** RTN_* of uapi/linux/rtnetlink.h. */
export const RouteTypeNumber = {
  UNICAST: 1,
  LOCAL: 2,
  BROADCAST: 3,
  ANYCAST: 4,
  MULTICAST: 5,
  UNREACHABLE: 7,
} as const;

export const LOOPBACK_DEVICE = 'lo';
export const LOCAL: FibDecision = { kind: 'local' };

export function refuse(fault: FibFault): FibDecision {
  return { kind: 'drop', fault };
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** Connected prefixes and given routes, the longest prefix first, then the lowest metric. */
export function routesOf(config: FibConfig): readonly StaticRoute[] {
  const connected = config.addresses.map(({ device, prefix }): StaticRoute => ({ device, prefix }));
  return [...config.routes, ...connected].sort(
    (a, b) => compareLongestFirst(a.prefix, b.prefix) || (a.metric ?? 0) - (b.metric ?? 0),
  );
}

export function findRoute(routes: readonly StaticRoute[], destination: Uint8Array): StaticRoute | undefined {
  for (const route of routes) if (prefixContainsBytes(route.prefix, destination)) return route;
  return undefined;
}

/** The fault of a route that leads nowhere; `undefined` for an ordinary one. */
export function faultOf(route: StaticRoute | undefined): FibFault | undefined {
  switch (route?.type ?? 'unicast') {
    case 'unreachable':
      return 'unreachable';
    case 'prohibit':
      return 'prohibited';
    case 'blackhole':
      return 'blackhole';
    default:
      return route === undefined ? 'no-route' : undefined;
  }
}

/** The bits of an address behind a prefix. */
export function hostBits(prefix: Prefix, address: Uint8Array): number[] {
  const bits: number[] = [];
  for (let bit = prefix.length; bit < address.length * 8; bit++) {
    bits.push((address[bit >> 3]! >> (7 - (bit & 7))) & 1);
  }
  return bits;
}
