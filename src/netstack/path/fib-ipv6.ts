/** IPv6 routing. Source: net/ipv6/route.c (ip6_route_input), net/ipv6/addrconf.c; RFC 4291, RFC 6724. */
import { type Prefix, prefixContainsBytes } from '../../net/index.ts';
import {
  type Fib,
  type FibConfig,
  type FibDecision,
  faultOf,
  findRoute,
  hostBits,
  LOCAL,
  LOOPBACK_DEVICE,
  RouteTypeNumber,
  refuse,
  routesOf,
  type StaticRoute,
  sameBytes,
} from './fib.ts';

export class Ipv6Fib implements Fib {
  readonly config: FibConfig;
  readonly #routes: readonly StaticRoute[];

  constructor(config: FibConfig) {
    this.config = config;
    this.#routes = routesOf(config);
  }

  input(_source: Uint8Array, destination: Uint8Array, inDevice: string): FibDecision {
    if (destination[0] === 0xff) return this.#hasJoined(destination) ? LOCAL : refuse('not-joined');
    if (this.isOwn(destination)) return LOCAL;
    const linkLocal = isLinkLocal(destination);
    const route = linkLocal ? undefined : findRoute(this.#routes, destination);
    const fault = linkLocal ? undefined : faultOf(route);
    if (fault !== undefined) return refuse(fault);
    const outDevice = linkLocal ? this.#onLink(destination, inDevice) : route?.device;
    if (outDevice === undefined) return refuse('no-route');
    return this.config.forwarding ? { kind: 'forward', outDevice } : refuse('not-forwarding');
  }

  output(destination: Uint8Array): string | undefined {
    if (this.#isOwn(destination)) return LOOPBACK_DEVICE;
    return this.#route(destination)?.device;
  }

  nextHop(destination: Uint8Array): Uint8Array {
    return this.#route(destination)?.gateway ?? destination;
  }

  /** RFC 6724 as far as scope, device and the longest common prefix decide. */
  sourceAddress(device: string, towards: Uint8Array): Uint8Array | undefined {
    const usable = this.config.addresses.filter(
      (own) => isLinkLocal(own.prefix.address.bytes) === isLinkLocal(towards),
    );
    const here = usable.filter((own) => own.device === device);
    const candidates = (here.length > 0 ? here : usable).map(({ prefix }) => prefix.address.bytes);
    return candidates.sort((a, b) => commonBits(b, towards) - commonBits(a, towards))[0];
  }

  #route(destination: Uint8Array): StaticRoute | undefined {
    const route = findRoute(this.#routes, destination);
    return faultOf(route) === undefined ? route : undefined;
  }

  /** xt_addrtype's look-up: a network's own address is anycast there, whoever answers to it (ipv6_anycast_destination). */
  addressType(address: Uint8Array, device?: string): number {
    if (address[0] === 0xff) return RouteTypeNumber.MULTICAST;
    if (this.#isOwn(address, device)) return RouteTypeNumber.LOCAL;
    const route = this.#routes.find(
      ({ prefix, device: by }) =>
        (device === undefined || by === device) && prefixContainsBytes(prefix, address),
    );
    if (route === undefined) return RouteTypeNumber.UNREACHABLE;
    const { prefix, gateway } = route;
    const isNetwork =
      prefix.length < 127 && gateway === undefined && hostBits(prefix, address).every((bit) => bit === 0);
    return isNetwork ? RouteTypeNumber.ANYCAST : RouteTypeNumber.UNICAST;
  }

  /** ipv6_chk_addr() and ipv6_chk_acast_addr_src(). */
  isOwn(address: Uint8Array): boolean {
    if (this.#isOwn(address)) return true;
    return this.config.addresses.some(({ prefix }) => this.#isRouterAnycast(prefix, address));
  }

  #isOwn(address: Uint8Array, device?: string): boolean {
    if (isLoopback6(address)) return device === undefined || device === LOOPBACK_DEVICE;
    return this.config.addresses.some(
      (own) =>
        (device === undefined || own.device === device) && sameBytes(own.prefix.address.bytes, address),
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
    if (!this.config.forwarding || prefix.length >= 127) return false;
    return prefixContainsBytes(prefix, address) && hostBits(prefix, address).every((bit) => bit === 0);
  }

  /** All nodes, all routers when forwarding, and the solicited-node group of each own address. */
  #hasJoined(group: Uint8Array): boolean {
    const middleIsZero = group.subarray(2, 15).every((byte) => byte === 0);
    if (middleIsZero && group[15] === 1) return group[1] === 2 || group[1] === 1;
    if (middleIsZero && group[15] === 2) {
      return this.config.forwarding && (group[1] === 2 || group[1] === 1 || group[1] === 5);
    }
    const solicited =
      group[1] === 2 &&
      group.subarray(2, 11).every((byte) => byte === 0) &&
      group[11] === 1 &&
      group[12] === 0xff;
    if (!solicited) return false;
    return this.config.addresses.some(({ prefix }) =>
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

/** How many leading bits two addresses share. */
function commonBits(a: Uint8Array, b: Uint8Array): number {
  const at = a.findIndex((byte, index) => byte !== b[index]);
  return at < 0 ? a.length * 8 : at * 8 + Math.clz32(a[at]! ^ b[at]!) - 24;
}
