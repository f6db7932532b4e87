/**
 * The Internet checksum as the kernel's helpers compute it (RFC 1071, RFC 1624; `include/net/checksum.h`).
 * Sums are over 16-bit words as a little-endian host loads them: one's complement sums do not mind.
 */

/** Adds with end-around carry, 32 bits. */
function add(sum: number, value: number): number {
  const total = sum + value;
  return total > 0xffffffff ? (total - 0xffffffff) >>> 0 : total >>> 0;
}

/** 32-bit sum -> 16 bits. */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The checksum field after `from` was replaced by `to` in the data (csum_replace4). Fields are in memory order. */
export function replaceChecksum(field: number, from: number, to: number): number {
  const without = add(~field & 0xffff, ~from >>> 0);
  return ~fold(add(without, to >>> 0)) & 0xffff;
}

/** bpf_csum_diff: `seed` - sum(from) + sum(to), as a 32-bit one's complement sum. Lengths are multiples of 4. */
export function checksumDifference(
  view: DataView,
  from: number,
  fromBytes: number,
  to: number,
  toBytes: number,
  seed: number,
): number {
  let sum = seed >>> 0;
  for (let at = 0; at < fromBytes; at += 4) sum = add(sum, ~view.getUint32(from + at, true) >>> 0);
  for (let at = 0; at < toBytes; at += 4) sum = add(sum, view.getUint32(to + at, true));
  return sum;
}
