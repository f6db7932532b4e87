/**
 * Walking IPv6 extension headers the way Linux does: its several walkers differ on purpose.
 * Source: net/ipv6/exthdrs_core.c, net/ipv6/reassembly.c, net/ipv6/netfilter/nf_conntrack_reasm.c; RFC 8200 §4.
 */
export const NEXTHDR_HOP = 0;
export const NEXTHDR_TCP = 6;
export const NEXTHDR_UDP = 17;
export const NEXTHDR_ROUTING = 43;
export const NEXTHDR_FRAGMENT = 44;
export const NEXTHDR_AUTH = 51;
export const NEXTHDR_ICMP = 58;
export const NEXTHDR_NONE = 59;
export const NEXTHDR_DEST = 60;

export const IPV6_HEADER_BYTES = 40;
export const FRAGMENT_HEADER_BYTES = 8;

/** Headers that the walkers step over; no ESP, no mobility. */
export function isExtensionHeader(nextHeader: number): boolean {
  return (
    nextHeader === NEXTHDR_HOP ||
    nextHeader === NEXTHDR_ROUTING ||
    nextHeader === NEXTHDR_FRAGMENT ||
    nextHeader === NEXTHDR_AUTH ||
    nextHeader === NEXTHDR_NONE ||
    nextHeader === NEXTHDR_DEST
  );
}

function headerBytes(nextHeader: number, lengthField: number): number {
  if (nextHeader === NEXTHDR_FRAGMENT) return FRAGMENT_HEADER_BYTES;
  return nextHeader === NEXTHDR_AUTH ? (lengthField + 2) * 4 : (lengthField + 1) * 8;
}

/** Where ipv6_skip_exthdr ended. */
export interface SkippedHeaders {
  readonly offset: number;
  readonly nextHeader: number;
  /** The frag_off field met on the way, host order, flags included; 0 when none. */
  readonly fragmentField: number;
}

/** Steps over extension headers from `offset` on; stops at a non-first fragment. `undefined`: cut off or no next header. */
export function skipExtensionHeaders(
  data: Uint8Array,
  offset: number,
  nextHeader: number,
): SkippedHeaders | undefined {
  let fragmentField = 0;
  let at = offset;
  let next = nextHeader;
  while (isExtensionHeader(next)) {
    if (next === NEXTHDR_NONE || at + 2 > data.length) return undefined;
    if (next === NEXTHDR_FRAGMENT) {
      if (at + 4 > data.length) return undefined;
      fragmentField = (data[at + 2]! << 8) | data[at + 3]!;
      if ((fragmentField & ~7) !== 0) break;
    }
    const length = headerBytes(next, data[at + 1]!);
    next = data[at]!;
    at += length;
  }
  return { offset: at, nextHeader: next, fragmentField };
}

/**
 * A first fragment that ends within its upper-layer header (RFC 7112, RFC 8200 §4.5); ipv6frag_thdr_truncated. `offset` and
 * `nextHeader` say where to begin.
 */
export function lacksUpperHeader(data: Uint8Array, offset: number, nextHeader: number): boolean {
  const end = skipExtensionHeaders(data, offset, nextHeader);
  if (end === undefined || (end.fragmentField & 0xfff8) !== 0) return false;
  const needed =
    end.nextHeader === NEXTHDR_TCP
      ? 20
      : end.nextHeader === NEXTHDR_UDP || end.nextHeader === NEXTHDR_ICMP
        ? 8
        : 1;
  return data.length < end.offset + needed;
}

/** A fragment header and the byte that names it. */
export interface FragmentHeaderPosition {
  readonly offset: number;
  /** Offset of the next-header byte before it. */
  readonly nhoffset: number;
}

/** The first fragment header of a packet, behind any chain of other extension headers; find_prev_fhdr. */
export function findFragmentHeader(data: Uint8Array): FragmentHeaderPosition | undefined {
  let next = data[6]!;
  let nhoffset = 6;
  let at = IPV6_HEADER_BYTES;
  while (next !== NEXTHDR_FRAGMENT) {
    if (!isExtensionHeader(next) || next === NEXTHDR_NONE || at + 2 > data.length) return undefined;
    const length = next === NEXTHDR_AUTH ? (data[at + 1]! + 2) * 4 : (data[at + 1]! + 1) * 8;
    nhoffset = at;
    next = data[at]!;
    at += length;
  }
  return at > data.length ? undefined : { offset: at, nhoffset };
}
