/**
 * Where the transport header is, as ip_tables and ip6_tables tell matches: `struct xt_action_param` thoff and
 * fragoff (net/ipv4/netfilter/ip_tables.c, net/ipv6/netfilter/ip6_tables.c).
 */
import type { Family } from '../../net/index.ts';
import { findIpv6Header, newFoundHeader } from '../../wire/index.ts';

export interface TransportPosition {
  /** Protocol number; -1 when the IPv6 chain is cut short or hides it behind a later fragment. */
  readonly protocol: number;
  /** Byte offset of the transport header; 0 in later IPv6 fragments, as the kernel leaves it. */
  readonly transportOffset: number;
  /** IPv4 in units of 8 bytes; IPv6 in bytes, multiples of 8, and 0 wherever `protocol` is -1. */
  readonly fragmentOffset: number;
}

const LAST_HEADER = -1;

/** The bytes begin with an IP header of the family that was checked on receipt. */
export function transportPosition(family: Family, bytes: Uint8Array): TransportPosition {
  if (family === 'ipv4') {
    return {
      protocol: bytes[9]!,
      transportOffset: (bytes[0]! & 0x0f) * 4,
      fragmentOffset: ((bytes[6]! << 8) | bytes[7]!) & 0x1fff,
    };
  }
  const found = newFoundHeader();
  const protocol = findIpv6Header(bytes, 0, bytes.length, LAST_HEADER, 0, found);
  return { protocol, transportOffset: found.offset, fragmentOffset: found.fragmentOffset };
}
