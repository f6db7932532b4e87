/** Reading headers as the kernel's matches do: skb_header_pointer gives the bytes or nothing. */
import type { ScalarField, ScalarPredicate, ScalarRange } from '../../ir/index.ts';
import type { EvaluationPacket } from '../evaluate/packet.ts';

/** True when `length` bytes are there from `offset` on. */
export function hasBytes(packet: EvaluationPacket, offset: number, length: number): boolean {
  return offset >= 0 && offset + length <= packet.bytes.length;
}

/** 16 bits in network order; the caller has made sure that they are there. */
export function readUint16(packet: EvaluationPacket, offset: number): number {
  return (packet.bytes[offset]! << 8) | packet.bytes[offset + 1]!;
}

/** 32 bits in network order, unsigned; the caller has made sure that they are there. */
export function readUint32(packet: EvaluationPacket, offset: number): number {
  return ((readUint16(packet, offset) << 16) | readUint16(packet, offset + 2)) >>> 0;
}

/** `min <= value <= max`, xor negate. */
export function inRange(
  value: number,
  range: { readonly min: number; readonly max: number },
  negate: boolean,
): boolean {
  return (value >= range.min && value <= range.max) !== negate;
}

/** A predicate over the whole of a field: in one of `ranges`, xor negate. */
export function fieldIn(field: ScalarField, ranges: readonly ScalarRange[], negate = false): ScalarPredicate {
  return { kind: 'scalar', field, mask: 0xffff_ffff, ranges, negate };
}

/** A predicate over bits of a field: `(field & mask) == value`, xor negate. */
export function fieldIs(
  field: ScalarField,
  value: number,
  negate = false,
  mask = 0xffff_ffff,
): ScalarPredicate {
  return { kind: 'scalar', field, mask: mask >>> 0, ranges: [[value >>> 0, value >>> 0]], negate };
}

/** Source or destination address of the IP header. */
export function addressOf(packet: EvaluationPacket, side: 'source' | 'destination'): Uint8Array {
  const length = packet.family === 'ipv4' ? 4 : 16;
  const start = (packet.family === 'ipv4' ? 12 : 8) + (side === 'source' ? 0 : length);
  return packet.bytes.subarray(start, start + length);
}

/** TOS byte of IPv4, traffic class of IPv6 (ipv4_get_dsfield, ipv6_get_dsfield). */
export function tosOf(packet: EvaluationPacket): number {
  const { bytes } = packet;
  return packet.family === 'ipv4' ? bytes[1]! : ((bytes[0]! & 0x0f) << 4) | (bytes[1]! >> 4);
}

/** TTL of IPv4, hop limit of IPv6. */
export function ttlOf(packet: EvaluationPacket): number {
  return packet.bytes[packet.family === 'ipv4' ? 8 : 7]!;
}

/** IPv4 total length; IPv6 payload length and the 40 bytes of the header. */
export function ipLengthOf(packet: EvaluationPacket): number {
  return packet.family === 'ipv4' ? readUint16(packet, 2) : readUint16(packet, 4) + 40;
}
