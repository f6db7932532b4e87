/** GRE headers, version 0 (RFC 2784, RFC 2890) and 1 (RFC 2637). */
import { concatenate, read16, read32, write16, write32 } from './bytes.ts';
import type { WireProblem } from './problem.ts';

const CHECKSUM = 0x8000;
const ROUTING = 0x4000;
const KEY = 0x2000;
const SEQUENCE = 0x1000;
const ACKNOWLEDGMENT = 0x0080;

/** Flags and version in one word, host order. */
export function greFlags(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}
/** EtherType of what is inside. */
export function greProtocol(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + 2);
}
/** Bytes of the header with the optional words that its flags name. */
export function greHeaderLength(bytes: Uint8Array, offset: number): number {
  const flags = greFlags(bytes, offset);
  let length = 4;
  if ((flags & (CHECKSUM | ROUTING)) !== 0) length += 4;
  if ((flags & KEY) !== 0) length += 4;
  if ((flags & SEQUENCE) !== 0) length += 4;
  if ((flags & 7) === 1 && (flags & ACKNOWLEDGMENT) !== 0) length += 4;
  return length;
}

/** What is wrong with the header at `offset`, or `undefined`. */
export function checkGre(bytes: Uint8Array, offset = 0, end: number = bytes.length): WireProblem | undefined {
  if (end - offset < 4) return 'truncated';
  if ((greFlags(bytes, offset) & 7) > 1) return 'version';
  return end - offset < greHeaderLength(bytes, offset) ? 'truncated' : undefined;
}

/** Header fields; an absent one has its flag clear. */
export interface GreHeader {
  readonly version: 0 | 1;
  readonly protocol: number;
  readonly checksum?: number;
  readonly key?: number;
  readonly sequence?: number;
  readonly acknowledgment?: number;
}

/** Parses the header; `undefined` when {@link checkGre} finds a problem or it has the source routing of RFC 1701. */
export function parseGre(bytes: Uint8Array, offset = 0, end: number = bytes.length): GreHeader | undefined {
  const flags = greFlags(bytes, offset);
  if (checkGre(bytes, offset, end) !== undefined || (flags & ROUTING) !== 0) return undefined;
  let at = offset + 4;
  const word = (present: boolean): number | undefined => {
    if (!present) return undefined;
    at += 4;
    return read32(bytes, at - 4);
  };
  const version = (flags & 7) === 1 ? 1 : 0;
  const checksum = word((flags & CHECKSUM) !== 0);
  const key = word((flags & KEY) !== 0);
  const sequence = word((flags & SEQUENCE) !== 0);
  const acknowledgment = word(version === 1 && (flags & ACKNOWLEDGMENT) !== 0);
  return {
    version,
    protocol: greProtocol(bytes, offset),
    ...(checksum !== undefined && { checksum: checksum >>> 16 }),
    ...(key !== undefined && { key }),
    ...(sequence !== undefined && { sequence }),
    ...(acknowledgment !== undefined && { acknowledgment }),
  };
}

/** Header and what is inside. */
export function emitGre(header: GreHeader, payload: Uint8Array): Uint8Array {
  const { checksum, key, sequence, acknowledgment, version } = header;
  const words = [checksum === undefined ? undefined : (checksum << 16) >>> 0, key, sequence, acknowledgment];
  const present = words.filter((word) => word !== undefined);
  const head = new Uint8Array(4 + present.length * 4);
  const flags =
    (checksum === undefined ? 0 : CHECKSUM) |
    (key === undefined ? 0 : KEY) |
    (sequence === undefined ? 0 : SEQUENCE) |
    (acknowledgment === undefined ? 0 : ACKNOWLEDGMENT);
  write16(head, 0, flags | version);
  write16(head, 2, header.protocol);
  for (const [index, word] of present.entries()) write32(head, 4 + index * 4, word);
  return concatenate(head, payload);
}
