/**
 * IPv6 extension headers (RFC 8200 §4; AH RFC 4302, mobility RFC 6275, HIP RFC 7401, shim6 RFC 5533): the whole chain,
 * for people and emitters. What netfilter makes of a chain is in ipv6-find-header.ts.
 */
import { concatenate, read8, read16, read32, write16, write32 } from './bytes.ts';
import { IPV6_HEADER_LENGTH, ipv6NextHeader } from './ipv6.ts';
import { requireBits, WireError, type WireProblem } from './problem.ts';
import { IpProtocol } from './protocol.ts';

/** One header of the chain. */
export interface ExtensionHeader {
  /** Which header it is: the next-header value that announced it. */
  readonly type: number;
  /** Offset in the bytes walked. */
  readonly offset: number;
  /** Its bytes, as its length field says. */
  readonly length: number;
  readonly nextHeader: number;
}

/** The chain and where it ends. */
export interface ExtensionChain {
  readonly headers: readonly ExtensionHeader[];
  /** What stands after the last header walked; ESP and none count as such. */
  readonly protocol: number;
  /** Offset in the bytes walked of what follows. */
  readonly offset: number;
  /** The fragment header, if there is one. */
  readonly fragment: Ipv6Fragment | undefined;
  /** `truncated` when the chain runs over the end. */
  readonly problem: WireProblem | undefined;
}

/** Fields of a fragment header (RFC 8200 §4.5). */
export interface Ipv6Fragment {
  readonly nextHeader: number;
  /** In units of 8 bytes. */
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
  readonly id: number;
}

/** True for every next-header value after which another one can follow in plain text. */
export function isExtensionHeader(nextHeader: number): boolean {
  return (
    nextHeader === IpProtocol.HOPOPTS ||
    nextHeader === IpProtocol.ROUTING ||
    nextHeader === IpProtocol.FRAGMENT ||
    nextHeader === IpProtocol.AH ||
    nextHeader === IpProtocol.DSTOPTS ||
    nextHeader === IpProtocol.MH ||
    nextHeader === IpProtocol.HIP ||
    nextHeader === IpProtocol.SHIM6
  );
}

/** Bytes of the extension header of this type at `offset`, by its length field. */
export function extensionLength(type: number, bytes: Uint8Array, offset: number): number {
  if (type === IpProtocol.FRAGMENT) return 8;
  const field = read8(bytes, offset + 1);
  return type === IpProtocol.AH ? (field + 2) * 4 : (field + 1) * 8;
}

/** Walks the chain of the IPv6 packet in `bytes[offset, end)`; stops after a fragment header that is not the first's. */
export function walkExtensions(bytes: Uint8Array, offset = 0, end: number = bytes.length): ExtensionChain {
  return walkExtensionsFrom(bytes, ipv6NextHeader(bytes, offset), offset + IPV6_HEADER_LENGTH, end);
}

/** As {@link walkExtensions}, from a header of type `first` at `offset`: what follows the fixed header. */
export function walkExtensionsFrom(
  bytes: Uint8Array,
  first: number,
  offset: number,
  end: number,
): ExtensionChain {
  const headers: ExtensionHeader[] = [];
  let protocol = first;
  let at = offset;
  let fragment: Ipv6Fragment | undefined;
  let problem: WireProblem | undefined;
  while (isExtensionHeader(protocol)) {
    const length = at + 2 <= end ? extensionLength(protocol, bytes, at) : 2;
    if (at + length > end) {
      problem = 'truncated';
      break;
    }
    const nextHeader = read8(bytes, at);
    headers.push({ type: protocol, offset: at, length, nextHeader });
    const isFragment = protocol === IpProtocol.FRAGMENT;
    if (isFragment) fragment = parseIpv6Fragment(bytes, at, end);
    protocol = nextHeader;
    at += length;
    if (isFragment && fragment !== undefined && fragment.fragmentOffset > 0) break;
  }
  return { headers, protocol, offset: at, fragment, problem };
}

/** Parses a fragment header; `undefined` when it is not all there. */
export function parseIpv6Fragment(
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): Ipv6Fragment | undefined {
  if (end - offset < 8) return undefined;
  const word = read16(bytes, offset + 2);
  return {
    nextHeader: read8(bytes, offset),
    fragmentOffset: word >>> 3,
    moreFragments: (word & 1) !== 0,
    id: read32(bytes, offset + 4),
  };
}

/** A fragment header and what follows it. Throws WireError for values that do not fit. */
export function emitIpv6Fragment(fragment: Ipv6Fragment, payload: Uint8Array): Uint8Array {
  requireBits('ipv6 next header', fragment.nextHeader, 8);
  requireBits('ipv6 fragment offset', fragment.fragmentOffset, 13);
  requireBits('ipv6 fragment id', fragment.id, 32);
  const head = new Uint8Array(8);
  head[0] = fragment.nextHeader;
  write16(head, 2, (fragment.fragmentOffset << 3) | (fragment.moreFragments ? 1 : 0));
  write32(head, 4, fragment.id);
  return concatenate(head, payload);
}

/**
 * A hop-by-hop, routing, destination options, mobility, HIP or shim6 header and what follows it.
 * `body` is all after the length byte: 6 bytes, 14, 22, … Throws WireError for other lengths.
 */
export function emitExtension(nextHeader: number, body: Uint8Array, payload: Uint8Array): Uint8Array {
  requireBits('ipv6 next header', nextHeader, 8);
  if (body.length % 8 !== 6 || body.length > 2046) {
    throw new WireError(
      `extension header body has ${body.length} bytes`,
      'give 6, 14, 22, … up to 2046 bytes',
    );
  }
  return concatenate(Uint8Array.of(nextHeader, (body.length - 6) / 8), body, payload);
}
