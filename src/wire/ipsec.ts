/** What can be read of IPsec packets without keys: ESP (RFC 4303 §2) and AH (RFC 4302 §2) headers. */
import { concatenate, copyBytes, read8, read16, read32, write16, write32 } from './bytes.ts';
import { requireBits, WireError, type WireProblem } from './problem.ts';

/** Security parameters index of an ESP header, host order. */
export function espSpi(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset);
}
/** Sequence number of an ESP header. */
export function espSequence(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 4);
}
/** What is wrong with the ESP header at `offset`, or `undefined`. */
export function checkEsp(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  return end - offset < 8 ? 'truncated' : undefined;
}
/** ESP header fields. */
export interface EspHeader {
  readonly spi: number;
  readonly sequence: number;
}
/** Parses an ESP header; `undefined` when it is not all there. */
export function parseEsp(bytes: Uint8Array, offset = 0, end: number = bytes.length): EspHeader | undefined {
  if (checkEsp(bytes, offset, end) !== undefined) return undefined;
  return { spi: espSpi(bytes, offset), sequence: espSequence(bytes, offset) };
}
/** ESP header and ciphertext. */
export function emitEsp(header: EspHeader, payload: Uint8Array): Uint8Array {
  const head = new Uint8Array(8);
  write32(head, 0, header.spi);
  write32(head, 4, header.sequence);
  return concatenate(head, payload);
}

/** Protocol of what follows an AH header. */
export function ahNextHeader(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset);
}
/** The length field as it stands: the header's 32-bit words less 2 (`hdrlen` of struct ip_auth_hdr). */
export function ahLengthField(bytes: Uint8Array, offset: number): number {
  return read8(bytes, offset + 1);
}
/** Bytes of the AH header. */
export function ahHeaderLength(bytes: Uint8Array, offset: number): number {
  return (read8(bytes, offset + 1) + 2) * 4;
}
/** The reserved field, host order. */
export function ahReserved(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Security parameters index of an AH header, host order. */
export function ahSpi(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 4);
}
/** Sequence number of an AH header. */
export function ahSequence(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + 8);
}
/** What is wrong with the AH header at `offset`, or `undefined`. */
export function checkAh(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  if (end - offset < 12) return 'truncated';
  if (ahHeaderLength(bytes, offset) < 12) return 'header-length';
  return end - offset < ahHeaderLength(bytes, offset) ? 'truncated' : undefined;
}
/** AH header fields. */
export interface AhHeader {
  readonly nextHeader: number;
  readonly reserved: number;
  readonly spi: number;
  readonly sequence: number;
  /** Integrity check value, a multiple of 4 bytes. */
  readonly icv: Uint8Array;
}
/** Parses an AH header; `undefined` when {@link checkAh} finds a problem. */
export function parseAh(bytes: Uint8Array, offset = 0, end: number = bytes.length): AhHeader | undefined {
  if (checkAh(bytes, offset, end) !== undefined) return undefined;
  return {
    nextHeader: ahNextHeader(bytes, offset),
    reserved: ahReserved(bytes, offset),
    spi: ahSpi(bytes, offset),
    sequence: ahSequence(bytes, offset),
    icv: copyBytes(bytes, offset + 12, offset + ahHeaderLength(bytes, offset)),
  };
}
/** AH header and what follows. Throws WireError for an ICV that no length field can state. */
export function emitAh(header: AhHeader, payload: Uint8Array): Uint8Array {
  if (header.icv.length % 4 !== 0 || header.icv.length > 1016) {
    throw new WireError(`ah icv has ${header.icv.length} bytes`, 'give at most 1016 bytes, a multiple of 4');
  }
  requireBits('ah next header', header.nextHeader, 8);
  requireBits('ah reserved', header.reserved, 16);
  const head = new Uint8Array(12);
  head[0] = header.nextHeader;
  head[1] = 1 + header.icv.length / 4;
  write16(head, 2, header.reserved);
  write32(head, 4, header.spi);
  write32(head, 8, header.sequence);
  return concatenate(head, header.icv, payload);
}
