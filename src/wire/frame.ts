/**
 * From a captured frame to the IP packet in it, for every supported link type: one reusable object.
 *
 * Sources: eth_type_trans (net/ethernet/eth.c), tcpdump.org/linktypes (LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2,
 * LINKTYPE_NULL). Packets are trimmed as ip_rcv_core and ip6_rcv_core do: link-layer padding is no part of them.
 */
import { read16, read32 } from './bytes.ts';
import { ETH_HLEN, ETH_P_802_3_MIN, EtherType } from './ethernet.ts';
import { LinkType } from './link-type.ts';
import { IpPacket, loadIpPacket } from './packet.ts';
import type { WireProblem } from './problem.ts';
import { isVlanType, VLAN_HLEN, type VlanTag } from './vlan.ts';

/** Who a frame was for (uapi/linux/if_packet.h). */
export const PacketType = {
  PACKET_HOST: 0,
  PACKET_BROADCAST: 1,
  PACKET_MULTICAST: 2,
  PACKET_OTHERHOST: 3,
  PACKET_OUTGOING: 4,
  PACKET_LOOPBACK: 5,
} as const;

/** ARPHRD_ETHER of uapi/linux/if_arp.h: the cooked address then is a MAC address. */
const ARPHRD_ETHER = 1;

/** What {@link loadFrame} finds; offsets are in `bytes`. */
export class Frame {
  bytes: Uint8Array = new Uint8Array(0);
  linkType = 0;
  /** EtherType of the payload; ETH_P_802_2 or ETH_P_802_3 for frames with a length field; 0 when not known. */
  etherType = 0;
  /** `truncated` when the link header is cut short; else that of the IP packet, if there is one. */
  problem: WireProblem | undefined = undefined;
  /** Where the link header's payload begins. */
  networkOffset = 0;
  /** Tags, outermost first: TPID in the high, TCI in the low 16 bits; the first `tagCount` count. */
  readonly tags: number[] = [];
  tagCount = 0;
  /** PACKET_*; for Ethernet as if received by its destination: broadcast, multicast or host. -1 where not known. */
  packetType = -1;
  /** Where the sender's MAC address stands, -1 when the link type has none. */
  sourceMacOffset = -1;
  /** Interface index of Linux cooked v2, else 0. */
  interfaceIndex = 0;
  /** The IP packet; its `family` is 0 when there is none. */
  readonly ip: IpPacket = new IpPacket();

  /** A view over the IP packet without trailer; empty when there is none. */
  get ipBytes(): Uint8Array {
    return this.ip.family === 0
      ? this.bytes.subarray(0, 0)
      : this.bytes.subarray(this.ip.offset, this.ip.end);
  }
  /** A view over the 14 bytes of Ethernet header (destination, source, outermost type), when there is one. */
  get ethernetHeader(): Uint8Array | undefined {
    if (this.linkType !== LinkType.ETHERNET || this.bytes.length < ETH_HLEN) return undefined;
    return this.bytes.subarray(0, ETH_HLEN);
  }
  /** The tags as objects. */
  get vlanTags(): VlanTag[] {
    return this.tags.slice(0, this.tagCount).map((tag) => ({ tpid: tag >>> 16, tci: tag & 0xffff }));
  }
}

/** Reads a frame into `frame`. True when it holds an IP packet whose headers are whole and well formed. */
export function loadFrame(frame: Frame, bytes: Uint8Array, linkType: number): boolean {
  frame.bytes = bytes;
  frame.linkType = linkType;
  frame.etherType = 0;
  frame.problem = undefined;
  frame.networkOffset = 0;
  frame.tagCount = 0;
  frame.packetType = -1;
  frame.sourceMacOffset = -1;
  frame.interfaceIndex = 0;
  frame.ip.family = 0;
  if (!loadLink(frame)) {
    frame.problem = 'truncated';
    return false;
  }
  if (frame.etherType !== EtherType.ETH_P_IP && frame.etherType !== EtherType.ETH_P_IPV6) return false;
  loadIpPacket(frame.ip, bytes, frame.networkOffset);
  const expected = frame.etherType === EtherType.ETH_P_IP ? 4 : 6;
  if (frame.ip.family !== 0 && frame.ip.family !== expected) {
    // ip_rcv looks at the version, whatever the frame's type promised, and drops what does not fit.
    frame.ip.family = 0;
    frame.ip.problem = 'version';
  }
  frame.problem = frame.ip.problem;
  return frame.problem === undefined;
}

function loadLink(frame: Frame): boolean {
  const { bytes } = frame;
  switch (frame.linkType) {
    case LinkType.ETHERNET:
      return loadEthernet(frame);
    case LinkType.LINUX_SLL:
      return loadCooked(frame);
    case LinkType.LINUX_SLL2:
      return loadCooked2(frame);
    case LinkType.NULL:
    case LinkType.LOOP:
      return loadLoopback(frame);
    case LinkType.RAW:
    case LinkType.RAW_12:
    case LinkType.RAW_14:
      if (bytes.length === 0) return false;
      frame.etherType = etherTypeOfVersion(bytes[0]! >>> 4);
      return true;
    case LinkType.IPV4:
      frame.etherType = EtherType.ETH_P_IP;
      return true;
    case LinkType.IPV6:
      frame.etherType = EtherType.ETH_P_IPV6;
      return true;
    default:
      return true;
  }
}

function etherTypeOfVersion(version: number): number {
  if (version === 4) return EtherType.ETH_P_IP;
  return version === 6 ? EtherType.ETH_P_IPV6 : 0;
}

function loadEthernet(frame: Frame): boolean {
  const { bytes } = frame;
  if (bytes.length < ETH_HLEN) return false;
  frame.sourceMacOffset = 6;
  if ((bytes[0]! & 1) === 0) frame.packetType = PacketType.PACKET_HOST;
  else {
    const broadcast = read32(bytes, 0) === 0xffffffff && read16(bytes, 4) === 0xffff;
    frame.packetType = broadcast ? PacketType.PACKET_BROADCAST : PacketType.PACKET_MULTICAST;
  }
  return loadTypes(frame, 12);
}

/** From the type field at `offset` over VLAN tags to the payload. */
function loadTypes(frame: Frame, offset: number): boolean {
  const { bytes } = frame;
  let at = offset;
  for (;;) {
    if (at + 2 > bytes.length) return false;
    const type = read16(bytes, at);
    if (!isVlanType(type)) {
      frame.networkOffset = at + 2;
      frame.etherType = typeOfField(type, bytes, at + 2);
      return true;
    }
    if (at + VLAN_HLEN + 2 > bytes.length) return false;
    frame.tags[frame.tagCount++] = ((type << 16) | read16(bytes, at + 2)) >>> 0;
    at += VLAN_HLEN;
  }
}

/** A length field means LLC, or raw 802.3 where the payload begins with 0xffff (eth_type_trans). */
function typeOfField(type: number, bytes: Uint8Array, payload: number): number {
  if (type >= ETH_P_802_3_MIN) return type;
  return read16(bytes, payload) === 0xffff ? EtherType.ETH_P_802_3 : EtherType.ETH_P_802_2;
}

function loadCooked(frame: Frame): boolean {
  const { bytes } = frame;
  if (bytes.length < 16) return false;
  frame.packetType = read16(bytes, 0);
  if (read16(bytes, 2) === ARPHRD_ETHER && read16(bytes, 4) === 6) frame.sourceMacOffset = 6;
  return loadCookedType(frame, read16(bytes, 14), 16);
}

function loadCooked2(frame: Frame): boolean {
  const { bytes } = frame;
  if (bytes.length < 20) return false;
  frame.interfaceIndex = read32(bytes, 4);
  frame.packetType = bytes[10]!;
  if (read16(bytes, 8) === ARPHRD_ETHER && bytes[11] === 6) frame.sourceMacOffset = 12;
  return loadCookedType(frame, read16(bytes, 0), 20);
}

/** The protocol field of a cooked header; a tag's TCI then begins the payload. */
function loadCookedType(frame: Frame, type: number, payload: number): boolean {
  const { bytes } = frame;
  if (!isVlanType(type)) {
    frame.etherType = type;
    frame.networkOffset = payload;
    return true;
  }
  if (payload + 4 > bytes.length) return false;
  frame.tags[frame.tagCount++] = ((type << 16) | read16(bytes, payload)) >>> 0;
  return loadTypes(frame, payload + 2);
}

/**
 * A 4-byte address family, in the byte order of the machine that captured (NULL) or big endian (LOOP). AF_INET is 2
 * everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on Darwin.
 */
function loadLoopback(frame: Frame): boolean {
  const { bytes } = frame;
  if (bytes.length < 4) return false;
  const big = read32(bytes, 0);
  const family = big > 0xffff && frame.linkType === LinkType.NULL ? swap32(big) : big;
  frame.networkOffset = 4;
  if (family === 2) frame.etherType = EtherType.ETH_P_IP;
  else if (family === 10 || family === 24 || family === 28 || family === 30)
    frame.etherType = EtherType.ETH_P_IPV6;
  return true;
}

function swap32(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
