import { type Located, locate } from './packet.ts';
import { invert, type Tuple, tupleOf } from './tuple.ts';

const ICMP_ERRORS: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);
/** The highest ICMP type that exists for Linux; RFC 1122 3.2.2: unknown types are discarded. */
const ICMP_HIGHEST_TYPE = 18;
const ICMPV6_REDIRECT = 137;
/** ICMPv6 that is never tracked: multicast listener and neighbour discovery (icmpv6 noct_valid_new). */
const ICMPV6_UNTRACKED: ReadonlySet<number> = new Set([130, 131, 132, 133, 134, 135, 136, 143]);
/** Redirected header option of RFC 4861 section 4.6.3. */
const ND_OPTION_REDIRECTED_HEADER = 4;

export type IcmpKind =
  | { readonly kind: 'message' }
  | { readonly kind: 'invalid' }
  | { readonly kind: 'untracked' }
  /** Speaks of another packet: its tuple, turned round, names the connection. */
  | { readonly kind: 'error'; readonly tuple: Tuple };

/** nf_conntrack_icmpv4_error() and nf_conntrack_icmpv6_error(), up to the look-up; the checksum was verified before. */
export function classifyIcmp(located: Located): IcmpKind {
  const { family, bytes, offset } = located;
  const type = bytes[offset]!;
  if (family === 'ipv4') {
    if (type > ICMP_HIGHEST_TYPE) return { kind: 'invalid' };
    return ICMP_ERRORS.has(type) ? embedded(located, offset + 8) : { kind: 'message' };
  }
  if (ICMPV6_UNTRACKED.has(type)) return { kind: 'untracked' };
  if (type === ICMPV6_REDIRECT) return redirect(located);
  return type >= 128 ? { kind: 'message' } : embedded(located, offset + 8);
}

function embedded(located: Located, start: number): IcmpKind {
  const inner = locate(located.family, located.bytes, start);
  const tuple = inner === undefined ? undefined : tupleOf(inner, start);
  const answer = tuple === undefined ? undefined : invert(tuple);
  return answer === undefined ? { kind: 'invalid' } : { kind: 'error', tuple: answer };
}

/** nf_conntrack_icmpv6_redirect(): the packet that was redirected stands in the last option, if anywhere. */
function redirect(located: Located): IcmpKind {
  const { bytes, offset } = located;
  // Redirects carry hop limit 255; anything else did not come from the link.
  if (bytes[7] !== 255) return { kind: 'invalid' };
  let at = offset + 40;
  while (at + 8 <= bytes.length) {
    const length = bytes[at + 1]! * 8;
    if (length === 0) break;
    if (bytes[at] === ND_OPTION_REDIRECTED_HEADER) return embedded(located, at + 8);
    at += length;
  }
  return { kind: 'untracked' };
}
