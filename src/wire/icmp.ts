/** ICMP (RFC 792) and ICMPv6 (RFC 4443): one header layout, different type numbers and checksum coverage. */
import { concatenate, read8, read16, read32, write16, write32 } from './bytes.ts';
import { requireBits, type WireProblem } from './problem.ts';

/** Bytes of the header with its rest-of-header word. */
export const ICMP_HEADER_LENGTH = 8;

/** Types of ICMP, with the kernel's names (uapi/linux/icmp.h). */
export const IcmpType = {
  ICMP_ECHOREPLY: 0,
  ICMP_DEST_UNREACH: 3,
  ICMP_SOURCE_QUENCH: 4,
  ICMP_REDIRECT: 5,
  ICMP_ECHO: 8,
  ICMP_TIME_EXCEEDED: 11,
  ICMP_PARAMETERPROB: 12,
  ICMP_TIMESTAMP: 13,
  ICMP_TIMESTAMPREPLY: 14,
  ICMP_ADDRESS: 17,
  ICMP_ADDRESSREPLY: 18,
} as const;

/** Types of ICMPv6, with the kernel's names (uapi/linux/icmpv6.h, net/ndisc.h). */
export const Icmpv6Type = {
  ICMPV6_DEST_UNREACH: 1,
  ICMPV6_PKT_TOOBIG: 2,
  ICMPV6_TIME_EXCEED: 3,
  ICMPV6_PARAMPROB: 4,
  ICMPV6_ECHO_REQUEST: 128,
  ICMPV6_ECHO_REPLY: 129,
  ICMPV6_MGM_QUERY: 130,
  ICMPV6_MGM_REPORT: 131,
  ICMPV6_MGM_REDUCTION: 132,
  NDISC_ROUTER_SOLICITATION: 133,
  NDISC_ROUTER_ADVERTISEMENT: 134,
  NDISC_NEIGHBOUR_SOLICITATION: 135,
  NDISC_NEIGHBOUR_ADVERTISEMENT: 136,
  NDISC_REDIRECT: 137,
  ICMPV6_MLD2_REPORT: 143,
} as const;

/** Type. */
export function icmpType(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset);
}
/** Code. */
export function icmpCode(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 1);
}
/** Checksum as it stands. */
export function icmpChecksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Identifier of echo and other queries, host order. */
export function icmpId(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 4);
}
/** Sequence number of echo and other queries, host order. */
export function icmpSequence(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 6);
}

/** True for the ICMP types that quote the packet they are about (icmp_is_err). */
export function isIcmpError(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}
/** True for the ICMPv6 types that quote the packet they are about (RFC 4443 §2.1: types below 128). */
export function isIcmpv6Error(type: number): boolean {
  return type < 128;
}

/** What is wrong with the message at `offset`, or `undefined`. The smallest message has its first four bytes only. */
export function checkIcmp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  return end - offset < 4 ? 'truncated' : undefined;
}

/** Header fields. */
export interface IcmpHeader {
  readonly type: number;
  readonly code: number;
  /** Zero when absent: `fillTransportChecksum` computes it. */
  readonly checksum?: number;
  /** The second word: id and sequence, gateway, MTU, pointer, as the type has it. */
  readonly rest: number;
}

/** Parses the header; `undefined` when its eight bytes are not there. */
export function parseIcmp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<IcmpHeader> | undefined {
  if (end - offset < ICMP_HEADER_LENGTH) return undefined;
  return {
    type: icmpType(bytes, offset),
    code: icmpCode(bytes, offset),
    checksum: icmpChecksum(bytes, offset),
    rest: read32(bytes, offset + 4),
  };
}

/** A message. Throws WireError for values that do not fit. */
export function emitIcmp(header: IcmpHeader, payload: Uint8Array): Uint8Array {
  requireBits('icmp type', header.type, 8);
  requireBits('icmp code', header.code, 8);
  requireBits('icmp rest of header', header.rest, 32);
  const head = new Uint8Array(ICMP_HEADER_LENGTH);
  head[0] = header.type;
  head[1] = header.code;
  write16(head, 2, header.checksum ?? 0);
  write32(head, 4, header.rest);
  return concatenate(head, payload);
}
