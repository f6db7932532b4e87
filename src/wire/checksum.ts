/**
 * The Internet checksum (RFC 1071), its incremental update (RFC 1624) and pseudo headers
 * (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1).
 *
 * Sums are unfolded numbers to which more can be added; `foldSum` makes 16 bits of one, `finishSum` the checksum.
 * An array has fewer than 2^37 bytes, so a sum stays exact in a double.
 */
import { read16 } from './bytes.ts';

/**
 * Adds the 16-bit words of `bytes[start, end)` to `sum`; an odd last byte counts as the high half of a word.
 * A range that is not the last must have an even length.
 */
export function addToSum(sum: number, bytes: Uint8Array, start: number, end: number): number {
  const limit = Math.min(end, bytes.length);
  let total = 0;
  let offset = start;
  for (; offset + 1 < limit; offset += 2) total += (bytes[offset]! << 8) | bytes[offset + 1]!;
  if (offset < limit) total += bytes[offset]! << 8;
  return sum + total;
}

/** Folds a sum to 16 bits with end-around carry. */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/** The one's complement of the folded sum: what stands in a header. */
export function finishSum(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/** RFC 1071 checksum of `bytes[start, end)`; 0 when the range holds its own correct checksum. */
export function internetChecksum(bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  return finishSum(addToSum(0, bytes, start, end));
}

/** Checksum after one 16-bit word of the covered data changed (RFC 1624, equation 3). */
export function updateChecksum16(checksum: number, before: number, after: number): number {
  return finishSum((~checksum & 0xffff) + (~before & 0xffff) + after);
}

/** As {@link updateChecksum16} for a 32-bit word at an even offset. */
export function updateChecksum32(checksum: number, before: number, after: number): number {
  const high = updateChecksum16(checksum, before >>> 16, after >>> 16);
  return updateChecksum16(high, before & 0xffff, after & 0xffff);
}

/** As {@link updateChecksum16} for a run of bytes of even length at an even offset. */
export function updateChecksumBytes(checksum: number, before: Uint8Array, after: Uint8Array): number {
  let updated = checksum;
  for (let offset = 0; offset < before.length; offset += 2) {
    updated = updateChecksum16(updated, read16(before, offset), read16(after, offset));
  }
  return updated;
}

/**
 * Sum of a pseudo header: both addresses, the upper-layer length and the protocol. The IPv4 and IPv6 forms give
 * the same sum, because zero padding adds nothing.
 *
 * @param addressBytes 4 or 16, the length of each address
 */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  sourceOffset: number,
  destinationOffset: number,
  addressBytes: number,
  protocol: number,
  length: number,
): number {
  const sum = addToSum(0, bytes, sourceOffset, sourceOffset + addressBytes);
  return (
    addToSum(sum, bytes, destinationOffset, destinationOffset + addressBytes) +
    protocol +
    (length >>> 16) +
    (length & 0xffff)
  );
}
