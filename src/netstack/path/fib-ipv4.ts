/** IPv4 routing. Source: net/ipv4/route.c (ip_route_input_slow), net/ipv4/fib_frontend.c (fib_validate_source, inet_addr_type). */
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

export class Ipv4Fib implements Fib {
  readonly config: FibConfig;
  readonly #routes: readonly StaticRoute[];

  constructor(config: FibConfig) {
    this.config = config;
    this.#routes = routesOf(config);
  }

  input(source: Uint8Array, destination: Uint8Array, inDevice: string): FibDecision {
    const multicast = isMulticast4(destination);
    if (isMulticast4(source) || isLimitedBroadcast(source)) return refuse('martian-source');
    if (multicast) return this.#multicast(source, destination, inDevice);
    const anyToAny = isZero(source) && isZero(destination);
    if (isLimitedBroadcast(destination) || anyToAny) {
      return isZero(source) || this.#sourceIsValid(source, inDevice) ? LOCAL : refuse('martian-source');
    }
    if (isZero(source)) return refuse('martian-source');
    if (isZero(destination)) return refuse('martian-destination');
    const onLoopback = inDevice === LOOPBACK_DEVICE;
    const own = this.config.devices?.get(inDevice);
    const guarded = !onLoopback && this.config.routeLocalnet !== true && own?.routeLocalnet !== true;
    if (destination[0] === 127 && guarded) return refuse('martian-destination');
    if (source[0] === 127 && guarded) return refuse('martian-source');

    const type = this.addressType(destination);
    if (type === RouteTypeNumber.LOCAL || type === RouteTypeNumber.BROADCAST) {
      const valid = onLoopback || this.#sourceIsValid(source, inDevice);
      return valid ? LOCAL : refuse('martian-source');
    }
    const route = findRoute(this.#routes, destination);
    const fault = faultOf(route);
    if (route === undefined || fault !== undefined) return refuse(fault ?? 'no-route');
    if (!(own?.forwarding ?? this.config.forwarding)) return refuse('not-forwarding');
    const outDevice = route.device;
    if (!this.#sourceIsValid(source, inDevice, outDevice)) return refuse('martian-source');
    const redirect = inDevice === outDevice && this.#redirects(inDevice) && this.#isOnLink(source, inDevice);
    return redirect ? { kind: 'forward', outDevice, redirect } : { kind: 'forward', outDevice };
  }

  #redirects(device: string): boolean {
    return this.config.sendRedirects !== false || this.config.devices?.get(device)?.sendRedirects !== false;
  }

  /** The way back to a source by this device has no router on it. */
  #isOnLink(source: Uint8Array, device: string): boolean {
    const first = findRoute(this.#routes, source);
    const back =
      first?.device === device
        ? first
        : findRoute(
            this.#routes.filter((route) => route.device === device),
            source,
          );
    return faultOf(back) === undefined && back?.gateway === undefined;
  }

  /** ip_mc_validate_source(): a host without an address yet may speak to groups of its link. */
  #multicast(source: Uint8Array, destination: Uint8Array, inDevice: string): FibDecision {
    if (!isAllHosts(destination)) return refuse('not-joined');
    if (source[0] === 127 && inDevice !== LOOPBACK_DEVICE) return refuse('martian-source');
    return isZero(source) || this.#sourceIsValid(source, inDevice) ? LOCAL : refuse('martian-source');
  }

  output(destination: Uint8Array): string | undefined {
    const loops = isLoopbackBroadcast(destination) || this.addressType(destination) === RouteTypeNumber.LOCAL;
    if (loops) return LOOPBACK_DEVICE;
    return this.#route(destination)?.device;
  }

  nextHop(destination: Uint8Array): Uint8Array {
    return this.#route(destination)?.gateway ?? destination;
  }

  /** An address of the device in the network of the next hop, else its first one, else any of this host. */
  sourceAddress(device: string, towards: Uint8Array): Uint8Array | undefined {
    const here = this.config.addresses.filter((own) => own.device === device);
    const inNetwork = here.find(({ prefix }) => prefixContainsBytes(prefix, towards));
    return (inNetwork ?? here[0] ?? this.config.addresses[0])?.prefix.address.bytes;
  }

  #route(destination: Uint8Array): StaticRoute | undefined {
    const route = findRoute(this.#routes, destination);
    return faultOf(route) === undefined ? route : undefined;
  }

  isOwn(address: Uint8Array): boolean {
    return this.addressType(address) === RouteTypeNumber.LOCAL;
  }

  addressType(address: Uint8Array, device?: string): number {
    if (isZero(address) || isLimitedBroadcast(address)) return RouteTypeNumber.BROADCAST;
    if (isMulticast4(address)) return RouteTypeNumber.MULTICAST;
    if (address[0] === 127 && (device === undefined || device === LOOPBACK_DEVICE))
      return isLoopbackBroadcast(address) ? RouteTypeNumber.BROADCAST : RouteTypeNumber.LOCAL;
    // inet_addr_type() knows the local table only: everything else is unicast, routed or not.
    let type: number = RouteTypeNumber.UNICAST;
    for (const own of this.config.addresses) {
      if (device !== undefined && own.device !== device) continue;
      if (sameBytes(own.prefix.address.bytes, address)) return RouteTypeNumber.LOCAL;
      if (isBroadcastOf(own.prefix, address)) type = RouteTypeNumber.BROADCAST;
    }
    return type;
  }

  /**
   * fib_validate_source(). Without rp_filter only our own addresses are refused, except when the packet leaves by
   * the device it came in by, which redirects: then a full look-up is made, which also refuses broadcast addresses.
   */
  #sourceIsValid(source: Uint8Array, inDevice: string, outDevice?: string): boolean {
    const { addresses } = this.config;
    const rpFilter = Math.max(this.config.rpFilter, this.config.devices?.get(inDevice)?.rpFilter ?? 0);
    if (rpFilter === 0 && (inDevice !== outDevice || !this.#redirects(inDevice))) {
      return (
        !isLoopbackAddress(source) && !addresses.some(({ prefix }) => sameBytes(prefix.address.bytes, source))
      );
    }
    if (this.addressType(source) !== RouteTypeNumber.UNICAST) return false;
    const back = this.#route(source)?.device;
    if (back === undefined) return rpFilter === 0;
    return rpFilter !== 1 || back === inDevice;
  }
}

function isZero(address: Uint8Array): boolean {
  return (address[0]! | address[1]! | address[2]! | address[3]!) === 0;
}

function isLimitedBroadcast(address: Uint8Array): boolean {
  return (address[0]! & address[1]! & address[2]! & address[3]!) === 255;
}

/** 127.0.0.1, the address of the loopback device; the others of 127.0.0.0/8 are nobody's (inet_lookup_ifaddr_rcu). */
function isLoopbackAddress(address: Uint8Array): boolean {
  return address[0] === 127 && address[1] === 0 && address[2] === 0 && address[3] === 1;
}

/** The broadcast address of 127.0.0.1/8, which the loopback device has while it is up (fib_add_ifaddr). */
function isLoopbackBroadcast(address: Uint8Array): boolean {
  return (address[1]! & address[2]! & address[3]!) === 255 && address[0] === 127;
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
