/** DCCP generic headers (RFC 4340 §5.1). */
import { read8, read16, read24 } from './bytes.ts';
import type { WireProblem } from './problem.ts';

/** Bytes of the generic header with short sequence numbers. */
export const DCCP_HEADER_LENGTH = 12;

/** Host order. */
export function dccpSourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}
/** Host order. */
export function dccpDestinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Bytes from the header's start to the application data: 4 times the data offset field. */
export function dccpDataOffset(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 4) * 4;
}
/** Packet type, 0 to 15. */
export function dccpType(bytes: Uint8Array, offset: number): number {
  return (read8(bytes, offset + 8) >>> 1) & 0x0f;
}
/** True when sequence numbers have 48 bits. */
export function dccpExtended(bytes: Uint8Array, offset: number): boolean {
  return (read8(bytes, offset + 8) & 1) !== 0;
}
/** How much the checksum covers (CsCov, RFC 4340 §9.2): 0 all, else header, options and `coverage - 1` words. */
export function dccpCoverage(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 5) & 0x0f;
}
/** Checksum as it stands. */
export function dccpChecksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 6);
}

/** What is wrong with the generic header at `offset`, or `undefined`. */
export function checkDccp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  if (end - offset < DCCP_HEADER_LENGTH) return 'truncated';
  const length = dccpExtended(bytes, offset) ? 16 : DCCP_HEADER_LENGTH;
  if (dccpDataOffset(bytes, offset) < length) return 'header-length';
  return end - offset < dccpDataOffset(bytes, offset) ? 'truncated' : undefined;
}

/** Generic header fields. */
export interface DccpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly dataOffset: number;
  readonly ccval: number;
  readonly coverage: number;
  readonly checksum: number;
  readonly type: number;
  readonly extended: boolean;
  /** 24 bits, or 48 with `extended`. */
  readonly sequence: number;
}

/** Parses the header; `undefined` when {@link checkDccp} finds a problem. */
export function parseDccp(bytes: Uint8Array, offset = 0, end: number = bytes.length): DccpHeader | undefined {
  if (checkDccp(bytes, offset, end) !== undefined) return undefined;
  const extended = dccpExtended(bytes, offset);
  return {
    sourcePort: dccpSourcePort(bytes, offset),
    destinationPort: dccpDestinationPort(bytes, offset),
    dataOffset: dccpDataOffset(bytes, offset),
    ccval: read8(bytes, offset + 5) >>> 4,
    coverage: dccpCoverage(bytes, offset),
    checksum: dccpChecksum(bytes, offset),
    type: dccpType(bytes, offset),
    extended,
    sequence: extended
      ? read24(bytes, offset + 10) * 2 ** 24 + read24(bytes, offset + 13)
      : read24(bytes, offset + 9),
  };
}

/** Header, then `rest`: options and data. `dataOffset` must say where the data begins. */
export function emitDccp(header: DccpHeader, rest: Uint8Array): Uint8Array {
  const length = header.extended ? 16 : DCCP_HEADER_LENGTH;
  const bytes = new Uint8Array(length + rest.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, header.sourcePort);
  view.setUint16(2, header.destinationPort);
  view.setUint8(4, header.dataOffset / 4);
  view.setUint8(5, (header.ccval << 4) | header.coverage);
  view.setUint16(6, header.checksum);
  view.setUint8(8, (header.type << 1) | (header.extended ? 1 : 0));
  const high = header.extended ? Math.floor(header.sequence / 2 ** 32) : header.sequence >>> 16;
  if (header.extended) {
    view.setUint16(10, high);
    view.setUint32(12, header.sequence % 2 ** 32);
  } else {
    view.setUint8(9, high);
    view.setUint16(10, header.sequence & 0xffff);
  }
  bytes.set(rest, length);
  return bytes;
}
