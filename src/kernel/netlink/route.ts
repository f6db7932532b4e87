/** Routes of the calling thread's namespace: rtnetlink(7). Addresses are 4 or 16 bytes. */
import { Errno } from '../sys/errno.ts';
import { isErrno } from '../sys/error.ts';
import { AF_INET, AF_INET6 } from '../sys/socket.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import {
  attribute,
  decodeAttributes,
  type NetlinkMessage,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  readU32,
  u32Attribute,
} from './message.ts';
import { routeRequest, withRouteSocket } from './route-socket.ts';

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTN_BLACKHOLE = 6;
const RTN_UNREACHABLE = 7;
const RTN_PROHIBIT = 8;
const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;
const RTPROT_STATIC = 4;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RTNH_F_DEAD = 1;

const rtmsg = {
  size: 12,
  fields: {
    family: [0, 'u8'],
    destinationLength: [1, 'u8'],
    table: [4, 'u8'],
    protocol: [5, 'u8'],
    scope: [6, 'u8'],
    type: [7, 'u8'],
    flags: [8, 'u32'],
  },
} as const;

export interface Route {
  readonly family: 'ipv4' | 'ipv6';
  /** Absent: the default route. */
  readonly destination?: { readonly address: Uint8Array; readonly prefixLength: number };
  readonly gateway?: Uint8Array;
  readonly index?: number;
  /** `blackhole` drops silently; what is `local` is for this host. */
  readonly type?: 'unicast' | 'local' | 'blackhole';
  /** Absent: the main table. */
  readonly table?: number;
  /** Of routes to the same destination the one with the lowest counts; absent: the kernel's choice. */
  readonly metric?: number;
}

/** Adds a route, replacing one to the same destination. */
export function addRoute(route: Route): void {
  changeRoute(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, 'adding a route');
}

export function deleteRoute(route: Route): void {
  changeRoute(RTM_DELROUTE, 0, route, 'deleting a route');
}

const TYPES = { unicast: RTN_UNICAST, local: RTN_LOCAL, blackhole: RTN_BLACKHOLE } as const;
/** Of routes without a gateway (rtnetlink(7)): how far the destination is. */
const SCOPES = { unicast: RT_SCOPE_LINK, local: RT_SCOPE_HOST, blackhole: 0 } as const;

function changeRoute(type: number, flags: number, route: Route, what: string): void {
  const { type: kind = 'unicast', table = RT_TABLE_MAIN } = route;
  const direct = route.gateway === undefined && route.family === 'ipv4';
  const header = encodeStruct(rtmsg, {
    family: route.family === 'ipv4' ? AF_INET : AF_INET6,
    destinationLength: route.destination?.prefixLength ?? 0,
    protocol: RTPROT_STATIC,
    scope: direct ? SCOPES[kind] : 0,
    type: TYPES[kind],
  });
  const parts = [
    header,
    u32Attribute(RTA_TABLE, table),
    ...(route.destination === undefined ? [] : [attribute(RTA_DST, route.destination.address)]),
    ...(route.gateway === undefined ? [] : [attribute(RTA_GATEWAY, route.gateway)]),
    ...(route.index === undefined ? [] : [u32Attribute(RTA_OIF, route.index)]),
    ...(route.metric === undefined ? [] : [u32Attribute(RTA_PRIORITY, route.metric)]),
  ];
  routeRequest({ type, flags, parts }, what);
}

/** A route as it is found: of several next hops the first. */
export interface ListedRoute extends Omit<Route, 'type' | 'table' | 'metric'> {
  readonly type: 'unicast' | 'blackhole' | 'unreachable' | 'prohibit';
  readonly metric: number;
}

const ROUTE_TYPES: ReadonlyMap<number, ListedRoute['type']> = new Map([
  [RTN_UNICAST, 'unicast'],
  [RTN_BLACKHOLE, 'blackhole'],
  [RTN_UNREACHABLE, 'unreachable'],
  [RTN_PROHIBIT, 'prohibit'],
]);
/** struct rtnexthop: length, flags, hops, index, then attributes. */
const RTNH_BYTES = 8;

/** The routes of the main table; local and broadcast ones follow from the addresses. */
export function listRoutes(families: readonly Route['family'][] = ['ipv4', 'ipv6']): ListedRoute[] {
  return families.flatMap((family) =>
    dumpTable(family, RT_TABLE_MAIN).flatMap(({ payload }) => readRoute(payload)),
  );
}

/** What the kernel says of an address by its local table. */
export interface LocalRoute {
  readonly address: Uint8Array;
  readonly prefixLength: number;
  /** RTN_*: local, broadcast, anycast, multicast */
  readonly type: number;
  /** Device index; 0: none. */
  readonly index: number;
}

/** The routes of the local table, both families: every address that is this host's, and what goes to all on a link. */
export function listLocalRoutes(): LocalRoute[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) =>
    dumpTable(family, RT_TABLE_LOCAL).flatMap(({ payload }) => {
      const { type, destinationLength, flags } = decodeStruct(rtmsg, payload);
      if ((flags & RTNH_F_DEAD) !== 0) return [];
      const attributes = decodeAttributes(payload.subarray(rtmsg.size));
      const address = attributes.get(RTA_DST)?.slice() ?? new Uint8Array(family === 'ipv4' ? 4 : 16);
      const output = attributes.get(RTA_OIF);
      const index = output === undefined ? 0 : readU32(output);
      return [{ address, prefixLength: destinationLength, type, index }];
    }),
  );
}

const RTM_GETRULE = 34;
/** Rules of a namespace that nobody has added to: local, main and default. */
const OWN_RULES = 3;

/**
 * True while the kernel keeps the main table of IPv4 in the local one, so that longer prefixes of the main table count
 * in look-ups in the local one: as long as nobody has added a rule (fib_trie_unmerge in net/ipv4/fib_trie.c).
 */
export function localTableHoldsMain(): boolean {
  const header = encodeStruct(rtmsg, { family: AF_INET });
  return (
    withRouteSocket((socket) => socket.dump(RTM_GETRULE, [header], 'listing rules')).length === OWN_RULES
  );
}

/** True when a message about a route can change what the kernel says of addresses: those of other tables do not. */
export function concernsAddresses({ payload }: NetlinkMessage): boolean {
  const { table } = decodeStruct(rtmsg, payload);
  return table === RT_TABLE_LOCAL || table === RT_TABLE_MAIN;
}

/** The routes of one table: the kernel chooses them, so that a long main table costs the local one nothing. */
function dumpTable(family: Route['family'], table: number): readonly NetlinkMessage[] {
  const header = encodeStruct(rtmsg, { family: family === 'ipv4' ? AF_INET : AF_INET6, table });
  try {
    return withRouteSocket((socket) => socket.dump(RTM_GETROUTE, [header], 'listing routes'));
  } catch (error) {
    // A table is made with its first route.
    if (isErrno(error, Errno.ENOENT)) return [];
    throw error;
  }
}

function readRoute(payload: Uint8Array): ListedRoute[] {
  const header = decodeStruct(rtmsg, payload);
  const type = ROUTE_TYPES.get(header.type);
  if (type === undefined) return [];
  const attributes = decodeAttributes(payload.subarray(rtmsg.size));
  const hops = attributes.get(RTA_MULTIPATH);
  const hop = hops === undefined ? attributes : decodeAttributes(hops.subarray(RTNH_BYTES, hopLength(hops)));
  const destination = attributes.get(RTA_DST)?.slice();
  const gateway = hop.get(RTA_GATEWAY)?.slice();
  const output = attributes.get(RTA_OIF) ?? hops?.subarray(4, 8);
  const metric = attributes.get(RTA_PRIORITY);
  return [
    {
      family: header.family === AF_INET ? 'ipv4' : 'ipv6',
      type,
      metric: metric === undefined ? 0 : readU32(metric),
      ...(destination === undefined
        ? {}
        : { destination: { address: destination, prefixLength: header.destinationLength } }),
      ...(gateway === undefined ? {} : { gateway }),
      ...(output === undefined ? {} : { index: readU32(output) }),
    },
  ];
}

function hopLength(hops: Uint8Array): number {
  return (hops[1]! << 8) | hops[0]!;
}
