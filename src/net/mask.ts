/**
 * Network masks as bytes, and what of them is a prefix length (RFC 4632 §3.1).
 *
 * A mask need not be contiguous: netfilter compares `address & mask` for any mask.
 */
import { addressLength, type Family } from './address.ts';

/** The mask whose first `length` bits are ones. Throws RangeError when the family has no such prefix. */
export function maskOfLength(family: Family, length: number): Uint8Array {
  const bytes = new Uint8Array(addressLength(family));
  if (!Number.isInteger(length) || length < 0 || length > bytes.length * 8) {
    throw new RangeError(`no ${family} prefix has length ${length}; give 0 to ${bytes.length * 8}`);
  }
  for (let index = 0; index < bytes.length; index++) {
    const bits = Math.min(8, Math.max(0, length - index * 8));
    bytes[index] = (0xff << (8 - bits)) & 0xff;
  }
  return bytes;
}

/** The prefix length that a mask stands for; `undefined` when its ones are not all at the front. */
export function lengthOfMask(mask: Uint8Array): number | undefined {
  let length = 0;
  let index = 0;
  while (index < mask.length && mask[index] === 0xff) {
    length += 8;
    index++;
  }
  if (index === mask.length) return length;
  const ones = Math.clz32(~(mask[index]! << 24));
  if (((0xff << (8 - ones)) & 0xff) !== mask[index]) return undefined;
  for (let rest = index + 1; rest < mask.length; rest++) if (mask[rest] !== 0) return undefined;
  return length + ones;
}

/** `bytes & mask`, as new bytes. Both have one length. */
export function applyMask(bytes: Uint8Array, mask: Uint8Array): Uint8Array {
  return bytes.map((byte, index) => byte & mask[index]!);
}

/** True when `(bytes & mask) == (value & mask)`. Allocates nothing. */
export function matchesMask(bytes: Uint8Array, value: Uint8Array, mask: Uint8Array): boolean {
  if (bytes.length !== mask.length || value.length !== mask.length) return false;
  for (let index = 0; index < mask.length; index++) {
    if (((bytes[index]! ^ value[index]!) & mask[index]!) !== 0) return false;
  }
  return true;
}
