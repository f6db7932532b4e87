/** Addresses, routes and neighbours of the calling thread's namespace: rtnetlink(7). Addresses are 4 or 16 bytes. */
import { AF_INET, AF_INET6 } from '../sys/socket.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import {
  attribute,
  decodeAttributes,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  readU32,
  u32Attribute,
} from './message.ts';
import { routeRequest, withRouteSocket } from './route-socket.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_MULTIPATH = 9;
const RTN_UNICAST = 1;
const RTN_BLACKHOLE = 6;
const RTN_UNREACHABLE = 7;
const RTN_PROHIBIT = 8;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RT_SCOPE_LINK = 253;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;

const ifaddr = {
  size: 8,
  fields: { family: [0, 'u8'], prefixLength: [1, 'u8'], scope: [3, 'u8'], index: [4, 'u32'] },
} as const;
const rtmsg = {
  size: 12,
  fields: {
    family: [0, 'u8'],
    destinationLength: [1, 'u8'],
    table: [4, 'u8'],
    protocol: [5, 'u8'],
    scope: [6, 'u8'],
    type: [7, 'u8'],
  },
} as const;
const ndmsg = {
  size: 12,
  fields: { family: [0, 'u8'], index: [4, 's32'], state: [8, 'u16'], flags: [10, 'u8'], type: [11, 'u8'] },
} as const;

const familyOf = (address: Uint8Array): number => (address.length === 4 ? AF_INET : AF_INET6);

export interface DeviceAddress {
  readonly index: number;
  readonly address: Uint8Array;
  readonly prefixLength: number;
}

/** Gives a device an address; IPv6 ones are usable at once (no duplicate address detection). */
export function addAddress({ index, address, prefixLength }: DeviceAddress): void {
  const header = encodeStruct(ifaddr, { family: familyOf(address), prefixLength, index });
  const parts = [header, attribute(IFA_LOCAL, address), attribute(IFA_ADDRESS, address)];
  if (address.length === 16) parts.push(u32Attribute(IFA_FLAGS, IFA_F_NODAD));
  routeRequest(
    { type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, parts },
    `adding an address to device ${index}`,
  );
}

/** Takes an address away. */
export function deleteAddress({ index, address, prefixLength }: DeviceAddress): void {
  const header = encodeStruct(ifaddr, { family: familyOf(address), prefixLength, index });
  routeRequest(
    { type: RTM_DELADDR, flags: 0, parts: [header, attribute(IFA_LOCAL, address)] },
    `removing an address of device ${index}`,
  );
}

/** All addresses of all devices. */
export function listAddresses(): DeviceAddress[] {
  return withRouteSocket((socket) =>
    socket.dump(RTM_GETADDR, [encodeStruct(ifaddr, {})], 'listing addresses').map(({ payload }) => {
      const { index, prefixLength } = decodeStruct(ifaddr, payload);
      const attributes = decodeAttributes(payload.subarray(ifaddr.size));
      // IFA_ADDRESS is the peer's on point-to-point devices; IFA_LOCAL, where present, is ours.
      const address = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS) ?? new Uint8Array(0);
      return { index, prefixLength, address: address.slice() };
    }),
  );
}

export interface Route {
  readonly family: 'ipv4' | 'ipv6';
  /** Absent: the default route. */
  readonly destination?: { readonly address: Uint8Array; readonly prefixLength: number };
  readonly gateway?: Uint8Array;
  readonly index?: number;
  /** `blackhole` drops silently. */
  readonly type?: 'unicast' | 'blackhole';
}

/** Adds a route to the main table, replacing one to the same destination. */
export function addRoute(route: Route): void {
  changeRoute(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, 'adding a route');
}

export function deleteRoute(route: Route): void {
  changeRoute(RTM_DELROUTE, 0, route, 'deleting a route');
}

function changeRoute(type: number, flags: number, route: Route, what: string): void {
  const direct = route.gateway === undefined && route.family === 'ipv4' && route.type !== 'blackhole';
  const header = encodeStruct(rtmsg, {
    family: route.family === 'ipv4' ? AF_INET : AF_INET6,
    destinationLength: route.destination?.prefixLength ?? 0,
    table: RT_TABLE_MAIN,
    protocol: RTPROT_STATIC,
    scope: direct ? RT_SCOPE_LINK : 0,
    type: route.type === 'blackhole' ? RTN_BLACKHOLE : RTN_UNICAST,
  });
  const parts = [
    header,
    ...(route.destination === undefined ? [] : [attribute(RTA_DST, route.destination.address)]),
    ...(route.gateway === undefined ? [] : [attribute(RTA_GATEWAY, route.gateway)]),
    ...(route.index === undefined ? [] : [u32Attribute(RTA_OIF, route.index)]),
  ];
  routeRequest({ type, flags, parts }, what);
}

/** A route as it is found: of several next hops the first. */
export interface ListedRoute extends Omit<Route, 'type'> {
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

/** The routes of the main table, both families; local and broadcast ones follow from the addresses. */
export function listRoutes(): ListedRoute[] {
  return withRouteSocket((socket) =>
    [AF_INET, AF_INET6].flatMap((family) =>
      socket
        .dump(RTM_GETROUTE, [encodeStruct(rtmsg, { family })], 'listing routes')
        .flatMap(({ payload }) => readRoute(payload)),
    ),
  );
}

function readRoute(payload: Uint8Array): ListedRoute[] {
  const header = decodeStruct(rtmsg, payload);
  const type = ROUTE_TYPES.get(header.type);
  if (header.table !== RT_TABLE_MAIN || type === undefined) return [];
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

export interface Neighbour {
  readonly index: number;
  readonly address: Uint8Array;
  readonly mac: Uint8Array;
}

/** Adds or replaces a permanent neighbour entry, so that no ARP or neighbour solicitation is sent. */
export function setNeighbour({ index, address, mac }: Neighbour): void {
  const header = encodeStruct(ndmsg, { family: familyOf(address), index, state: NUD_PERMANENT });
  const parts = [header, attribute(NDA_DST, address), attribute(NDA_LLADDR, mac)];
  routeRequest(
    { type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, parts },
    `setting a neighbour at device ${index}`,
  );
}

/** The neighbour table: entries that have a hardware address, with their state bits (NUD_*). */
export function listNeighbours(): (Neighbour & { readonly state: number })[] {
  return withRouteSocket((socket) =>
    socket.dump(RTM_GETNEIGH, [encodeStruct(ndmsg, {})], 'listing neighbours').flatMap(({ payload }) => {
      const { index, state } = decodeStruct(ndmsg, payload);
      const attributes = decodeAttributes(payload.subarray(ndmsg.size));
      const address = attributes.get(NDA_DST);
      const mac = attributes.get(NDA_LLADDR);
      return address && mac ? [{ index, state, address: address.slice(), mac: mac.slice() }] : [];
    }),
  );
}
