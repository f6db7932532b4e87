/**
 * The routing decision between PRE_ROUTING and the next hook, for a host whose addresses and routes do not change:
 * ip_route_input and fib_validate_source (net/ipv4/route.c, fib_frontend.c), ip6_route_input (net/ipv6/route.c).
 */
import { compareLongestFirst, type Family, type Prefix, prefixContainsBytes } from '../../net/index.ts';

export type RouteFault =
  | 'martian-source'
  | 'martian-destination'
  | 'no-route'
  | 'not-forwarding'
  | 'not-joined';

export type RouteDecision =
  | { readonly kind: 'local' }
  | { readonly kind: 'forward'; readonly outDevice: string }
  | { readonly kind: 'drop'; readonly fault: RouteFault };

/** What the evaluator asks of routing. Addresses are in network order. */
export interface Routing {
  /** Where a packet goes that came in by this device. */
  input(source: Uint8Array, destination: Uint8Array, inDevice: string): RouteDecision;
  /** The device by which a packet of this host leaves; `undefined`: no route. */
  output(destination: Uint8Array): string | undefined;
  /** RTN_* of an address; with a device, local to it. */
  addressType(address: Uint8Array, device?: string): number;
}

/** One address of a device with its prefix length; `address` keeps its host bits. */
export interface DeviceAddress {
  readonly device: string;
  readonly prefix: Prefix;
}

export interface StaticRoute {
  readonly prefix: Prefix;
  readonly device: string;
  /** Reached through a router, not on the link. */
  readonly viaGateway?: boolean;
}

export interface RoutingConfig {
  readonly family: Family;
  readonly addresses: readonly DeviceAddress[];
  /** Besides the connected prefixes of the addresses. */
  readonly routes: readonly StaticRoute[];
  readonly forwarding: boolean;
  /** net.ipv4.conf.*.rp_filter: 0 off, 1 strict, 2 loose. IPv6 has none. */
  readonly rpFilter: 0 | 1 | 2;
}

export const RTN = { UNICAST: 1, LOCAL: 2, BROADCAST: 3, ANYCAST: 4, MULTICAST: 5, UNREACHABLE: 7 } as const;

const LOOPBACK_DEVICE = 'lo';

/** Routing from a fixed configuration. Connected prefixes and 127.0.0.0/8 or ::1 are added to what is given. */
export function createRouting(config: RoutingConfig): Routing {
  return config.family === 'ipv4' ? new Ipv4Routing(config) : new Ipv6Routing(config);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}

function longestFirst(config: RoutingConfig): readonly StaticRoute[] {
  const connected = config.addresses.map(({ device, prefix }) => ({ device, prefix }));
  return [...config.routes, ...connected].sort((a, b) => compareLongestFirst(a.prefix, b.prefix));
}

class Ipv4Routing implements Routing {
  readonly #config: RoutingConfig;
  readonly #routes: readonly StaticRoute[];

  constructor(config: RoutingConfig) {
    this.#config = config;
    this.#routes = longestFirst(config);
  }

  input(source: Uint8Array, destination: Uint8Array, inDevice: string): RouteDecision {
    const multicast = isMulticast4(destination);
    if (isMulticast4(source) || isLimitedBroadcast(source)) return drop('martian-source');
    if (multicast) return this.#multicast(source, destination, inDevice);
    const anyToAny = isZero(source) && isZero(destination);
    if (isLimitedBroadcast(destination) || anyToAny) {
      return isZero(source) || this.#sourceIsValid(source, inDevice) ? LOCAL : drop('martian-source');
    }
    if (isZero(source)) return drop('martian-source');
    if (isZero(destination)) return drop('martian-destination');
    const onLoopback = inDevice === LOOPBACK_DEVICE;
    if (destination[0] === 127 && !onLoopback) return drop('martian-destination');
    if (source[0] === 127 && !onLoopback) return drop('martian-source');

    const type = this.addressType(destination);
    if (type === RTN.LOCAL || type === RTN.BROADCAST) {
      const valid = onLoopback || this.#sourceIsValid(source, inDevice);
      return valid ? LOCAL : drop('martian-source');
    }
    const outDevice = this.output(destination);
    if (outDevice === undefined) return drop('no-route');
    if (!this.#config.forwarding) return drop('not-forwarding');
    if (!this.#sourceIsValid(source, inDevice, outDevice)) return drop('martian-source');
    return { kind: 'forward', outDevice };
  }

  /** ip_mc_validate_source(): a host without an address yet may speak to groups of its link. */
  #multicast(source: Uint8Array, destination: Uint8Array, inDevice: string): RouteDecision {
    if (!isAllHosts(destination)) return drop('not-joined');
    if (source[0] === 127 && inDevice !== LOOPBACK_DEVICE) return drop('martian-source');
    return isZero(source) || this.#sourceIsValid(source, inDevice) ? LOCAL : drop('martian-source');
  }

  output(destination: Uint8Array): string | undefined {
    return this.#routes.find(({ prefix }) => prefixContainsBytes(prefix, destination))?.device;
  }

  addressType(address: Uint8Array, device?: string): number {
    if (isZero(address) || isLimitedBroadcast(address)) return RTN.BROADCAST;
    if (isMulticast4(address)) return RTN.MULTICAST;
    const here = this.#config.addresses.filter((own) => device === undefined || own.device === device);
    if (address[0] === 127 && (device === undefined || device === LOOPBACK_DEVICE)) return RTN.LOCAL;
    if (here.some(({ prefix }) => equal(prefix.address.bytes, address))) return RTN.LOCAL;
    if (here.some(({ prefix }) => isBroadcastOf(prefix, address))) return RTN.BROADCAST;
    // inet_addr_type() knows the local table only: everything else is unicast, routed or not.
    return RTN.UNICAST;
  }

  /**
   * fib_validate_source(). Without rp_filter only our own addresses are refused, except when the packet leaves by
   * the device it came in by: then a full look-up is made, which also refuses broadcast addresses.
   */
  #sourceIsValid(source: Uint8Array, inDevice: string, outDevice?: string): boolean {
    const { rpFilter, addresses } = this.#config;
    if (rpFilter === 0 && inDevice !== outDevice) {
      return !addresses.some(({ prefix }) => equal(prefix.address.bytes, source));
    }
    if (this.addressType(source) !== RTN.UNICAST) return false;
    const back = this.output(source);
    if (back === undefined) return rpFilter === 0;
    return rpFilter !== 1 || back === inDevice;
  }
}

const LOCAL: RouteDecision = { kind: 'local' };

function drop(fault: RouteFault): RouteDecision {
  return { kind: 'drop', fault };
}

function isZero(address: Uint8Array): boolean {
  return address.every((byte) => byte === 0);
}

function isLimitedBroadcast(address: Uint8Array): boolean {
  return address.every((byte) => byte === 255);
}

function isMulticast4(address: Uint8Array): boolean {
  return address[0]! >> 4 === 0xe;
}

function isAllHosts(address: Uint8Array): boolean {
  return address[0] === 224 && address[1] === 0 && address[2] === 0 && address[3] === 1;
}

/** The highest address of a prefix of at most 30 bits (fib_add_ifaddr). The lowest one is an ordinary address. */
function isBroadcastOf(prefix: Prefix, address: Uint8Array): boolean {
  if (prefix.length > 30 || !prefixContainsBytes(prefix, address)) return false;
  return hostBits(prefix, address).every((bit) => bit === 1);
}

function hostBits(prefix: Prefix, address: Uint8Array): number[] {
  const bits: number[] = [];
  for (let bit = prefix.length; bit < address.length * 8; bit++) {
    bits.push((address[bit >> 3]! >> (7 - (bit & 7))) & 1);
  }
  return bits;
}

class Ipv6Routing implements Routing {
  readonly #config: RoutingConfig;
  readonly #routes: readonly StaticRoute[];

  constructor(config: RoutingConfig) {
    this.#config = config;
    this.#routes = longestFirst(config);
  }

  input(_source: Uint8Array, destination: Uint8Array, inDevice: string): RouteDecision {
    if (destination[0] === 0xff) return this.#hasJoined(destination) ? LOCAL : drop('not-joined');
    if (this.#isOwn(destination)) return LOCAL;
    if (this.#config.addresses.some(({ prefix }) => this.#isRouterAnycast(prefix, destination))) return LOCAL;
    const outDevice = isLinkLocal(destination)
      ? this.#onLink(destination, inDevice)
      : this.output(destination);
    if (outDevice === undefined) return drop('no-route');
    return this.#config.forwarding ? { kind: 'forward', outDevice } : drop('not-forwarding');
  }

  output(destination: Uint8Array): string | undefined {
    return this.#routes.find(({ prefix }) => prefixContainsBytes(prefix, destination))?.device;
  }

  /** xt_addrtype's look-up: a network's own address is anycast there, whoever answers to it (ipv6_anycast_destination). */
  addressType(address: Uint8Array, device?: string): number {
    if (address[0] === 0xff) return RTN.MULTICAST;
    if (this.#isOwn(address, device)) return RTN.LOCAL;
    const route = this.#routes.find(
      ({ prefix, device: by }) =>
        (device === undefined || by === device) && prefixContainsBytes(prefix, address),
    );
    if (route === undefined) return RTN.UNREACHABLE;
    const { prefix, viaGateway = false } = route;
    const isNetwork =
      prefix.length < 127 && !viaGateway && hostBits(prefix, address).every((bit) => bit === 0);
    return isNetwork ? RTN.ANYCAST : RTN.UNICAST;
  }

  #isOwn(address: Uint8Array, device?: string): boolean {
    if (isLoopback6(address)) return device === undefined || device === LOOPBACK_DEVICE;
    return this.#config.addresses.some(
      (own) => (device === undefined || own.device === device) && equal(own.prefix.address.bytes, address),
    );
  }

  /** A link-local address means the link the packet came by (rt6_need_strict): no other device's routes count. */
  #onLink(destination: Uint8Array, inDevice: string): string | undefined {
    const routed = this.#routes.some(
      ({ prefix, device }) => device === inDevice && prefixContainsBytes(prefix, destination),
    );
    return routed || isLinkLocalPrefix(destination) ? inDevice : undefined;
  }

  /** RFC 4291 2.6.1: a router answers to the address of each of its subnets with no host bits. */
  #isRouterAnycast(prefix: Prefix, address: Uint8Array): boolean {
    if (!this.#config.forwarding || prefix.length >= 127) return false;
    return prefixContainsBytes(prefix, address) && hostBits(prefix, address).every((bit) => bit === 0);
  }

  /** All nodes, all routers when forwarding, and the solicited-node group of each own address. */
  #hasJoined(group: Uint8Array): boolean {
    const middleIsZero = group.subarray(2, 15).every((byte) => byte === 0);
    if (middleIsZero && group[15] === 1) return group[1] === 2 || group[1] === 1;
    if (middleIsZero && group[15] === 2) {
      return this.#config.forwarding && (group[1] === 2 || group[1] === 1 || group[1] === 5);
    }
    const solicited =
      group[1] === 2 &&
      group.subarray(2, 11).every((byte) => byte === 0) &&
      group[11] === 1 &&
      group[12] === 0xff;
    if (!solicited) return false;
    return this.#config.addresses.some(({ prefix }) =>
      prefix.address.bytes.subarray(13).every((byte, index) => byte === group[13 + index]),
    );
  }
}

function isLinkLocal(address: Uint8Array): boolean {
  return address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
}

/** fe80::/64, which every device has a route for. */
function isLinkLocalPrefix(address: Uint8Array): boolean {
  return address[0] === 0xfe && address[1] === 0x80 && address.subarray(2, 8).every((byte) => byte === 0);
}

function isLoopback6(address: Uint8Array): boolean {
  return address.every((byte, index) => byte === (index === 15 ? 1 : 0));
}
