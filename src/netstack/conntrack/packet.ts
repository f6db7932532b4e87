import type { Family } from '../../net/index.ts';
import { read16 } from '../../wire/index.ts';
import { IPV6_HEADER_BYTES, skipExtensionHeaders } from '../ipv6-header.ts';

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

/** The offset may lie behind the packet's end where the last extension header is cut short, as the kernel's does. */
function locateIpv6(bytes: Uint8Array, start: number): Located | undefined {
  const first = start + IPV6_HEADER_BYTES;
  if (first > bytes.length) return undefined;
  const end = skipExtensionHeaders(bytes, first, bytes[start + 6]!);
  if (end === undefined || (end.fragmentField & 0xfff8) !== 0) return undefined;
  return { family: 'ipv6', bytes, protocol: end.nextHeader, offset: end.offset };
}
