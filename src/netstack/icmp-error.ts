/**
 * ICMP errors: the request that a station of the path makes, and the packet that answers it.
 * Sources: RFC 792, RFC 1122 §3.2.2, RFC 1812 §4.3.2, RFC 4443; net/ipv4/icmp.c, net/ipv6/icmp.c.
 * Rate limits and the choice of the source address belong to whoever sends.
 */
import { addToSum, finishSum, internetChecksum } from '../wire/index.ts';
import { ETH_P_IP, type NetDevice, type PacketOptions, type SkBuff } from './skb.ts';

export const ICMP_DEST_UNREACH = 3;
export const ICMP_REDIRECT = 5;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETERPROB = 12;
export const ICMP_REDIR_HOST = 1;
export const ICMP_NET_UNREACH = 0;
export const ICMP_HOST_UNREACH = 1;
export const ICMP_PROT_UNREACH = 2;
export const ICMP_PORT_UNREACH = 3;
export const ICMP_FRAG_NEEDED = 4;
export const ICMP_PKT_FILTERED = 13;
export const ICMP_EXC_TTL = 0;
export const ICMP_EXC_FRAGTIME = 1;
export const ICMPV6_DEST_UNREACH = 1;
export const ICMPV6_NOROUTE = 0;
export const ICMPV6_ADM_PROHIBITED = 1;
export const ICMPV6_NOT_NEIGHBOUR = 2;
export const ICMPV6_PORT_UNREACH = 4;
export const ICMPV6_PKT_TOOBIG = 2;
export const ICMPV6_TIME_EXCEED = 3;
export const ICMPV6_EXC_HOPLIMIT = 0;
export const ICMPV6_EXC_FRAGTIME = 1;
export const ICMPV6_PARAMPROB = 4;
export const ICMPV6_HDR_FIELD = 0;
export const ICMPV6_UNK_NEXTHDR = 1;
export const ICMPV6_UNK_OPTION = 2;
export const ICMPV6_HDR_INCOMP = 3;

/** "Tell the sender": what icmp_send and icmpv6_send are called with. */
export interface IcmpError {
  readonly family: 'ipv4' | 'ipv6';
  readonly type: number;
  readonly code: number;
  /** The word after the checksum: MTU (IPv4: low half), or pointer to the offending byte. */
  readonly info: number;
  /** The packet it is about, from its network header. */
  readonly packet: Uint8Array;
  /** Device the packet came by. */
  readonly dev: NetDevice | undefined;
  /** PacketType of the packet. */
  readonly pktType: number;
  /** The packet's IPv4 options, where they were read before. */
  readonly options?: PacketOptions | undefined;
  /** What conntrack said of the packet: the error belongs to its connection. */
  readonly nfct?: unknown;
}

/** A request to answer `skb` with an error. */
export function icmpErrorAbout(skb: SkBuff, type: number, code: number, info = 0): IcmpError {
  return {
    family: skb.protocol === ETH_P_IP ? 'ipv4' : 'ipv6',
    type,
    code,
    info,
    packet: skb.data,
    dev: skb.dev,
    pktType: skb.pktType,
    options: skb.options,
    nfct: skb.nfct,
  };
}

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/**
 * Whether an error may be sent about this packet at all: not about broadcasts, non-first fragments, or ICMP errors.
 * The caller has checked that the source is a unicast address that it can reach.
 */
export function mayAnswerIpv4(packet: Uint8Array, pktType: number): boolean {
  if (pktType !== 0) return false;
  const headerLength = (packet[0]! & 15) * 4;
  const fragmentOffset = ((packet[6]! & 0x1f) << 8) | packet[7]!;
  if (fragmentOffset !== 0) return false;
  if (packet[9] !== IPPROTO_ICMP) return true;
  // A type beyond the known ones, or one that cannot be read, counts as an error message.
  const type = packet[headerLength];
  return type !== undefined && type <= 18 && ![3, 4, 5, 11, 12].includes(type);
}

/** What the sender adds to the packet: addresses as bytes, and the values the kernel draws by chance. */
export interface IcmpSender {
  /** Address of the interface that answers; network order. */
  readonly source: Uint8Array;
  readonly hopLimit: number;
  /** IPv4 identification, or IPv6 flow label. */
  readonly identOrFlow: number;
  /** IPv4 options that it takes over, padded. */
  readonly options?: Uint8Array;
}

/** At most this much of the offending packet is quoted: the whole answer fits 576 bytes (RFC 1812 §4.3.2.3). */
const IPV4_QUOTE_LIMIT = 576 - 20 - 8;
/** RFC 4443 §2.4(c): no longer than the minimum MTU. */
const IPV6_QUOTE_LIMIT = 1280 - 40 - 8;

/** The IP packet that carries an error back to the source of `error.packet`. */
export function buildIcmpError(error: IcmpError, sender: IcmpSender): Uint8Array {
  return error.family === 'ipv4' ? buildIpv4(error, sender) : buildIpv6(error, sender);
}

function buildIpv4(error: IcmpError, sender: IcmpSender): Uint8Array {
  const options = sender.options ?? new Uint8Array(0);
  const start = 20 + options.length;
  const quote = error.packet.subarray(0, IPV4_QUOTE_LIMIT - options.length);
  const packet = new Uint8Array(start + 8 + quote.length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x40 | (start / 4);
  // IPTOS_PREC_INTERNETCONTROL over the service type of the packet that is answered.
  packet[1] = (error.packet[1]! & 0x1e) | 0xc0;
  view.setUint16(2, packet.length);
  view.setUint16(4, sender.identOrFlow & 0xffff);
  packet[8] = sender.hopLimit;
  packet[9] = IPPROTO_ICMP;
  packet.set(sender.source, 12);
  packet.set(error.packet.subarray(12, 16), 16);
  packet.set(options, 20);
  view.setUint16(10, internetChecksum(packet.subarray(0, start)));
  packet[start] = error.type;
  packet[start + 1] = error.code;
  view.setUint32(start + 4, error.info);
  packet.set(quote, start + 8);
  view.setUint16(start + 2, internetChecksum(packet.subarray(start)));
  return packet;
}

function buildIpv6(error: IcmpError, sender: IcmpSender): Uint8Array {
  const quote = error.packet.subarray(0, IPV6_QUOTE_LIMIT);
  const packet = new Uint8Array(48 + quote.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x60000000 | (sender.identOrFlow & 0xfffff));
  view.setUint16(4, packet.length - 40);
  packet[6] = IPPROTO_ICMPV6;
  packet[7] = sender.hopLimit;
  packet.set(sender.source, 8);
  packet.set(error.packet.subarray(8, 24), 24);
  packet[40] = error.type;
  packet[41] = error.code;
  view.setUint32(44, error.info);
  packet.set(quote, 48);
  // RFC 8200 §8.1: pseudo-header of both addresses, length and protocol.
  view.setUint16(42, finishSum(addToSum(packet.length - 40 + IPPROTO_ICMPV6, packet, 8, packet.length)));
  return packet;
}
