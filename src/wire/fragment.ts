/** Cuts IP packets into fragments, as a sender does (RFC 791 §3.2, RFC 8200 §4.5; net/ipv4/ip_output.c ip_do_fragment). */

import { concatenate, copyBytes } from './bytes.ts';
import { emitIpv4, IPV4_HEADER_LENGTH, parseIpv4 } from './ipv4.ts';
import { emitIpv6, IPV6_HEADER_LENGTH, parseIpv6 } from './ipv6.ts';
import { emitIpv6Fragment, walkExtensions } from './ipv6-extension.ts';
import { WireError } from './problem.ts';
import { IpProtocol } from './protocol.ts';

/**
 * The fragments of a whole IPv4 packet, none longer than `mtu` bytes; the packet itself when it fits. The DF bit is
 * not heeded. Options without the copied bit become no-operations after the first fragment.
 * Throws WireError when the packet is malformed or the MTU leaves no room for 8 bytes.
 */
export function fragmentIpv4(packet: Uint8Array, mtu: number): Uint8Array[] {
  const header = parseIpv4(packet);
  if (header === undefined || header.totalLength > packet.length) throw malformed('ipv4');
  if (header.totalLength <= mtu) return [packet.subarray(0, header.totalLength)];
  const headerLength = IPV4_HEADER_LENGTH + header.options.length;
  const room = roomFor(mtu, headerLength);
  const data = packet.subarray(headerLength, header.totalLength);
  const { totalLength: _length, checksum: _checksum, ...rest } = header;
  const later = blankUncopied(header.options);
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += room) {
    const fragment = {
      ...rest,
      options: at === 0 ? header.options : later,
      fragmentOffset: header.fragmentOffset + at / 8,
      moreFragments: at + room < data.length || header.moreFragments,
    };
    fragments.push(emitIpv4(fragment, data.subarray(at, at + room)));
  }
  return fragments;
}

/**
 * The fragments of a whole IPv6 packet, none longer than `mtu` bytes; the packet itself when it fits. Headers up to
 * the last hop-by-hop or routing header go into every fragment.
 * Throws WireError when the packet is malformed, is a fragment already, or the MTU leaves no room for 8 bytes.
 */
export function fragmentIpv6(packet: Uint8Array, mtu: number, id: number): Uint8Array[] {
  const header = parseIpv6(packet);
  if (header === undefined) throw malformed('ipv6');
  const total = IPV6_HEADER_LENGTH + header.payloadLength;
  const chain = walkExtensions(packet, 0, total);
  if (total > packet.length || chain.problem !== undefined || chain.fragment !== undefined)
    throw malformed('ipv6');
  if (total <= mtu) return [packet.subarray(0, total)];
  const perHop = chain.headers.findLast(
    ({ type }) => type === IpProtocol.HOPOPTS || type === IpProtocol.ROUTING,
  );
  const cut = perHop === undefined ? IPV6_HEADER_LENGTH : perHop.offset + perHop.length;
  const before = copyBytes(packet, IPV6_HEADER_LENGTH, cut);
  const nextHeader = perHop === undefined ? header.nextHeader : perHop.nextHeader;
  if (perHop !== undefined) before[perHop.offset - IPV6_HEADER_LENGTH] = IpProtocol.FRAGMENT;
  const { payloadLength: _length, ...rest } = header;
  const outer = perHop === undefined ? { ...rest, nextHeader: IpProtocol.FRAGMENT } : rest;
  const room = roomFor(mtu, cut + 8);
  const data = packet.subarray(cut, total);
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += room) {
    const fragment = { nextHeader, fragmentOffset: at / 8, moreFragments: at + room < data.length, id };
    const body = emitIpv6Fragment(fragment, data.subarray(at, at + room));
    fragments.push(emitIpv6(outer, concatenate(before, body)));
  }
  return fragments;
}

function roomFor(mtu: number, headerLength: number): number {
  const room = Math.floor((mtu - headerLength) / 8) * 8;
  if (room >= 8) return room;
  throw new WireError(`an MTU of ${mtu} leaves no room for data`, `give at least ${headerLength + 8}`);
}

function malformed(family: string): WireError {
  return new WireError(
    `not a whole ${family} packet that can be fragmented`,
    'give one well-formed packet, unfragmented',
  );
}

/** As ip_options_fragment: options that are not copied turn into no-operations, the length stays. */
function blankUncopied(options: Uint8Array): Uint8Array {
  const blanked = options.slice();
  for (let at = 0; at < blanked.length; ) {
    const kind = blanked[at]!;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = blanked[at + 1] ?? 0;
    if (length < 2 || at + length > blanked.length) break;
    if ((kind & 0x80) === 0) blanked.fill(1, at, at + length);
    at += length;
  }
  return blanked;
}
