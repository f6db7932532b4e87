/**
 * IPv6 fixed headers (RFC 8200 §3). Accessors as in ipv4.ts: for packets that {@link checkIpv6} passed.
 */
import { concatenate, copyBytes, read8, read16, read32, write16, write32 } from './bytes.ts';
import { requireBits, requireLength, type WireProblem } from './problem.ts';
import { IpProtocol } from './protocol.ts';

/** Bytes of the fixed header. */
export const IPV6_HEADER_LENGTH = 40;

/** 6 in a good header. */
export function ipv6Version(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! >>> 4;
}
/** Traffic class: DSCP and ECN. */
export function ipv6TrafficClass(bytes: Uint8Array, offset: number): number {
  return (read16(bytes, offset) >>> 4) & 0xff;
}
/** 20 bits. */
export function ipv6FlowLabel(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset) & 0xfffff;
}
/** Bytes after the fixed header, as its field says; 0 also for jumbograms. */
export function ipv6PayloadLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 4);
}
/** Type of the header after the fixed one. */
export function ipv6NextHeader(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 6);
}
/** Hop limit. */
export function ipv6HopLimit(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 7);
}

/**
 * Bytes of the whole packet: the fixed header and its payload length, or the jumbo payload length
 * (RFC 2675) of a hop-by-hop header; `undefined` where neither says, so that the packet ends with its frame.
 * As ip6_rcv_core (net/ipv6/ip6_input.c) trims.
 */
export function ipv6TotalLength(
  bytes: Uint8Array,
  offset: number,
  end: number = bytes.length,
): number | undefined {
  const payloadLength = ipv6PayloadLength(bytes, offset);
  if (payloadLength !== 0 || ipv6NextHeader(bytes, offset) !== IpProtocol.HOPOPTS) {
    return IPV6_HEADER_LENGTH + payloadLength;
  }
  const start = offset + IPV6_HEADER_LENGTH;
  const stop = Math.min(end, start + (read8(bytes, start + 1) + 1) * 8);
  for (let at = start + 2; at + 1 < stop; ) {
    const type = bytes[at]!;
    // Jumbo payload: type 0xc2, length 4, and only lengths that do not fit the ordinary field.
    if (type === 0xc2 && bytes[at + 1] === 4 && at + 6 <= stop) {
      const jumbo = read32(bytes, at + 2);
      return jumbo > 0xffff ? IPV6_HEADER_LENGTH + jumbo : undefined;
    }
    at += type === 0 ? 1 : 2 + bytes[at + 1]!;
  }
  return undefined;
}

/** What is wrong with the packet at `offset`, or `undefined`. */
export function checkIpv6(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  if (end - offset < IPV6_HEADER_LENGTH) return 'truncated';
  if (ipv6Version(bytes, offset) !== 6) return 'version';
  const totalLength = ipv6TotalLength(bytes, offset, end);
  return totalLength !== undefined && end - offset < totalLength ? 'packet-truncated' : undefined;
}

/** Fixed header fields. */
export interface Ipv6Header {
  readonly trafficClass: number;
  readonly flowLabel: number;
  /** Computed by {@link emitIpv6} when absent: what follows the fixed header. */
  readonly payloadLength?: number;
  readonly nextHeader: number;
  readonly hopLimit: number;
  /** 16 bytes, network order. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Parses the fixed header, also of a packet that ends early; `undefined` when the header itself has a problem. */
export function parseIpv6(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<Ipv6Header> | undefined {
  const problem = checkIpv6(bytes, offset, end);
  if (problem !== undefined && problem !== 'packet-truncated') return undefined;
  return {
    trafficClass: ipv6TrafficClass(bytes, offset),
    flowLabel: ipv6FlowLabel(bytes, offset),
    payloadLength: ipv6PayloadLength(bytes, offset),
    nextHeader: ipv6NextHeader(bytes, offset),
    hopLimit: ipv6HopLimit(bytes, offset),
    source: copyBytes(bytes, offset + 8, offset + 24),
    destination: copyBytes(bytes, offset + 24, offset + 40),
  };
}

/** The packet: fixed header, then `payload` (extension headers included). Throws WireError for values that do not fit. */
export function emitIpv6(header: Ipv6Header, payload: Uint8Array): Uint8Array {
  const payloadLength = header.payloadLength ?? payload.length;
  requireBits('ipv6 payload length', payloadLength, 16);
  requireBits('ipv6 traffic class', header.trafficClass, 8);
  requireBits('ipv6 flow label', header.flowLabel, 20);
  requireBits('ipv6 next header', header.nextHeader, 8);
  requireBits('ipv6 hop limit', header.hopLimit, 8);
  requireLength('ipv6 source', header.source, 16);
  requireLength('ipv6 destination', header.destination, 16);
  const head = new Uint8Array(IPV6_HEADER_LENGTH);
  write32(head, 0, 0x60000000 | (header.trafficClass << 20) | header.flowLabel);
  write16(head, 4, payloadLength);
  head[6] = header.nextHeader;
  head[7] = header.hopLimit;
  head.set(header.source, 8);
  head.set(header.destination, 24);
  return concatenate(head, payload);
}
