/** Extension headers of IPv6 as matches walk them: ipv6_find_hdr with a target, ipv6_skip_exthdr (net/ipv6/exthdrs_core.c). */
import type { EvaluationPacket } from '../evaluate/packet.ts';
import { hasBytes, readUint16 } from './header.ts';

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTH = 51;
const NONE = 59;
const DESTINATION = 60;
const EXTENSIONS: ReadonlySet<number> = new Set([HOP_BY_HOP, ROUTING, FRAGMENT, AUTH, NONE, DESTINATION]);

/** Offset of the first header of this protocol; -1 when there is none; `hotdrop` when the chain is cut short. */
export function findExtensionHeader(packet: EvaluationPacket, protocol: number): number | 'hotdrop' {
  let next = packet.bytes[6]!;
  let offset = 40;
  for (;;) {
    if (!EXTENSIONS.has(next) || next === NONE) return next === protocol ? offset : -1;
    if (!hasBytes(packet, offset, 2)) return 'hotdrop';
    // Of these two it reads the first four bytes.
    if ((next === FRAGMENT || next === ROUTING) && !hasBytes(packet, offset, 4)) return 'hotdrop';
    if (next === protocol) return offset;
    // What follows the header of a later fragment is data.
    if (next === FRAGMENT && (readUint16(packet, offset + 2) & 0xfff8) !== 0) return -1;
    const length = headerLength(packet, next, offset);
    next = packet.bytes[offset]!;
    offset += length;
  }
}

function headerLength({ bytes }: EvaluationPacket, header: number, offset: number): number {
  const units = bytes[offset + 1]!;
  return header === FRAGMENT ? 8 : header === AUTH ? (units + 2) * 4 : (units + 1) * 8;
}

/**
 * What stands behind the extension headers: of a later fragment its own header. `undefined` when the chain is cut short, or
 * ends in nothing.
 */
export function skipExtensionHeaders(
  packet: EvaluationPacket,
): { readonly protocol: number; readonly offset: number } | undefined {
  let protocol = packet.bytes[6]!;
  let offset = 40;
  while (EXTENSIONS.has(protocol)) {
    if (protocol === NONE || !hasBytes(packet, offset, 2)) return undefined;
    if (protocol === FRAGMENT) {
      if (!hasBytes(packet, offset, 4)) return undefined;
      if ((readUint16(packet, offset + 2) & 0xfff8) !== 0) break;
    }
    const length = headerLength(packet, protocol, offset);
    protocol = packet.bytes[offset]!;
    offset += length;
  }
  return { protocol, offset };
}
