/**
 * Address prefixes: `192.0.2.0/24`, `2001:db8::/32` (RFC 4632 §3.1, RFC 4291 §2.3).
 */
import {
  type Address,
  addressLength,
  compareAddressBytes,
  type Family,
  formatAddress,
  parseAddress,
} from './address.ts';
import { applyMask, maskOfLength } from './mask.ts';

/** Addresses that agree in their first `length` bits. Bits of `address` beyond them are kept, and do not count. */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
}

/** Parses `address/length` or a bare address (full length); `undefined` when it is neither. Host bits are kept. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = addressLength(address.family) * 8;
  if (slash < 0) return { address, length: bits };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(digits) || Number(digits) > bits) return undefined;
  return { address, length: Number(digits) };
}

/** Prints `address/length`, the length always, the host bits as they are. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** The same prefix with its host bits cleared: the form in which equal prefixes have equal bytes. */
export function networkOf(prefix: Prefix): Prefix {
  const { family, bytes } = prefix.address;
  return {
    address: { family, bytes: applyMask(bytes, maskOfLength(family, prefix.length)) },
    length: prefix.length,
  };
}

/** True when the address lies in the prefix. Another family never does. Allocates nothing. */
export function prefixContains(prefix: Prefix, address: Address): boolean {
  return prefixContainsBytes(prefix, address.bytes);
}

/** As {@link prefixContains}, from 4 or 16 raw bytes in network order. */
export function prefixContainsBytes(prefix: Prefix, bytes: Uint8Array): boolean {
  const own = prefix.address.bytes;
  return own.length === bytes.length && commonBits(own, bytes, prefix.length) === prefix.length;
}

/** True when every address of `inner` lies in `outer`. */
export function prefixCovers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
}

/** True when some address lies in both, which is when one covers the other. */
export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

/** True when both hold the same addresses. */
export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.length === b.length && prefixContains(a, b.address);
}

/**
 * Sorts the most specific first; among equals IPv4 before IPv6, then by address. The first of a list in this
 * order that contains an address is its longest match.
 */
export function compareLongestFirst(a: Prefix, b: Prefix): number {
  const families = familyRank(a.address.family) - familyRank(b.address.family);
  return (
    b.length - a.length ||
    families ||
    compareAddressBytes(networkOf(a).address.bytes, networkOf(b).address.bytes)
  );
}

/** Sorts as route tables are printed: IPv4 before IPv6, by address, the shorter prefix first. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  const families = familyRank(a.address.family) - familyRank(b.address.family);
  if (families !== 0) return families;
  return compareAddressBytes(networkOf(a).address.bytes, networkOf(b).address.bytes) || a.length - b.length;
}

function familyRank(family: Family): number {
  return family === 'ipv4' ? 0 : 1;
}

/** How many leading bits agree, at most `limit`. */
function commonBits(a: Uint8Array, b: Uint8Array, limit: number): number {
  for (let index = 0; index * 8 < limit; index++) {
    const different = a[index]! ^ b[index]!;
    if (different !== 0) return Math.min(limit, index * 8 + Math.clz32(different) - 24);
  }
  return limit;
}
