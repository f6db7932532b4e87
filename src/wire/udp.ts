/** UDP (RFC 768) and UDP-Lite (RFC 3828): one header layout, whose third field is a length or a checksum coverage. */
import { concatenate, read16, write16 } from './bytes.ts';
import { requireBits, type WireProblem } from './problem.ts';

/** Bytes of the header. */
export const UDP_HEADER_LENGTH = 8;

/** Host order. */
export function udpSourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}
/** Host order. */
export function udpDestinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** UDP: bytes of header and payload, 0 in jumbograms. */
export function udpLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 4);
}
/** UDP-Lite: bytes that the checksum covers from the header on, 0 for all. */
export function udpliteCoverage(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 4);
}
/** Checksum as it stands; 0 in UDP over IPv4 means that there is none. */
export function udpChecksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 6);
}

/** What is wrong with the UDP datagram at `offset`, or `undefined`. */
export function checkUdp(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  if (end - offset < UDP_HEADER_LENGTH) return 'truncated';
  const length = udpLength(bytes, offset);
  if (length !== 0 && length < UDP_HEADER_LENGTH) return 'total-length';
  return end - offset < length ? 'packet-truncated' : undefined;
}

/** What is wrong with the UDP-Lite packet at `offset`, or `undefined`; a coverage of 1 to 7 is `header-length`. */
export function checkUdplite(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  if (end - offset < UDP_HEADER_LENGTH) return 'truncated';
  const coverage = udpliteCoverage(bytes, offset);
  if (coverage !== 0 && coverage < UDP_HEADER_LENGTH) return 'header-length';
  return end - offset < coverage ? 'packet-truncated' : undefined;
}

/** Header fields. */
export interface UdpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** UDP: computed when absent. UDP-Lite: the coverage, 0 when absent. */
  readonly length?: number;
  /** Zero when absent: `fillTransportChecksum` computes it, which needs the addresses. */
  readonly checksum?: number;
}

/** Parses the header, also of a datagram that ends early; `undefined` when the header does. */
export function parseUdp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<UdpHeader> | undefined {
  if (end - offset < UDP_HEADER_LENGTH) return undefined;
  return {
    sourcePort: udpSourcePort(bytes, offset),
    destinationPort: udpDestinationPort(bytes, offset),
    length: udpLength(bytes, offset),
    checksum: udpChecksum(bytes, offset),
  };
}

/** A UDP datagram. Throws WireError for values that do not fit. */
export function emitUdp(header: UdpHeader, payload: Uint8Array): Uint8Array {
  return emit(header, header.length ?? UDP_HEADER_LENGTH + payload.length, payload);
}

/** A UDP-Lite packet; `length` is the coverage. Throws WireError for values that do not fit. */
export function emitUdplite(header: UdpHeader, payload: Uint8Array): Uint8Array {
  return emit(header, header.length ?? 0, payload);
}

function emit(header: UdpHeader, third: number, payload: Uint8Array): Uint8Array {
  requireBits('udp source port', header.sourcePort, 16);
  requireBits('udp destination port', header.destinationPort, 16);
  requireBits('udp length', third, 16);
  const head = new Uint8Array(UDP_HEADER_LENGTH);
  write16(head, 0, header.sourcePort);
  write16(head, 2, header.destinationPort);
  write16(head, 4, third);
  write16(head, 6, header.checksum ?? 0);
  return concatenate(head, payload);
}
