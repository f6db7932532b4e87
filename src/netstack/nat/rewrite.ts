/**
 * Putting a tuple into a packet: addresses, ports and identifiers, with every checksum adjusted by what changed.
 * Source: net/netfilter/nf_nat_proto.c (nf_nat_ipv4_manip_pkt, nf_nat_ipv6_manip_pkt, l4proto_manip_pkt); RFC 1624.
 */
import type { Family } from '../../net/index.ts';
import {
  computeSctpChecksum,
  IpProtocol,
  read16,
  updateChecksum16,
  updateChecksumBytes,
} from '../../wire/index.ts';
import { locate } from '../conntrack/packet.ts';
import type { Tuple } from '../conntrack/tuple.ts';
import type { Manip } from './range.ts';

/** ICMP types that carry an identifier: echo, timestamp, information, address mask. */
const ICMP_WITH_IDENTIFIER: ReadonlySet<number> = new Set([0, 8, 13, 14, 15, 16, 17, 18]);
const ICMPV6_ECHO: ReadonlySet<number> = new Set([128, 129]);
const TCP_HEADER_BYTES = 20;

function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

/** What a checksum has to be told of. */
interface Change {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/**
 * Makes one end of the packet whose IP header is at `start` what `target` has there. `bytes` are changed in place.
 *
 * @returns false when the transport header is not there; then only what lies before it may have changed
 */
export function rewritePacket(
  bytes: Uint8Array,
  family: Family,
  target: Tuple,
  manip: Manip,
  start = 0,
): boolean {
  const [from, length] = family === 'ipv4' ? [start + 12, 4] : [start + 8, 16];
  const at = manip === 'source' ? from : from + length;
  const change: Change = {
    before: bytes.slice(at, at + length),
    after: manip === 'source' ? target.source : target.destination,
  };
  const transport = transportOf(bytes, family, start);
  if (transport !== undefined && !rewriteTransport(bytes, family, transport, target, manip, change))
    return false;
  bytes.set(change.after, at);
  if (family === 'ipv4')
    write16(bytes, start + 10, updateChecksumBytes(read16(bytes, start + 10), change.before, change.after));
  if (transport?.protocol === IpProtocol.SCTP && start === 0) finishSctp(bytes, transport.offset);
  return true;
}

interface Transport {
  readonly protocol: number;
  readonly offset: number;
}

function transportOf(bytes: Uint8Array, family: Family, start: number): Transport | undefined {
  const located = locate(family, bytes, start);
  return located === undefined ? undefined : { protocol: located.protocol, offset: located.offset };
}

function rewriteTransport(
  bytes: Uint8Array,
  family: Family,
  { protocol, offset }: Transport,
  target: Tuple,
  manip: Manip,
  change: Change,
): boolean {
  const left = bytes.length - offset;
  switch (protocol) {
    case IpProtocol.TCP: {
      if (left < 8) return false;
      const before = rewritePort(bytes, offset, target, manip);
      // Quoted in an ICMP error there may be no more than ports and sequence number.
      if (left >= TCP_HEADER_BYTES) adjust(bytes, offset + 16, change, before);
      return true;
    }
    case IpProtocol.UDP:
    case IpProtocol.UDPLITE: {
      if (left < 8) return false;
      const before = rewritePort(bytes, offset, target, manip);
      if (protocol === IpProtocol.UDP && read16(bytes, offset + 6) === 0) return true;
      adjust(bytes, offset + 6, change, before);
      if (read16(bytes, offset + 6) === 0) write16(bytes, offset + 6, 0xffff);
      return true;
    }
    case IpProtocol.SCTP:
      if (left < 8) return false;
      rewritePort(bytes, offset, target, manip);
      return true;
    case IpProtocol.DCCP: {
      if (left < 8) return false;
      const before = rewritePort(bytes, offset, target, manip);
      if (left >= 12) adjust(bytes, offset + 6, change, before);
      return true;
    }
    case IpProtocol.ICMP:
      if (left < 8) return false;
      if (family === 'ipv4' && ICMP_WITH_IDENTIFIER.has(bytes[offset]!)) {
        adjustWord(bytes, offset + 2, read16(bytes, offset + 4), target.sourcePort);
        write16(bytes, offset + 4, target.sourcePort);
      }
      return true;
    case IpProtocol.ICMPV6:
      if (left < 8) return false;
      adjustBytes(bytes, offset + 2, change);
      if (ICMPV6_ECHO.has(bytes[offset]!)) {
        adjustWord(bytes, offset + 2, read16(bytes, offset + 4), target.sourcePort);
        write16(bytes, offset + 4, target.sourcePort);
      }
      return true;
    default:
      return true;
  }
}

/** Writes the port and returns the one before, with the new one. */
function rewritePort(
  bytes: Uint8Array,
  offset: number,
  target: Tuple,
  manip: Manip,
): readonly [before: number, after: number] {
  const at = manip === 'source' ? offset : offset + 2;
  const after = manip === 'source' ? target.sourcePort : target.destinationPort;
  const before = read16(bytes, at);
  write16(bytes, at, after);
  return [before, after];
}

function adjust(
  bytes: Uint8Array,
  at: number,
  change: Change,
  [before, after]: readonly [number, number],
): void {
  adjustBytes(bytes, at, change);
  adjustWord(bytes, at, before, after);
}

function adjustBytes(bytes: Uint8Array, at: number, { before, after }: Change): void {
  write16(bytes, at, updateChecksumBytes(read16(bytes, at), before, after));
}

function adjustWord(bytes: Uint8Array, at: number, before: number, after: number): void {
  write16(bytes, at, updateChecksum16(read16(bytes, at), before, after));
}

/** A CRC cannot be adjusted; it is computed anew. Quoted packets keep theirs. */
function finishSctp(bytes: Uint8Array, offset: number): void {
  if (bytes.length - offset < 12) return;
  const crc = computeSctpChecksum(bytes, offset);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset + 8, crc);
}
