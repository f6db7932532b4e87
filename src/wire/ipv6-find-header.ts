/**
 * The kernel's search for a header in an IPv6 packet: ipv6_find_hdr of net/ipv6/exthdrs_core.c (Linux 6.18).
 *
 * Netfilter decides by its results, so its peculiarities are kept:
 * - extension headers are hop-by-hop, routing, fragment, AH, none and destination options only; ESP, mobility, HIP and
 *   shim6 end the chain as a transport protocol does;
 * - only the two bytes that say how to go on must be there, so the header found may lie beyond the packet's end;
 * - a fragment that is not the first ends the search: found is then its next-header value, unless that names another
 *   extension header;
 * - the fragment offset is in bytes.
 */
import { read8, read16 } from './bytes.ts';
import { IPV6_HEADER_LENGTH, ipv6NextHeader, ipv6Version } from './ipv6.ts';
import { IpProtocol } from './protocol.ts';

/** Out: the packet is a fragment. */
export const IP6_FH_F_FRAG = 1;
/** In: with no target, stop at an authentication header. */
export const IP6_FH_F_AUTH = 2;
/** In: do not take a routing header without segments left for the target. */
export const IP6_FH_F_SKIP_RH = 4;

/** Result, written over by each search so that none is allocated. */
export interface FoundHeader {
  /** Protocol number found, or -1. */
  protocol: number;
  /** Offset from the packet's first byte; 0 where the search gives none (not found, and non-first fragments). */
  offset: number;
  /** Offset of a non-first fragment in bytes, else 0. */
  fragmentOffset: number;
  /** The flags given, with IP6_FH_F_FRAG added for a fragment. */
  flags: number;
}

/** A result to be handed to {@link findIpv6Header} again and again. */
export function newFoundHeader(): FoundHeader {
  return { protocol: -1, offset: 0, fragmentOffset: 0, flags: 0 };
}

/** True for the next-header values that the kernel walks over (ipv6_ext_hdr). */
export function isKernelExtensionHeader(nextHeader: number): boolean {
  return (
    nextHeader === IpProtocol.HOPOPTS ||
    nextHeader === IpProtocol.ROUTING ||
    nextHeader === IpProtocol.FRAGMENT ||
    nextHeader === IpProtocol.AH ||
    nextHeader === IpProtocol.NONE ||
    nextHeader === IpProtocol.DSTOPTS
  );
}

/**
 * Searches the packet in `bytes[start, end)` for `target`, or with target -1 for its last header.
 * Returns the protocol found or -1, and leaves the rest in `found`.
 *
 * @param start where the IPv6 header begins
 * @param end where the packet ends (skb->len)
 * @param flags IP6_FH_F_AUTH, IP6_FH_F_SKIP_RH
 */
export function findIpv6Header(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: number,
  flags: number,
  found: FoundHeader,
): number {
  found.protocol = -1;
  found.offset = 0;
  found.fragmentOffset = 0;
  found.flags = flags;
  if (end - start < IPV6_HEADER_LENGTH || ipv6Version(bytes, start) !== 6) return -1;
  let at = start + IPV6_HEADER_LENGTH;
  let next = ipv6NextHeader(bytes, start);
  for (;;) {
    let isTarget = next === target;
    if (!isKernelExtensionHeader(next) || next === IpProtocol.NONE) {
      if (target >= 0 && !isTarget) return -1;
      break;
    }
    if (at + 2 > end) return -1;
    const following = read8(bytes, at);
    let length = (read8(bytes, at + 1) + 1) * 8;
    if (next === IpProtocol.ROUTING) {
      if (at + 4 > end) return -1;
      if ((flags & IP6_FH_F_SKIP_RH) !== 0 && read8(bytes, at + 3) === 0) isTarget = false;
    } else if (next === IpProtocol.FRAGMENT) {
      found.flags |= IP6_FH_F_FRAG;
      if (at + 4 > end) return -1;
      const offset = read16(bytes, at + 2) & 0xfff8;
      if (offset !== 0) {
        if (target < 0 && (!isKernelExtensionHeader(following) || following === IpProtocol.NONE)) {
          found.fragmentOffset = offset;
          found.protocol = following;
          return following;
        }
        if (!isTarget) return -1;
        found.fragmentOffset = offset;
        break;
      }
      length = 8;
    } else if (next === IpProtocol.AH) {
      if (target < 0 && (flags & IP6_FH_F_AUTH) !== 0) break;
      length = (read8(bytes, at + 1) + 2) * 4;
    }
    if (isTarget) break;
    next = following;
    at += length;
  }
  found.offset = at - start;
  found.protocol = next;
  return next;
}
