/**
 * The first look at an IPv6 packet, and its delivery to this host through all extension headers, reassembly among them.
 * Source: net/ipv6/ip6_input.c (ip6_rcv_core, ip6_protocol_deliver_rcu), net/ipv6/exthdrs.c.
 */
import type { DefragContext } from '../defrag/context.ts';
import { ipv6FragRcv } from '../defrag/ipv6.ts';
import { payloadLength } from '../defrag/ipv6-common.ts';
import { ICMPV6_HDR_FIELD, ICMPV6_PARAMPROB } from '../icmp-error.ts';
import {
  IPV6_HEADER_BYTES,
  NEXTHDR_DEST,
  NEXTHDR_FRAGMENT,
  NEXTHDR_HOP,
  NEXTHDR_ROUTING,
} from '../ipv6-header.ts';
import { PacketType, type SkBuff } from '../skb.ts';
import type { InputDrop } from './ipv4.ts';
import { parseOptions } from './ipv6-options.ts';

/** Routing header types with a handler of their own, which drops unless it was enabled (RFC 8754, RFC 6554). */
const SEGMENT_ROUTING = 4;
const RPL_SOURCE_ROUTING = 3;

/**
 * Checks the header, trims what follows the packet, and reads a hop-by-hop header (ip6_rcv_core).
 * @returns undefined when the packet may go on; else why it was dropped, counted
 */
export function receiveIpv6(net: DefragContext, skb: SkBuff): InputDrop | undefined {
  const { counters } = net;
  const { data } = skb;
  if (skb.pktType === PacketType.OTHERHOST) return 'other-host';
  counters.Ip6InReceives++;
  skb.cbFlags = 0;
  skb.fragMaxSize = 0;
  skb.iif = skb.dev?.ifindex ?? 0;
  if (data.length < IPV6_HEADER_BYTES || data[0]! >> 4 !== 6 || !plausibleAddresses(skb)) {
    counters.Ip6InHdrErrors++;
    return 'header';
  }
  skb.transportOffset = IPV6_HEADER_BYTES;
  skb.nhoff = 6;
  const length = payloadLength(data);
  const hopByHop = data[6] === NEXTHDR_HOP;
  // A payload length of zero may mean a jumbogram.
  if (length !== 0 || !hopByHop) {
    if (length + IPV6_HEADER_BYTES > data.length) {
      counters.Ip6InTruncatedPkts++;
      return 'truncated';
    }
    skb.data = data.subarray(0, length + IPV6_HEADER_BYTES);
  }
  if (hopByHop && !optionsHeader(net, skb, true)) {
    counters.Ip6InHdrErrors++;
    return 'options';
  }
  return undefined;
}

/** Addresses that no packet from outside may carry (RFC 4291 §2.5.3, §2.7 and erratum 3480). */
function plausibleAddresses(skb: SkBuff): boolean {
  const { data } = skb;
  const loopback = skb.dev?.loopback === true;
  if (!loopback && (isLoopbackAddress(data, 8) || isLoopbackAddress(data, 24))) return false;
  if (data[8] === 0xff) return false;
  if (data[24] !== 0xff) return true;
  const scope = data[25]! & 15;
  return scope !== 0 && (scope !== 1 || loopback || skb.pktType === PacketType.LOOPBACK);
}

function isLoopbackAddress(data: Uint8Array, at: number): boolean {
  for (let index = 0; index < 15; index++) if (data[at + index] !== 0) return false;
  return data[at + 15] === 1;
}

/**
 * Steps through extension headers up to the upper protocol, after LOCAL_IN (ip6_protocol_deliver_rcu). On return of a number,
 * `skb.transportOffset` is where that protocol begins.
 *
 * @returns the upper protocol; `undefined` when the packet waits for other fragments or was dropped
 */
export function deliverIpv6(net: DefragContext, skb: SkBuff): number | undefined {
  for (;;) {
    const nextHeader = skb.data[skb.nhoff]!;
    // Behind a next header of another meaning Linux discards what it cannot pull; counted as discards, not as errors.
    if (skb.transportOffset > skb.data.length) {
      net.counters.Ip6InDiscards++;
      return undefined;
    }
    switch (nextHeader) {
      case NEXTHDR_FRAGMENT:
        if (ipv6FragRcv(net, skb) !== 1) return undefined;
        break;
      case NEXTHDR_DEST:
        if (!optionsHeader(net, skb, false)) {
          net.counters.Ip6InHdrErrors++;
          return undefined;
        }
        break;
      case NEXTHDR_ROUTING:
        if (!routingHeader(net, skb)) return undefined;
        break;
      default:
        return nextHeader;
    }
  }
}

/** Steps over a hop-by-hop or destination options header. */
function optionsHeader(net: DefragContext, skb: SkBuff, hopByHop: boolean): boolean {
  const at = skb.transportOffset;
  const length = extensionLength(skb);
  if (length === undefined || !parseOptions(net, skb, hopByHop)) return false;
  skb.transportOffset = at + length;
  skb.nhoff = at;
  return true;
}

/** Bytes of the extension header at the transport offset; undefined when the packet ends before it does. */
function extensionLength(skb: SkBuff): number | undefined {
  const at = skb.transportOffset;
  if (at + 8 > skb.data.length) return undefined;
  const length = (skb.data[at + 1]! + 1) * 8;
  return at + length > skb.data.length ? undefined : length;
}

/** Only a routing header with nothing left to visit is accepted (RFC 5095). */
function routingHeader(net: DefragContext, skb: SkBuff): boolean {
  const { data } = skb;
  const at = skb.transportOffset;
  const length = extensionLength(skb);
  if (length === undefined) {
    net.counters.Ip6InHdrErrors++;
    return false;
  }
  if (data[24] === 0xff || skb.pktType !== PacketType.HOST) {
    net.counters.Ip6InAddrErrors++;
    return false;
  }
  const type = data[at + 2]!;
  if (type === SEGMENT_ROUTING || type === RPL_SOURCE_ROUTING) return false;
  const segmentsLeftAt = at + 3;
  if (data[segmentsLeftAt] !== 0) {
    net.counters.Ip6InHdrErrors++;
    net.sendIcmpError({
      family: 'ipv6',
      type: ICMPV6_PARAMPROB,
      code: ICMPV6_HDR_FIELD,
      info: segmentsLeftAt,
      packet: data,
      dev: skb.dev,
      pktType: skb.pktType,
    });
    return false;
  }
  skb.transportOffset = at + length;
  skb.nhoff = at;
  return true;
}
