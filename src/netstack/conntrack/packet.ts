import type { Family } from '../../net/index.ts';
import { IpProtocol, read16 } from '../../wire/index.ts';

/** What conntrack looks at: one whole IP packet at PRE_ROUTING or LOCAL_OUT. */
export interface TrackedPacket {
  readonly family: Family;
  /** From the first byte of the IP header to the end of the IP packet (trailers trimmed, never a fragment's part). */
  readonly bytes: Uint8Array;
  /** `pre-routing` verifies transport checksums (sysctl nf_conntrack_checksum), `local-out` trusts them. */
  readonly hook: 'pre-routing' | 'local-out';
  /** Conntrack zone of both directions (CT --zone); 0 when none was set. */
  readonly zone?: number;
}

/** Where the transport header is, as the trackers see it. */
export interface Located {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly protocol: number;
  /** Byte offset of the transport header. */
  readonly offset: number;
}

/**
 * Finds the transport header of the IP header at `start`, or `undefined` where conntrack gives up: later fragments,
 * cut-off headers, an extension chain that ends in "no next header" (get_l4proto in nf_conntrack_core.c).
 */
export function locate(family: Family, bytes: Uint8Array, start = 0): Located | undefined {
  return family === 'ipv4' ? locateIpv4(bytes, start) : locateIpv6(bytes, start);
}

function locateIpv4(bytes: Uint8Array, start: number): Located | undefined {
  if (start + 20 > bytes.length) return undefined;
  if ((read16(bytes, start + 6) & 0x1fff) !== 0) return undefined;
  const offset = start + (bytes[start]! & 0x0f) * 4;
  if (offset > bytes.length) return undefined;
  return { family: 'ipv4', bytes, protocol: bytes[start + 9]!, offset };
}

/** ipv6_skip_exthdr(): walks hop-by-hop, routing, destination, AH and fragment headers. */
function locateIpv6(bytes: Uint8Array, start: number): Located | undefined {
  if (start + 40 > bytes.length) return undefined;
  let protocol = bytes[start + 6]!;
  let offset = start + 40;
  for (;;) {
    let length: number;
    if (protocol === IpProtocol.NONE) return undefined;
    if (
      protocol === IpProtocol.HOPOPTS ||
      protocol === IpProtocol.ROUTING ||
      protocol === IpProtocol.DSTOPTS
    ) {
      if (offset + 2 > bytes.length) return undefined;
      length = (bytes[offset + 1]! + 1) * 8;
    } else if (protocol === IpProtocol.FRAGMENT) {
      if (offset + 8 > bytes.length) return undefined;
      if ((read16(bytes, offset + 2) & 0xfff8) !== 0) return undefined;
      length = 8;
    } else if (protocol === IpProtocol.AH) {
      if (offset + 2 > bytes.length) return undefined;
      length = (bytes[offset + 1]! + 2) * 4;
    } else {
      return { family: 'ipv6', bytes, protocol, offset };
    }
    protocol = bytes[offset]!;
    offset += length;
  }
}
