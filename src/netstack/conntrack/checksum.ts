import { type Located, read16 } from './packet.ts';
import { IPPROTO } from './tuple.ts';

/** Adds 16-bit words of bytes [from, to), the last odd byte padded with zero (RFC 1071). */
function sum(bytes: Uint8Array, from: number, to: number, start: number): number {
  let total = start;
  let at = from;
  for (; at + 1 < to; at += 2) total += read16(bytes, at);
  if (at < to) total += bytes[at]! << 8;
  return total;
}

/**
 * nf_checksum(): the transport checksum over `coverage` bytes from the header on. IPv4 ICMP has no pseudo-header;
 * everything else has one whose length is that of all that follows the IP header.
 */
export function checksumIsRight(located: Located, coverage?: number): boolean {
  const { family, bytes, protocol, offset } = located;
  const length = bytes.length - offset;
  let total = 0;
  if (!(family === 'ipv4' && protocol === IPPROTO.ICMP)) {
    const [from, to] = family === 'ipv4' ? [12, 20] : [8, 40];
    total = sum(bytes, from, to, protocol + (length & 0xffff) + (length >>> 16));
  }
  total = sum(bytes, offset, offset + (coverage ?? length), total);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total === 0xffff;
}
