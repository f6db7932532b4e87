/** Finding one extension header of IPv6: ipv6_find_hdr with a target (net/ipv6/exthdrs_core.c). */
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
    const units = packet.bytes[offset + 1]!;
    const length = next === FRAGMENT ? 8 : next === AUTH ? (units + 2) * 4 : (units + 1) * 8;
    next = packet.bytes[offset]!;
    offset += length;
  }
}
