/** TCP headers (RFC 9293 §3.1). Accessors are for headers that {@link checkTcp} passed. */
import { concatenate, copyBytes, read8, read16, read32, write16, write32 } from './bytes.ts';
import { requireBits, WireError, type WireProblem } from './problem.ts';

/** Bytes of a header without options. */
export const TCP_HEADER_LENGTH = 20;

/** Bits of byte 13, and the accurate-ECN bit of byte 12 as bit 8 (RFC 9293 §3.1, RFC 9768). */
export const TcpFlag = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  URG: 0x20,
  ECE: 0x40,
  CWR: 0x80,
  AE: 0x100,
} as const;

/** Host order. */
export function tcpSourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}
/** Host order. */
export function tcpDestinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Sequence number. */
export function tcpSequence(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 4);
}
/** Acknowledgment number, meaningful with ACK. */
export function tcpAcknowledgment(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 8);
}
/** Bytes of the header with options: 4 times the data offset field. */
export function tcpHeaderLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + 12]! >>> 4) * 4;
}
/** The eight flags of byte 13. */
export function tcpFlags(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 13);
}
/** Window as it stands, not scaled. */
export function tcpWindow(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 14);
}
/** Checksum as it stands. */
export function tcpChecksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 16);
}
/** Urgent pointer, meaningful with URG. */
export function tcpUrgentPointer(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 18);
}

/** What is wrong with the header at `offset`, or `undefined`. */
export function checkTcp(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  if (end - offset < TCP_HEADER_LENGTH) return 'truncated';
  const length = tcpHeaderLength(bytes, offset);
  if (length < TCP_HEADER_LENGTH) return 'header-length';
  return end - offset < length ? 'truncated' : undefined;
}

/** Header fields. */
export interface TcpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  /** The four bits between data offset and flags, of which AE is the lowest. */
  readonly reserved: number;
  /** Bits of {@link TcpFlag} up to CWR. */
  readonly flags: number;
  readonly window: number;
  /** Zero when absent: `fillTransportChecksum` computes it, which needs the addresses. */
  readonly checksum?: number;
  readonly urgentPointer: number;
  /** Raw, up to 40 bytes, a multiple of 4. */
  readonly options: Uint8Array;
}

/** Parses the header; `undefined` when {@link checkTcp} finds a problem. */
export function parseTcp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<TcpHeader> | undefined {
  if (checkTcp(bytes, offset, end) !== undefined) return undefined;
  return {
    sourcePort: tcpSourcePort(bytes, offset),
    destinationPort: tcpDestinationPort(bytes, offset),
    sequence: tcpSequence(bytes, offset),
    acknowledgment: tcpAcknowledgment(bytes, offset),
    reserved: bytes[offset + 12]! & 0x0f,
    flags: tcpFlags(bytes, offset),
    window: tcpWindow(bytes, offset),
    checksum: tcpChecksum(bytes, offset),
    urgentPointer: tcpUrgentPointer(bytes, offset),
    options: copyBytes(bytes, offset + TCP_HEADER_LENGTH, offset + tcpHeaderLength(bytes, offset)),
  };
}

/** Header, options, payload. Throws WireError for values that do not fit. */
export function emitTcp(header: TcpHeader, payload: Uint8Array): Uint8Array {
  const length = TCP_HEADER_LENGTH + header.options.length;
  if (length % 4 !== 0 || length > 60) {
    throw new WireError(
      `tcp options have ${header.options.length} bytes`,
      'give at most 40 bytes, a multiple of 4',
    );
  }
  requireBits('tcp source port', header.sourcePort, 16);
  requireBits('tcp destination port', header.destinationPort, 16);
  requireBits('tcp sequence number', header.sequence, 32);
  requireBits('tcp acknowledgment number', header.acknowledgment, 32);
  requireBits('tcp reserved bits', header.reserved, 4);
  requireBits('tcp flags', header.flags, 8);
  requireBits('tcp window', header.window, 16);
  requireBits('tcp urgent pointer', header.urgentPointer, 16);
  const head = new Uint8Array(length);
  write16(head, 0, header.sourcePort);
  write16(head, 2, header.destinationPort);
  write32(head, 4, header.sequence);
  write32(head, 8, header.acknowledgment);
  head[12] = (length << 2) | header.reserved;
  head[13] = header.flags;
  write16(head, 14, header.window);
  write16(head, 16, header.checksum ?? 0);
  write16(head, 18, header.urgentPointer);
  head.set(header.options, TCP_HEADER_LENGTH);
  return concatenate(head, payload);
}
