/** Netlink messages and attributes: netlink(7), include/uapi/linux/netlink.h. Headers are in host (little-endian) order. */

const NLMSG_HEADER = 16;
export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the header. */
  readonly payload: Uint8Array;
}

const align = (length: number): number => (length + 3) & ~3;

/** Header and payload parts, one after the other. */
export function encodeMessage(
  type: number,
  flags: number,
  sequence: number,
  parts: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  const body = join(parts);
  const bytes = new Uint8Array(align(NLMSG_HEADER + body.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, NLMSG_HEADER + body.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(body, NLMSG_HEADER);
  return bytes;
}

/** The messages of one datagram; stops at the first one that does not fit. */
export function* decodeMessages(bytes: Uint8Array): Generator<NetlinkMessage> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset + NLMSG_HEADER <= bytes.length; ) {
    const length = view.getUint32(offset, true);
    if (length < NLMSG_HEADER || offset + length > bytes.length) return;
    yield {
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      sequence: view.getUint32(offset + 8, true),
      payload: bytes.subarray(offset + NLMSG_HEADER, offset + length),
    };
    offset += align(length);
  }
}

/** One attribute, padded to four bytes. */
export function attribute(type: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(align(4 + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + payload.length, true);
  view.setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
}

/** An attribute that holds attributes. */
export function nested(type: number, ...children: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return attribute(type | NLA_F_NESTED, join(children));
}

export function u8Attribute(type: number, value: number): Uint8Array<ArrayBuffer> {
  return attribute(type, Uint8Array.of(value));
}

export function u16Attribute(type: number, value: number): Uint8Array<ArrayBuffer> {
  return attribute(type, Uint8Array.of(value & 0xff, value >> 8));
}

export function u32Attribute(type: number, value: number): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, value, true);
  return attribute(type, payload);
}

/** nf_tables keeps its numbers in network order. */
export function u32BeAttribute(type: number, value: number): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, value);
  return attribute(type, payload);
}

/** Text with its terminating NUL. */
export function stringAttribute(type: number, text: string): Uint8Array<ArrayBuffer> {
  return attribute(type, new TextEncoder().encode(`${text}\0`));
}

/** Attributes by type; of a type that comes twice the last one counts. */
export function decodeAttributes(bytes: Uint8Array): ReadonlyMap<number, Uint8Array> {
  return new Map(listAttributes(bytes));
}

/** Attributes in order, for lists whose elements all have one type. */
export function* listAttributes(bytes: Uint8Array): Generator<readonly [type: number, payload: Uint8Array]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset + 4 <= bytes.length; ) {
    const length = view.getUint16(offset, true);
    if (length < 4 || offset + length > bytes.length) return;
    yield [view.getUint16(offset + 2, true) & NLA_TYPE_MASK, bytes.subarray(offset + 4, offset + length)];
    offset += align(length);
  }
}

/** First four bytes as a little-endian number. */
export function readU32(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(0, true);
}

/** Puts byte arrays one after the other. */
export function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
