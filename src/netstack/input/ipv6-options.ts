/**
 * Options of hop-by-hop and destination headers. Source: net/ipv6/exthdrs.c (ip6_parse_tlv); RFC 8200 §4.2, RFC 2675.
 */
import type { DefragContext } from '../defrag/context.ts';
import { ICMPV6_HDR_FIELD, ICMPV6_PARAMPROB, ICMPV6_UNK_OPTION } from '../icmp-error.ts';
import { IPV6_HEADER_BYTES } from '../ipv6-header.ts';
import type { SkBuff } from '../skb.ts';

const PAD1 = 0;
const PADN = 1;
const ROUTER_ALERT = 5;
const CALIPSO = 7;
const IOAM = 49;
const JUMBO = 194;

/** net.ipv6.max_hbh_opts_number and max_dst_opts_number. */
const OPTION_COUNT_MAX = 8;
/** More padding than alignment can need is refused. */
const PADDING_MAX = 7;

/**
 * Checks the options of the header at `skb.transportOffset`, which lies within the packet.
 * @returns false when the packet is dropped; an ICMP error has gone out where it must
 */
export function parseOptions(net: DefragContext, skb: SkBuff, hopByHop: boolean): boolean {
  const { data } = skb;
  let at = skb.transportOffset + 2;
  const end = skb.transportOffset + (data[skb.transportOffset + 1]! + 1) * 8;
  let options = 0;
  let padding = 0;
  while (at < end) {
    const type = data[at]!;
    if (type === PAD1) {
      if (++padding > PADDING_MAX) return false;
      at++;
      continue;
    }
    if (at + 2 > end) return false;
    const length = data[at + 1]! + 2;
    if (at + length > end) return false;
    if (type === PADN) {
      padding += length;
      if (padding > PADDING_MAX || data.subarray(at + 2, at + length).some((byte) => byte !== 0))
        return false;
    } else {
      if (++options > OPTION_COUNT_MAX) return false;
      const known = hopByHop ? hopByHopOption(net, skb, at) : undefined;
      if (known === false || (known === undefined && !unknownOption(net, skb, at))) return false;
      padding = 0;
    }
    at += length;
  }
  return true;
}

/** True or false for an option that the host knows, undefined for any other. */
function hopByHopOption(net: DefragContext, skb: SkBuff, at: number): boolean | undefined {
  const { data } = skb;
  const length = data[at + 1]!;
  switch (data[at]!) {
    case ROUTER_ALERT:
      return length === 2;
    case IOAM:
      // Not enabled on any interface: ignored.
      return true;
    case CALIPSO:
      // Without a domain of interpretation nothing validates.
      return false;
    case JUMBO:
      return jumbo(net, skb, at, length);
    default:
      return undefined;
  }
}

function jumbo(net: DefragContext, skb: SkBuff, at: number, length: number): boolean {
  const { data } = skb;
  if (length !== 4 || (at & 3) !== 2) return false;
  const payload = new DataView(data.buffer, data.byteOffset).getUint32(at + 2);
  if (payload <= 0xffff) return refuse(net, skb, ICMPV6_HDR_FIELD, at + 2);
  if ((data[4]! | data[5]!) !== 0) return refuse(net, skb, ICMPV6_HDR_FIELD, at);
  if (payload > data.length - IPV6_HEADER_BYTES) return false;
  skb.data = data.subarray(0, payload + IPV6_HEADER_BYTES);
  return true;
}

/** The two highest bits of an option's type say what to do with it unknown. */
function unknownOption(net: DefragContext, skb: SkBuff, at: number): boolean {
  const multicast = skb.data[24] === 0xff;
  switch (skb.data[at]! >> 6) {
    case 0:
      return true;
    case 1:
      return false;
    case 3:
      if (multicast) return false;
      return refuse(net, skb, ICMPV6_UNK_OPTION, at);
    default:
      return refuse(net, skb, ICMPV6_UNK_OPTION, at);
  }
}

function refuse(net: DefragContext, skb: SkBuff, code: number, pointer: number): false {
  net.sendIcmpError({
    family: 'ipv6',
    type: ICMPV6_PARAMPROB,
    code,
    info: pointer,
    packet: skb.data,
    dev: skb.dev,
    pktType: skb.pktType,
  });
  return false;
}
