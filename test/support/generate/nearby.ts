/** Packets that differ from a given one in a byte or two of their headers: many of them, at little cost. */
const IPV4_CHECKSUM = 10;
/** Type of service, fragment bits, TTL, protocol, addresses. */
const IPV4_BYTES = [1, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19] as const;
/** Traffic class, next header, hop limit, and the ends of both addresses. */
const IPV6_BYTES = [1, 6, 7, 8, 9, 22, 23, 24, 25, 38, 39] as const;
const IPV6_HEADER = 40;
/** Bytes behind the fixed header that are changed, too: ports, types, flags, extension headers. */
const FOLLOWING = 24;

/** A copy with one or two bytes changed; the checksum of an IPv4 header is right again. */
export function nearby(packet: Uint8Array, random32: () => number): Uint8Array {
  const bytes = packet.slice();
  const ipv4 = bytes[0]! >> 4 === 4;
  const header = ipv4 ? (bytes[0]! & 0xf) * 4 : IPV6_HEADER;
  const own: readonly number[] = ipv4 ? IPV4_BYTES : IPV6_BYTES;
  for (let changes = 1 + (random32() & 1); changes > 0; changes--) {
    const choice = random32() % (own.length + FOLLOWING);
    const at = own[choice] ?? header + choice - own.length;
    if (at < bytes.length) bytes[at] = changed(bytes[at]!, random32());
  }
  if (ipv4 && header <= bytes.length) setHeaderSum(bytes, header);
  return bytes;
}

function changed(byte: number, draw: number): number {
  switch (draw & 3) {
    case 0:
      return byte + 1;
    case 1:
      return byte - 1;
    case 2:
      return byte ^ (1 << ((draw >> 2) & 7));
    default:
      return draw >>> 24;
  }
}

/** RFC 1071. */
function setHeaderSum(bytes: Uint8Array, header: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint16(IPV4_CHECKSUM, 0);
  let sum = 0;
  for (let at = 0; at < header; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(IPV4_CHECKSUM, ~sum & 0xffff);
}
