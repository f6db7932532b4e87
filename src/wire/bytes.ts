/**
 * Integers in byte arrays, network order unless the name says otherwise.
 *
 * Reads never throw: bytes beyond the end of the array read as zero. Writes beyond the end are lost.
 */

/** 16 bits, big endian. */
export function read16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/** 24 bits, big endian. */
export function read24(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 16) | (bytes[offset + 1]! << 8) | bytes[offset + 2]!;
}

/** 32 bits, big endian, unsigned. */
export function read32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>>
    0
  );
}

/** 8 bits; zero beyond the end. */
export function read8(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | 0;
}

/** 16 bits, big endian; higher bits of the value are dropped. */
export function write16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

/** 32 bits, big endian. */
export function write32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/** The bytes of all parts, one after the other. */
export function concatenate(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** A copy of `bytes[start, end)`. Not `slice`: that of Node's Buffer is a view. */
export function copyBytes(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const part = bytes.subarray(start, end);
  const copy = new Uint8Array(part.length);
  copy.set(part);
  return copy;
}
