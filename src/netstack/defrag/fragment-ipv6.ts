/**
 * Cutting IPv6 datagrams up on output. Source: net/ipv6/ip6_output.c (ip6_fragment, ip6_pkt_too_big, ip6_finish_output),
 * net/ipv6/output_core.c (ip6_find_1stfragopt); RFC 8200 §4.5.
 */
import type { Counters } from '../counters.ts';
import { ICMPV6_PKT_TOOBIG } from '../icmp-error.ts';
import {
  FRAGMENT_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  NEXTHDR_DEST,
  NEXTHDR_FRAGMENT,
  NEXTHDR_HOP,
  NEXTHDR_ROUTING,
} from '../ipv6-header.ts';
import type { SkBuff } from '../skb.ts';
import type { FragmentResult } from './fragment-ipv4.ts';

const IP6_MF = 1;
const IPV6_MIN_MTU = 1280;

/** True when a forwarded packet must be answered with "packet too big" (ip6_pkt_too_big). */
export function ipv6ExceedsMtu(skb: SkBuff, mtu: number): boolean {
  if (skb.length <= mtu) return false;
  if (skb.fragMaxSize > mtu) return true;
  return !skb.ignoreDf;
}

/** True when output has to call {@link fragmentIpv6}. */
export function ipv6NeedsFragmentation(skb: SkBuff, mtu: number): boolean {
  return skb.length > mtu || (skb.fragMaxSize > 0 && skb.length > skb.fragMaxSize);
}

/**
 * Cuts a datagram so that no piece exceeds `mtu`, nor the largest piece in which it came (but at least 1280 bytes).
 *
 * @param identification of the new fragment headers, 32 bits: Linux draws it anew, whatever the pieces had that came
 */
export function fragmentIpv6(
  skb: SkBuff,
  mtu: number,
  identification: number,
  counters: Counters,
): FragmentResult {
  const cut = firstFragmentable(skb.data);
  const limit = skb.fragMaxSize > 0 ? Math.max(skb.fragMaxSize, IPV6_MIN_MTU) : mtu;
  const room = limit - (cut?.offset ?? 0) - FRAGMENT_HEADER_BYTES;
  if (cut === undefined) {
    counters.Ip6FragFails++;
    return { kind: 'malformed' };
  }
  if ((!skb.ignoreDf && skb.length > mtu) || skb.fragMaxSize > mtu || room < 8) {
    counters.Ip6FragFails++;
    return {
      kind: 'too-big',
      error: {
        family: 'ipv6',
        type: ICMPV6_PKT_TOOBIG,
        code: 0,
        info: mtu,
        packet: skb.data,
        dev: skb.dev,
        pktType: skb.pktType,
      },
    };
  }
  const payload = skb.length - cut.offset;
  const lengths = receivedPieces(skb, payload, room) ?? evenPieces(payload, room);
  let at = 0;
  const packets = lengths.map((length) => {
    const more = at + length < payload;
    const packet = emit(skb.data, cut, at, length, more, identification);
    at += length;
    return packet;
  });
  counters.Ip6FragOKs++;
  counters.Ip6FragCreates += packets.length;
  return { kind: 'fragments', packets };
}

/** Where the fragmentable part begins, and the byte that names its first header. */
interface CutPoint {
  readonly offset: number;
  readonly nhoffset: number;
}

/**
 * Hop-by-hop and routing headers stay before the fragment header, and destination options unless a routing header came before.
 * `undefined` when the chain is cut off. (Home addresses of mobile IPv6 are not looked for.)
 */
function firstFragmentable(data: Uint8Array): CutPoint | undefined {
  let offset = IPV6_HEADER_BYTES;
  let nhoffset = 6;
  let sawRouting = false;
  while (offset <= data.length) {
    switch (data[nhoffset]!) {
      case NEXTHDR_HOP:
        break;
      case NEXTHDR_ROUTING:
        sawRouting = true;
        break;
      case NEXTHDR_DEST:
        // Those behind a routing header are for the last destination only.
        if (sawRouting) return { offset, nhoffset };
        break;
      default:
        return { offset, nhoffset };
    }
    if (offset + 2 > data.length) return undefined;
    nhoffset = offset;
    offset += (data[offset + 1]! + 1) * 8;
  }
  return undefined;
}

/** As in IPv4: the pieces it came in, as long as they can be sent again. */
function receivedPieces(skb: SkBuff, payload: number, room: number): readonly number[] | undefined {
  const lengths = skb.fragmentLengths;
  if (lengths === undefined || lengths.length < 2 || skb.cloned) return undefined;
  let total = 0;
  for (const [index, length] of lengths.entries()) {
    if (length > room || ((length & 7) !== 0 && index < lengths.length - 1)) return undefined;
    total += length;
  }
  return total === payload ? lengths : undefined;
}

function evenPieces(payload: number, room: number): number[] {
  const lengths: number[] = [];
  let left = payload;
  while (left > 0) {
    const length = left <= room ? left : room & ~7;
    lengths.push(length);
    left -= length;
  }
  return lengths;
}

function emit(
  data: Uint8Array,
  cut: CutPoint,
  at: number,
  length: number,
  more: boolean,
  identification: number,
): Uint8Array {
  const start = cut.offset + FRAGMENT_HEADER_BYTES;
  const packet = new Uint8Array(start + length);
  packet.set(data.subarray(0, cut.offset));
  packet.set(data.subarray(cut.offset + at, cut.offset + at + length), start);
  const view = new DataView(packet.buffer);
  view.setUint16(4, packet.length - IPV6_HEADER_BYTES);
  packet[cut.nhoffset] = NEXTHDR_FRAGMENT;
  packet[cut.offset] = data[cut.nhoffset]!;
  view.setUint16(cut.offset + 2, at | (more ? IP6_MF : 0));
  view.setUint32(cut.offset + 4, identification);
  return packet;
}
