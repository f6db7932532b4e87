/** SCTP packets and chunks (RFC 9260 §3), with its CRC32c checksum (RFC 9260 appendix A). */
import { concatenate, read8, read16, read32, write16, write32 } from './bytes.ts';
import { requireBits, type WireProblem } from './problem.ts';

/** Bytes of the common header. */
export const SCTP_HEADER_LENGTH = 12;

/** Host order. */
export function sctpSourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}
/** Host order. */
export function sctpDestinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Verification tag. */
export function sctpTag(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 4);
}
/** Checksum as it stands, its four bytes read in network order. */
export function sctpChecksum(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 8);
}

/** What is wrong with the common header at `offset`, or `undefined`. */
export function checkSctp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): WireProblem | undefined {
  return end - offset < SCTP_HEADER_LENGTH ? 'truncated' : undefined;
}

/** One chunk; `value` is a view over the packet without padding. */
export interface SctpChunk {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly value: Uint8Array;
}

/** Chunks from `offset`, where the first one begins, and whether they filled the packet well formed. */
export function walkChunks(
  bytes: Uint8Array,
  offset: number,
  end: number = bytes.length,
): { readonly chunks: readonly SctpChunk[]; readonly wellFormed: boolean } {
  const chunks: SctpChunk[] = [];
  const limit = Math.min(end, bytes.length);
  for (let at = offset; at < limit; ) {
    const length = at + 4 <= limit ? read16(bytes, at + 2) : 0;
    if (length < 4 || at + length > limit) return { chunks, wellFormed: false };
    chunks.push({
      type: bytes[at]!,
      flags: bytes[at + 1]!,
      offset: at,
      value: bytes.subarray(at + 4, at + length),
    });
    at += (length + 3) & ~3;
  }
  return { chunks, wellFormed: true };
}

/** Common header fields. */
export interface SctpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly tag: number;
  /** Computed when absent. */
  readonly checksum?: number;
}

/** Parses the common header; `undefined` when it is not all there. */
export function parseSctp(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Required<SctpHeader> | undefined {
  if (checkSctp(bytes, offset, end) !== undefined) return undefined;
  return {
    sourcePort: sctpSourcePort(bytes, offset),
    destinationPort: sctpDestinationPort(bytes, offset),
    tag: sctpTag(bytes, offset),
    checksum: sctpChecksum(bytes, offset),
  };
}

/** Common header and chunks. Throws WireError for values that do not fit. */
export function emitSctp(header: SctpHeader, chunks: Uint8Array): Uint8Array {
  requireBits('sctp source port', header.sourcePort, 16);
  requireBits('sctp destination port', header.destinationPort, 16);
  requireBits('sctp verification tag', header.tag, 32);
  const head = new Uint8Array(SCTP_HEADER_LENGTH);
  write16(head, 0, header.sourcePort);
  write16(head, 2, header.destinationPort);
  write32(head, 4, header.tag);
  const packet = concatenate(head, chunks);
  write32(packet, 8, header.checksum ?? computeSctpChecksum(packet));
  return packet;
}

/** One chunk, padded to a multiple of 4. */
export function emitChunk(type: number, flags: number, value: Uint8Array): Uint8Array {
  requireBits('sctp chunk type', type, 8);
  requireBits('sctp chunk flags', flags, 8);
  requireBits('sctp chunk length', value.length + 4, 16);
  const chunk = new Uint8Array((value.length + 7) & ~3);
  chunk[0] = type;
  chunk[1] = flags;
  write16(chunk, 2, value.length + 4);
  chunk.set(value, 4);
  return chunk;
}

const CRC32C = crcTable();

function crcTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let index = 0; index < 256; index++) {
    let value = index;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    table[index] = value >>> 0;
  }
  return table;
}

/** The checksum that the packet in `bytes[offset, end)` should have, as {@link sctpChecksum} reads it. */
export function computeSctpChecksum(bytes: Uint8Array, offset = 0, end: number = bytes.length): number {
  let crc = 0xffffffff;
  for (let at = offset; at < end; at++) {
    // The checksum's own four bytes count as zero.
    const byte = at >= offset + 8 && at < offset + 12 ? 0 : read8(bytes, at);
    crc = CRC32C[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  }
  const value = ~crc;
  // The CRC goes on the wire lowest byte first.
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
