/**
 * Cutting IPv4 datagrams up on output. Source: net/ipv4/ip_output.c (ip_fragment, ip_do_fragment), net/ipv4/ip_forward.c
 * (ip_exceeds_mtu), net/ipv4/ip_options.c (ip_options_fragment); RFC 791 §3.2.
 */
import { IPOPT_END, IPOPT_NOOP, internetChecksum } from '../../wire/index.ts';
import type { Counters } from '../counters.ts';
import { ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, type IcmpError } from '../icmp-error.ts';
import { CbFlag, type SkBuff } from '../skb.ts';

const IP_DF = 0x4000;
const IP_MF = 0x2000;
const IP_OFFSET = 0x1fff;

/** Options with this bit go into every fragment. */
const IPOPT_COPY = 0x80;

/** The pieces in the order in which they leave, or the error that answers the packet instead. */
export type FragmentResult =
  | { readonly kind: 'fragments'; readonly packets: readonly Uint8Array[] }
  | { readonly kind: 'too-big'; readonly error: IcmpError }
  /** IPv6: its chain of headers is cut off; dropped without an answer. */
  | { readonly kind: 'malformed' };

function fragField(data: Uint8Array): number {
  return (data[6]! << 8) | data[7]!;
}

/** True when a forwarded packet must be answered with "fragmentation needed" (ip_exceeds_mtu). */
export function ipv4ExceedsMtu(skb: SkBuff, mtu: number): boolean {
  if (skb.length <= mtu || (fragField(skb.data) & IP_DF) === 0) return false;
  if (skb.fragMaxSize > mtu) return true;
  return !skb.ignoreDf;
}

/** True when output has to call {@link fragmentIpv4}: too long, or reassembled here and to leave as it came. */
export function ipv4NeedsFragmentation(skb: SkBuff, mtu: number): boolean {
  return skb.length > mtu || skb.fragMaxSize > 0;
}

/**
 * Cuts a datagram so that no piece exceeds `mtu`, nor the largest piece in which it came.
 *
 * A reassembled datagram leaves in the very pieces in which it came while they fit; that path never sets DF. Otherwise
 * it is cut evenly, with DF when the largest received piece had it.
 */
export function fragmentIpv4(skb: SkBuff, mtu: number, counters: Counters): FragmentResult {
  const { data } = skb;
  if ((fragField(data) & IP_DF) !== 0 && (!skb.ignoreDf || skb.fragMaxSize > mtu)) {
    counters.IpFragFails++;
    return {
      kind: 'too-big',
      error: {
        family: 'ipv4',
        type: ICMP_DEST_UNREACH,
        code: ICMP_FRAG_NEEDED,
        info: mtu,
        packet: data,
        dev: skb.dev,
        pktType: skb.pktType,
      },
    };
  }
  const headerLength = (data[0]! & 15) * 4;
  const limit = skb.fragMaxSize > 0 ? Math.min(mtu, skb.fragMaxSize) : mtu;
  const room = limit - headerLength;
  skb.cbFlags |= CbFlag.IPSKB_FRAG_COMPLETE;
  const lengths = receivedPieces(skb, headerLength, room);
  const packets =
    lengths === undefined ? cutEvenly(skb, headerLength, room) : cutAsReceived(skb, headerLength, lengths);
  counters.IpFragOKs++;
  counters.IpFragCreates += packets.length;
  return { kind: 'fragments', packets };
}

/** The lengths of the pieces it came in, when the kernel could send those again (the frag_list path). */
function receivedPieces(skb: SkBuff, headerLength: number, room: number): readonly number[] | undefined {
  const lengths = skb.fragmentLengths;
  if (lengths === undefined || lengths.length < 2 || skb.cloned) return undefined;
  if ((fragField(skb.data) & (IP_MF | IP_OFFSET)) !== 0) return undefined;
  let total = headerLength;
  for (const [index, length] of lengths.entries()) {
    if (length > room || ((length & 7) !== 0 && index < lengths.length - 1)) return undefined;
    total += length;
  }
  return total === skb.length ? lengths : undefined;
}

function cutAsReceived(skb: SkBuff, headerLength: number, lengths: readonly number[]): Uint8Array[] {
  let header = skb.data.subarray(0, headerLength);
  let offset = 0;
  return lengths.map((length, index) => {
    // Options that are not to be copied vanish with the second piece; later ones take their header from it.
    if (index === 1) header = withoutUncopiedOptions(header);
    const more = index < lengths.length - 1;
    const piece = emit(skb.data, header, offset, length, more ? IP_MF : 0);
    offset += length;
    return piece;
  });
}

function cutEvenly(skb: SkBuff, headerLength: number, room: number): Uint8Array[] {
  const { data } = skb;
  const field = fragField(data);
  const keepDf = (skb.cbFlags & CbFlag.IPSKB_FRAG_PMTU) !== 0 ? IP_DF : 0;
  const baseOffset = (field & IP_OFFSET) * 8;
  const notLast = field & IP_MF;
  let header = data.subarray(0, headerLength);
  let left = data.length - headerLength;
  let at = 0;
  const packets: Uint8Array[] = [];
  while (left > 0) {
    let length = Math.min(left, room);
    if (length < left) length &= ~7;
    // A link too narrow for eight bytes of payload cannot carry any datagram.
    if (length <= 0) throw new RangeError(`no room for payload: ${room} bytes beside the header`);
    left -= length;
    packets.push(emit(data, header, at, length, keepDf | (left > 0 ? IP_MF : notLast), baseOffset));
    if (baseOffset + at === 0) header = withoutUncopiedOptions(header);
    at += length;
  }
  return packets;
}

/** One piece: `length` bytes of payload from byte `at` on, behind a copy of `header`. */
function emit(
  data: Uint8Array,
  header: Uint8Array,
  at: number,
  length: number,
  flags: number,
  baseOffset = 0,
): Uint8Array {
  const headerLength = header.length;
  const packet = new Uint8Array(headerLength + length);
  packet.set(header);
  packet.set(data.subarray(headerLength + at, headerLength + at + length), headerLength);
  const view = new DataView(packet.buffer);
  view.setUint16(2, packet.length);
  view.setUint16(6, ((baseOffset + at) >> 3) | flags);
  view.setUint16(10, 0);
  view.setUint16(10, internetChecksum(packet.subarray(0, headerLength)));
  return packet;
}

/** A copy of the header with every option that belongs into the first fragment only blanked out. */
function withoutUncopiedOptions(header: Uint8Array): Uint8Array {
  if (header.length === 20) return header;
  const copy = header.slice();
  let at = 20;
  while (at < copy.length) {
    const type = copy[at]!;
    if (type === IPOPT_END) break;
    if (type === IPOPT_NOOP) {
      at++;
      continue;
    }
    const length = copy[at + 1] ?? 0;
    if (length < 2 || at + length > copy.length) break;
    if ((type & IPOPT_COPY) === 0) copy.fill(IPOPT_NOOP, at, at + length);
    at += length;
  }
  return copy;
}
