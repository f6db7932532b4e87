/** Network devices of the calling thread's namespace: rtnetlink(7) RTM_*LINK, include/uapi/linux/if_link.h. */
import { Errno } from '../sys/errno.ts';
import { isErrno } from '../sys/error.ts';
import type { Fd } from '../sys/fd.ts';
import { cString, decodeStruct, encodeStruct } from '../sys/struct.ts';
import {
  attribute,
  decodeAttributes,
  type NetlinkMessage,
  NLM_F_CREATE,
  NLM_F_EXCL,
  nested,
  readU32,
  stringAttribute,
  u32Attribute,
} from './message.ts';
import { routeRequest, withRouteSocket } from './route-socket.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
const IFLA_CARRIER = 33;
const IFLA_XDP = 43;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_XDP_ATTACHED = 2;
const IFLA_XDP_PROG_ID = 4;
const IFLA_XDP_DRV_PROG_ID = 5;
const IFLA_XDP_SKB_PROG_ID = 6;
const IFLA_XDP_HW_PROG_ID = 7;
const IFF_UP = 1;
const IFF_NOARP = 0x80;

const ifinfo = {
  size: 16,
  fields: { family: [0, 'u8'], type: [2, 'u16'], index: [4, 's32'], flags: [8, 'u32'], change: [12, 'u32'] },
} as const;

/** XDP programs of a device by the mode they run in; 0 where there is none. */
export interface XdpPrograms {
  readonly native: number;
  readonly generic: number;
  readonly offloaded: number;
}

export interface Device {
  readonly index: number;
  readonly name: string;
  /** Hardware type, ARPHRD_*: 1 Ethernet, 772 loopback, 65534 none (tun). */
  readonly hardwareType: number;
  /** Hardware address; empty for devices without one. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly up: boolean;
  readonly carrier: boolean;
  /** `veth`, `vlan`, `bridge`, `tun`, …; `undefined` for physical devices and lo. */
  readonly kind: string | undefined;
  /** Lower device of a VLAN, or the other end of a veth (then in another namespace, perhaps). */
  readonly linkIndex: number | undefined;
  /** Bridge or bond that it belongs to. */
  readonly masterIndex: number | undefined;
  readonly xdp: XdpPrograms;
}

/** All devices, by index. */
export function listDevices(): Device[] {
  return withRouteSocket((socket) =>
    socket.dump(RTM_GETLINK, [encodeStruct(ifinfo, {})], 'listing network devices').map(readDevice),
  );
}

/** The device of this name or index; `undefined` when there is none. */
export function findDevice(which: string | number): Device | undefined {
  const index = typeof which === 'number' ? which : 0;
  const name = typeof which === 'string' ? [stringAttribute(IFLA_IFNAME, which)] : [];
  try {
    return withRouteSocket((socket) => {
      const parts = [encodeStruct(ifinfo, { index }), ...name];
      const [answer] = socket.request({ type: RTM_GETLINK, flags: 0, parts }, `looking up device ${which}`);
      return answer && readDevice(answer);
    });
  } catch (error) {
    if (isErrno(error, Errno.ENODEV, Errno.ERANGE)) return undefined;
    throw error;
  }
}

function readDevice({ payload }: NetlinkMessage): Device {
  const info = decodeStruct(ifinfo, payload);
  const attributes = decodeAttributes(payload.subarray(ifinfo.size));
  const number = (type: number): number | undefined => {
    const value = attributes.get(type);
    return value && readU32(value);
  };
  const linkInfo = decodeAttributes(attributes.get(IFLA_LINKINFO) ?? new Uint8Array(0));
  const kindBytes = linkInfo.get(IFLA_INFO_KIND);
  const kind = kindBytes && cString(kindBytes);
  return {
    index: info.index,
    name: cString(attributes.get(IFLA_IFNAME) ?? new Uint8Array(0)),
    hardwareType: info.type,
    mac: attributes.get(IFLA_ADDRESS)?.slice() ?? new Uint8Array(0),
    mtu: number(IFLA_MTU) ?? 0,
    up: (info.flags & IFF_UP) !== 0,
    carrier: attributes.get(IFLA_CARRIER)?.[0] === 1,
    kind,
    linkIndex: number(IFLA_LINK),
    masterIndex: number(IFLA_MASTER),
    xdp: readXdp(attributes.get(IFLA_XDP) ?? new Uint8Array(0)),
  };
}

/** IFLA_XDP_ATTACHED: 1 native, 2 generic, 3 offloaded, 4 several (each then named on its own). */
function readXdp(payload: Uint8Array): XdpPrograms {
  const attributes = decodeAttributes(payload);
  const mode = attributes.get(IFLA_XDP_ATTACHED)?.[0] ?? 0;
  const id = (type: number): number => {
    const value = attributes.get(type);
    return value === undefined ? 0 : readU32(value);
  };
  const only = (which: number): number => (mode === which ? id(IFLA_XDP_PROG_ID) : 0);
  return {
    native: id(IFLA_XDP_DRV_PROG_ID) || only(1),
    generic: id(IFLA_XDP_SKB_PROG_ID) || only(2),
    offloaded: id(IFLA_XDP_HW_PROG_ID) || only(3),
  };
}

export interface VethEnd {
  readonly name: string;
  /** Six bytes; without it the kernel makes one up. */
  readonly mac?: Uint8Array;
  /** Namespace to put it in; default: the caller's. */
  readonly netns?: Fd;
}

/** Makes a pair of virtual Ethernet devices, both down. `queues` receive and transmit queues each. */
export function createVeth(end: VethEnd, peer: VethEnd, queues = 1): void {
  const peerInfo = nested(VETH_INFO_PEER, encodeStruct(ifinfo, {}), ...endAttributes(peer, queues));
  createLink(`veth ${end.name}`, 'veth', endAttributes(end, queues), [peerInfo]);
}

function endAttributes(end: VethEnd, queues: number): Uint8Array[] {
  return [
    stringAttribute(IFLA_IFNAME, end.name),
    u32Attribute(IFLA_NUM_TX_QUEUES, queues),
    u32Attribute(IFLA_NUM_RX_QUEUES, queues),
    ...(end.mac === undefined ? [] : [attribute(IFLA_ADDRESS, end.mac)]),
    ...(end.netns === undefined ? [] : [u32Attribute(IFLA_NET_NS_FD, end.netns.number)]),
  ];
}

/** Makes a bridge without ports; give devices to it with {@link changeDevice}. */
export function createBridge(name: string): void {
  createLink(`bridge ${name}`, 'bridge', [stringAttribute(IFLA_IFNAME, name)], []);
}

function createLink(what: string, kind: string, attributes: Uint8Array[], data: Uint8Array[]): void {
  const info = nested(IFLA_LINKINFO, stringAttribute(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, ...data));
  const parts = [encodeStruct(ifinfo, {}), ...attributes, info];
  routeRequest({ type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, parts }, `creating ${what}`);
}

export interface DeviceChange {
  readonly up?: boolean;
  /** False: every neighbour is known, so that no question about one is asked. */
  readonly arp?: boolean;
  readonly mtu?: number;
  readonly name?: string;
  readonly mac?: Uint8Array;
  /** Moves the device there; its addresses and routes are lost. */
  readonly netns?: Fd;
  /** Bridge to join; 0 leaves it. */
  readonly masterIndex?: number;
}

/** Changes a device. */
export function changeDevice(index: number, change: DeviceChange): void {
  const header = encodeStruct(ifinfo, {
    index,
    flags: (change.up === true ? IFF_UP : 0) | (change.arp === false ? IFF_NOARP : 0),
    change: (change.up === undefined ? 0 : IFF_UP) | (change.arp === undefined ? 0 : IFF_NOARP),
  });
  const parts = [
    header,
    ...(change.mtu === undefined ? [] : [u32Attribute(IFLA_MTU, change.mtu)]),
    ...(change.name === undefined ? [] : [stringAttribute(IFLA_IFNAME, change.name)]),
    ...(change.mac === undefined ? [] : [attribute(IFLA_ADDRESS, change.mac)]),
    ...(change.netns === undefined ? [] : [u32Attribute(IFLA_NET_NS_FD, change.netns.number)]),
    ...(change.masterIndex === undefined ? [] : [u32Attribute(IFLA_MASTER, change.masterIndex)]),
  ];
  routeRequest({ type: RTM_NEWLINK, flags: 0, parts }, `changing device ${index}`);
}

/** Removes a virtual device (of a veth: both ends). */
export function deleteDevice(index: number): void {
  routeRequest(
    { type: RTM_DELLINK, flags: 0, parts: [encodeStruct(ifinfo, { index })] },
    `deleting device ${index}`,
  );
}
