/** The three reassembly models behind one face, and fragments to feed them. */
import {
  ETH_P_IP,
  ETH_P_IPV6,
  type IcmpError,
  Ip6DefragUser,
  IpDefragUser,
  ipDefrag,
  ipv6FragRcv,
  isIpv4Fragment,
  ManualClock,
  type NetDevice,
  NetworkNamespace,
  nfCtFrag6Gather,
  SkBuff,
} from '../../src/netstack/index.ts';
import { internetChecksum } from '../../src/wire/index.ts';

export const DEFRAG_MODELS = ['ipv4', 'ipv6-host', 'ipv6-netfilter'] as const;
export type DefragModel = (typeof DEFRAG_MODELS)[number];

export function defragNamespace(): {
  net: NetworkNamespace;
  clock: ManualClock;
  icmp: IcmpError[];
  device: NetDevice;
} {
  const clock = new ManualClock();
  const icmp: IcmpError[] = [];
  const device = { ifindex: 2, name: 'eth0', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
  const net = new NetworkNamespace(1n, clock, { sendIcmpError: (error) => icmp.push(error) });
  net.addDevice(device);
  return { net, clock, icmp, device };
}

/** Gives a packet to a model; `payload` is what lies behind its headers when it became whole. */
export function feed(
  model: DefragModel,
  net: NetworkNamespace,
  packet: Uint8Array | SkBuff,
  user?: number,
): { result: number; payload: Uint8Array | undefined } {
  const protocol = model === 'ipv4' ? ETH_P_IP : ETH_P_IPV6;
  const skb = packet instanceof SkBuff ? packet : new SkBuff(packet, { protocol, dev: net.deviceByIndex(2) });
  if (model === 'ipv4') {
    const result = isIpv4Fragment(skb.data) ? ipDefrag(net, skb, user ?? IpDefragUser.LOCAL_DELIVER) : 0;
    return { result, payload: result === 0 ? skb.data.subarray((skb.data[0]! & 15) * 4) : undefined };
  }
  if (model === 'ipv6-netfilter') {
    const result = nfCtFrag6Gather(net, skb, user ?? Ip6DefragUser.CONNTRACK_IN);
    return { result, payload: result === 0 ? skb.data.subarray(40) : undefined };
  }
  skb.transportOffset = 40;
  const result = ipv6FragRcv(net, skb);
  return { result, payload: result === 1 ? skb.data.subarray(skb.transportOffset) : undefined };
}

/** A whole IPv4 packet of protocol 253; `options` a multiple of 4 bytes. */
export function datagramIpv4(
  payload: Uint8Array,
  id: number,
  options: Uint8Array = new Uint8Array(),
): Uint8Array {
  return ipv4Packet(payload, id, 0, options);
}

/** Bytes [start, end) of a payload as an IPv4 fragment; the last one when it reaches the end. */
export function pieceIpv4(payload: Uint8Array, start: number, end: number, id: number): Uint8Array {
  const field = (start / 8) | (end < payload.length ? 0x2000 : 0);
  return ipv4Packet(payload.subarray(start, end), id, field, new Uint8Array());
}

function ipv4Packet(payload: Uint8Array, id: number, field: number, options: Uint8Array): Uint8Array {
  const headerLength = 20 + options.length;
  const packet = new Uint8Array(headerLength + payload.length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x40 | (headerLength / 4);
  view.setUint16(2, packet.length);
  view.setUint16(4, id);
  view.setUint16(6, field);
  packet.set([64, 253], 8);
  packet.set([192, 0, 2, 2, 192, 0, 2, 1], 12);
  packet.set(options, 20);
  view.setUint16(10, internetChecksum(packet, 0, headerLength));
  packet.set(payload, headerLength);
  return packet;
}

const IPV6_ADDRESSES = Uint8Array.of(
  ...[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
  ...[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
);

/** A whole IPv6 packet of protocol 253. */
export function datagramIpv6(payload: Uint8Array): Uint8Array {
  return ipv6Packet(payload, 253);
}

/** Bytes [start, end) of a payload as an IPv6 fragment; the last one when it reaches the end. */
export function pieceIpv6(payload: Uint8Array, start: number, end: number, id: number): Uint8Array {
  const fragment = new Uint8Array(8 + end - start);
  const view = new DataView(fragment.buffer);
  fragment[0] = 253;
  view.setUint16(2, start | (end < payload.length ? 1 : 0));
  view.setUint32(4, id);
  fragment.set(payload.subarray(start, end), 8);
  return ipv6Packet(fragment, 44);
}

function ipv6Packet(payload: Uint8Array, nextHeader: number): Uint8Array {
  const packet = new Uint8Array(40 + payload.length);
  packet[0] = 0x60;
  new DataView(packet.buffer).setUint16(4, payload.length);
  packet.set([nextHeader, 64], 6);
  packet.set(IPV6_ADDRESSES, 8);
  packet.set(payload, 40);
  return packet;
}
