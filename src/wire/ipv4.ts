/**
 * IPv4 headers (RFC 791 §3.1).
 *
 * Accessors read a header that begins at `offset`; they are meant for packets that {@link checkIpv4} passed, and on
 * others read zero for what is missing.
 */

import { concatenate, copyBytes, read8, read16, read32, write16 } from './bytes.ts';
import { addToSum, finishSum, internetChecksum } from './checksum.ts';
import { requireBits, requireLength, WireError, type WireProblem } from './problem.ts';

/** Bytes of a header without options. */
export const IPV4_HEADER_LENGTH = 20;

/** Bits of the flags and fragment offset word (net/ip.h: IP_CE, IP_DF, IP_MF, IP_OFFSET). */
export const IP_CE = 0x8000;
export const IP_DF = 0x4000;
export const IP_MF = 0x2000;
export const IP_OFFSET = 0x1fff;

/** 4 in a good header. */
export function ipv4Version(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! >>> 4;
}
/** Bytes of the header with options: 4 times the IHL field. */
export function ipv4HeaderLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! & 0x0f) * 4;
}
/** The TOS byte: DSCP and ECN. */
export function ipv4Tos(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 1);
}
/** Bytes of the whole packet, as its field says. */
export function ipv4TotalLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** The identification that the fragments of one packet share, host order. */
export function ipv4Id(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 4);
}
/** Flags and fragment offset in one word, host order: IP_CE, IP_DF, IP_MF, IP_OFFSET. */
export function ipv4FragmentWord(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 6);
}
/** Fragment offset in units of 8 bytes. */
export function ipv4FragmentOffset(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 6) & IP_OFFSET;
}
/** More fragments follow. */
export function ipv4MoreFragments(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + 6) & IP_MF) !== 0;
}
/** Must not be fragmented on the way. */
export function ipv4DontFragment(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + 6) & IP_DF) !== 0;
}
/** True for first, middle and last fragments; false for whole packets (ip_is_fragment). */
export function ipv4IsFragment(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + 6) & (IP_MF | IP_OFFSET)) !== 0;
}
/** Time to live. */
export function ipv4Ttl(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 8);
}
/** Protocol of what follows the header. */
export function ipv4Protocol(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 9);
}
/** Header checksum as it stands. */
export function ipv4Checksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 10);
}
/** Source address as 32 bits, host order. */
export function ipv4Source(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 12);
}
/** Destination address as 32 bits, host order. */
export function ipv4Destination(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 16);
}

/**
 * What is wrong with the packet at `offset`, or `undefined`. The order is that of ip_rcv_core (net/ipv4/ip_input.c),
 * which drops the packet for each of these.
 */
export function checkIpv4(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  const available = end - offset;
  if (available < IPV4_HEADER_LENGTH) return 'truncated';
  if (ipv4Version(bytes, offset) !== 4) return 'version';
  const headerLength = ipv4HeaderLength(bytes, offset);
  if (headerLength < IPV4_HEADER_LENGTH) return 'header-length';
  if (available < headerLength) return 'truncated';
  const totalLength = ipv4TotalLength(bytes, offset);
  if (available < totalLength) return 'packet-truncated';
  return totalLength < headerLength ? 'total-length' : undefined;
}

/** True when the header checksum is right. */
export function verifyIpv4Checksum(bytes: Uint8Array, offset = 0): boolean {
  return internetChecksum(bytes, offset, offset + ipv4HeaderLength(bytes, offset)) === 0;
}

/** The checksum that the header should have. */
export function computeIpv4Checksum(bytes: Uint8Array, offset = 0): number {
  const sum = addToSum(0, bytes, offset, offset + 10);
  return finishSum(addToSum(sum, bytes, offset + 12, offset + ipv4HeaderLength(bytes, offset)));
}

/** Header fields. Those marked so are computed by {@link emitIpv4} when absent. */
export interface Ipv4Header {
  readonly tos: number;
  /** Computed when absent: header and payload. */
  readonly totalLength?: number;
  readonly id: number;
  /** The reserved bit ("evil bit"). */
  readonly reservedFlag: boolean;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In units of 8 bytes. */
  readonly fragmentOffset: number;
  readonly ttl: number;
  readonly protocol: number;
  /** Computed when absent. */
  readonly checksum?: number;
  /** 4 bytes, network order. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** Raw, up to 40 bytes, a multiple of 4. */
  readonly options: Uint8Array;
}

/** Parses the header, also of a packet that ends early; `undefined` when the header itself has a problem. */
export function parseIpv4(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<Ipv4Header> | undefined {
  const problem = checkIpv4(bytes, offset, end);
  if (problem !== undefined && problem !== 'packet-truncated' && problem !== 'total-length') return undefined;
  const word = ipv4FragmentWord(bytes, offset);
  return {
    tos: ipv4Tos(bytes, offset),
    totalLength: ipv4TotalLength(bytes, offset),
    id: ipv4Id(bytes, offset),
    reservedFlag: (word & IP_CE) !== 0,
    dontFragment: (word & IP_DF) !== 0,
    moreFragments: (word & IP_MF) !== 0,
    fragmentOffset: word & IP_OFFSET,
    ttl: ipv4Ttl(bytes, offset),
    protocol: ipv4Protocol(bytes, offset),
    checksum: ipv4Checksum(bytes, offset),
    source: copyBytes(bytes, offset + 12, offset + 16),
    destination: copyBytes(bytes, offset + 16, offset + 20),
    options: copyBytes(bytes, offset + 20, offset + ipv4HeaderLength(bytes, offset)),
  };
}

/** The packet: header, options, payload. Throws WireError for values that do not fit. */
export function emitIpv4(header: Ipv4Header, payload: Uint8Array): Uint8Array {
  const headerLength = IPV4_HEADER_LENGTH + header.options.length;
  if (headerLength % 4 !== 0 || headerLength > 60) {
    throw new WireError(
      `ipv4 options have ${header.options.length} bytes`,
      'give at most 40 bytes, a multiple of 4',
    );
  }
  const totalLength = header.totalLength ?? headerLength + payload.length;
  requireBits('ipv4 total length', totalLength, 16);
  requireBits('ipv4 tos', header.tos, 8);
  requireBits('ipv4 id', header.id, 16);
  requireBits('ipv4 fragment offset', header.fragmentOffset, 13);
  requireBits('ipv4 ttl', header.ttl, 8);
  requireBits('ipv4 protocol', header.protocol, 8);
  requireLength('ipv4 source', header.source, 4);
  requireLength('ipv4 destination', header.destination, 4);
  const head = new Uint8Array(headerLength);
  head[0] = 0x40 | (headerLength / 4);
  head[1] = header.tos;
  write16(head, 2, totalLength);
  write16(head, 4, header.id);
  const flags =
    (header.reservedFlag ? IP_CE : 0) |
    (header.dontFragment ? IP_DF : 0) |
    (header.moreFragments ? IP_MF : 0);
  write16(head, 6, flags | header.fragmentOffset);
  head[8] = header.ttl;
  head[9] = header.protocol;
  head.set(header.source, 12);
  head.set(header.destination, 16);
  head.set(header.options, IPV4_HEADER_LENGTH);
  write16(head, 10, header.checksum ?? computeIpv4Checksum(head));
  return concatenate(head, payload);
}
