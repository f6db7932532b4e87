/** Addresses and neighbours of the calling thread's namespace: rtnetlink(7). Addresses are 4 or 16 bytes. */
import { AF_INET, AF_INET6 } from '../sys/socket.ts';
import { decodeStruct, encodeStruct } from '../sys/struct.ts';
import {
  attribute,
  decodeAttributes,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  u32Attribute,
} from './message.ts';
import { routeRequest, withRouteSocket } from './route-socket.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 2;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;

const ifaddr = {
  size: 8,
  fields: { family: [0, 'u8'], prefixLength: [1, 'u8'], scope: [3, 'u8'], index: [4, 'u32'] },
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
