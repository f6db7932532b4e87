/**
 * IPv4 and IPv6 addresses as bytes in network order.
 *
 * Text forms accepted are the strict ones of inet_pton(3): four decimal octets without leading zeros beyond
 * one digit's worth of ambiguity, and the forms of RFC 4291 §2.2. Text forms printed are those of inet_ntop(3)
 * and RFC 5952.
 */
export type Family = 'ipv4' | 'ipv6';

/** An address: 4 bytes (ipv4) or 16 bytes (ipv6), network byte order. Treat the bytes as immutable. */
export interface Address {
  readonly family: Family;
  readonly bytes: Uint8Array;
}

/** Number of bytes of an address of this family. */
export function addressLength(family: Family): 4 | 16 {
  return family === 'ipv4' ? 4 : 16;
}

/** Parses the strict text form; `undefined` when it is not an address. */
export function parseAddress(text: string): Address | undefined {
  const bytes = text.includes(':') ? parseIpv6(text) : parseIpv4(text);
  if (bytes === undefined) return undefined;
  return { family: bytes.length === 4 ? 'ipv4' : 'ipv6', bytes };
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return undefined;
    const value = Number(part);
    if (value > 255) return undefined;
    bytes[index] = value;
  }
  return bytes;
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const tail = index === parts.length - 1 ? parseIpv4(part) : undefined;
      if (tail === undefined) return undefined;
      groups.push((tail[0]! << 8) | tail[1]!, (tail[2]! << 8) | tail[3]!);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  // An IPv4 tail may stand only at the very end, so never in the half before "::".
  if (halves.length === 2 && halves[0]!.includes('.')) return undefined;
  const head = parseGroups(halves[0]!);
  const tail = halves.length === 2 ? parseGroups(halves[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const bytes = new Uint8Array(16);
  for (const [index, group] of groups.entries()) {
    bytes[index * 2] = group >> 8;
    bytes[index * 2 + 1] = group & 0xff;
  }
  return bytes;
}

/** Prints as inet_ntop(3) does: dotted quad, or RFC 5952 with the longest run of zero groups compressed. */
export function formatAddress(address: Address): string {
  return formatAddressBytes(address.bytes);
}

/** As {@link formatAddress}, from 4 or 16 raw bytes in network order. */
export function formatAddressBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2) groups.push((bytes[index]! << 8) | bytes[index + 1]!);
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
    start += length;
  }
  // inet_ntop prints IPv4-compatible and IPv4-mapped addresses with a dotted tail.
  const mapped = bestStart === 0 && (bestLength === 6 || (bestLength === 5 && groups[5] === 0xffff));
  const text = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':');
  if (mapped) return `${bestLength === 6 ? '::' : '::ffff:'}${bytes.slice(12).join('.')}`;
  if (bestStart < 0) return text(0, 8);
  return `${text(0, bestStart)}::${text(bestStart + bestLength, 8)}`;
}

/** True when both are of one family and have the same bytes. */
export function sameAddress(a: Address, b: Address): boolean {
  return a.bytes.length === b.bytes.length && a.bytes.every((byte, index) => byte === b.bytes[index]);
}

/** Network order as numbers compare; the shorter first where lengths differ, so IPv4 before IPv6. Allocates nothing. */
export function compareAddressBytes(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return a.length - b.length;
  for (let index = 0; index < a.length; index++) {
    const difference = a[index]! - b[index]!;
    if (difference !== 0) return difference;
  }
  return 0;
}
