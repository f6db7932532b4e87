/** Single fields of IP headers changed, the checksum adjusted by what changed. Sources: net/dsfield.h, net/netfilter/xt_HL.c. */
import { updateChecksum16 } from '../../wire/index.ts';
import type { EvaluationPacket } from '../evaluate/packet.ts';

function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** A copy with one 16-bit word of the header replaced. */
export function withIpv4Word(bytes: Uint8Array, at: number, word: number): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  view.setUint16(10, updateChecksum16(read16(bytes, 10), read16(bytes, at), word));
  view.setUint16(at, word);
  return copy;
}

/** A copy with another TOS byte or traffic class; the same bytes when nothing changes. */
export function withDsField(
  { family, bytes }: EvaluationPacket,
  change: (field: number) => number,
): Uint8Array {
  if (family === 'ipv4') {
    const field = change(bytes[1]!) & 0xff;
    return field === bytes[1] ? bytes : withIpv4Word(bytes, 0, (bytes[0]! << 8) | field);
  }
  const word = read16(bytes, 0);
  const field = change((word >> 4) & 0xff) & 0xff;
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint16(0, (word & 0xf00f) | (field << 4));
  return copy;
}

/** A copy with another time to live or hop limit; the same bytes when nothing changes. */
export function withHopLimit(
  { family, bytes }: EvaluationPacket,
  change: (hopLimit: number) => number,
): Uint8Array {
  const at = family === 'ipv4' ? 8 : 7;
  const next = change(bytes[at]!);
  if (next === bytes[at]) return bytes;
  if (family === 'ipv4') return withIpv4Word(bytes, 8, (next << 8) | bytes[9]!);
  const copy = bytes.slice();
  copy[at] = next;
  return copy;
}
