/**
 * Where the transport header is, as ip_tables and ip6_tables tell matches: `struct xt_action_param` thoff and
 * fragoff (net/ipv4/netfilter/ip_tables.c, net/ipv6/netfilter/ip6_tables.c, ipv6_find_hdr in exthdrs_core.c).
 */
import type { Family } from '../../net/index.ts';

export interface TransportPosition {
  /** Protocol number; -1 when the IPv6 chain is cut short or hides it behind a later fragment. */
  readonly protocol: number;
  /** Byte offset of the transport header; 0 in later IPv6 fragments, as the kernel leaves it. */
  readonly transportOffset: number;
  /** IPv4 in units of 8 bytes; IPv6 in bytes, multiples of 8, and 0 wherever `protocol` is -1. */
  readonly fragmentOffset: number;
}

const HOPOPTS = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTH = 51;
const NONE = 59;
const DSTOPTS = 60;
const EXTENSIONS: ReadonlySet<number> = new Set([HOPOPTS, ROUTING, FRAGMENT, AUTH, NONE, DSTOPTS]);
const NOT_FOUND: TransportPosition = { protocol: -1, transportOffset: 0, fragmentOffset: 0 };

/** The bytes begin with an IP header of the family that was checked on receipt. */
export function transportPosition(family: Family, bytes: Uint8Array): TransportPosition {
  if (family === 'ipv6') return ipv6Position(bytes);
  return {
    protocol: bytes[9]!,
    transportOffset: (bytes[0]! & 0x0f) * 4,
    fragmentOffset: ((bytes[6]! << 8) | bytes[7]!) & 0x1fff,
  };
}

function ipv6Position(bytes: Uint8Array): TransportPosition {
  let next = bytes[6]!;
  let offset = 40;
  while (EXTENSIONS.has(next) && next !== NONE) {
    if (offset + 2 > bytes.length) return NOT_FOUND;
    const following = bytes[offset]!;
    let length = (bytes[offset + 1]! + 1) * 8;
    if (next === AUTH) length = (bytes[offset + 1]! + 2) * 4;
    if (next === FRAGMENT) {
      if (offset + 4 > bytes.length) return NOT_FOUND;
      const fragmentOffset = ((bytes[offset + 2]! << 8) | bytes[offset + 3]!) & 0xfff8;
      if (fragmentOffset !== 0) {
        if (EXTENSIONS.has(following) && following !== NONE) return NOT_FOUND;
        return { protocol: following, transportOffset: 0, fragmentOffset };
      }
      length = 8;
    }
    next = following;
    offset += length;
  }
  return { protocol: next, transportOffset: offset, fragmentOffset: 0 };
}
