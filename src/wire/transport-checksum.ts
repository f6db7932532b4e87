/** Transport checksums of whole IP packets: verify and fill, for TCP, UDP, UDP-Lite, ICMP, ICMPv6, SCTP, DCCP. */

import { read8, read16, read32, write16, write32 } from './bytes.ts';
import { addToSum, finishSum, foldSum, pseudoHeaderSum } from './checksum.ts';
import { dccpCoverage, dccpDataOffset } from './dccp.ts';
import type { IpPacket } from './packet.ts';
import { IpProtocol } from './protocol.ts';
import { computeSctpChecksum } from './sctp.ts';
import { UDP_HEADER_LENGTH, udpLength, udpliteCoverage } from './udp.ts';

/**
 * - `good`, `bad`: it was computed
 * - `none`: UDP over IPv4 without a checksum, or a protocol that has none
 * - `illegal`: zero where a checksum is required (UDP over IPv6, UDP-Lite)
 * - `unverifiable`: a fragment, a packet cut short, or one whose lengths contradict each other
 */
export type ChecksumStatus = 'good' | 'bad' | 'none' | 'illegal' | 'unverifiable';

/** Where the 16-bit checksum stands in the transport header; -1 for protocols without one of that kind. */
function checksumField(packet: IpPacket): number {
  switch (packet.protocol) {
    case IpProtocol.TCP:
      return 16;
    case IpProtocol.UDP:
    case IpProtocol.UDPLITE:
    case IpProtocol.DCCP:
      return 6;
    case IpProtocol.ICMP:
      return packet.family === 4 ? 2 : -1;
    case IpProtocol.ICMPV6:
      return packet.family === 6 ? 2 : -1;
    default:
      return -1;
  }
}

/** Bytes from the transport header that the checksum covers, and -1 where they cannot be right. */
function coveredLength(packet: IpPacket, available: number): number {
  const { bytes, transportOffset } = packet;
  if (packet.protocol === IpProtocol.UDP) {
    const length = udpLength(bytes, transportOffset);
    // Zero is a jumbogram, RFC 2675 §4: the datagram fills the packet.
    if (length === 0 && packet.family === 6 && available > 0xffff) return available;
    return length < UDP_HEADER_LENGTH || length > available ? -1 : length;
  }
  if (packet.protocol === IpProtocol.UDPLITE) {
    const coverage = udpliteCoverage(bytes, transportOffset);
    if (coverage === 0) return available;
    return coverage < UDP_HEADER_LENGTH || coverage > available ? -1 : coverage;
  }
  if (packet.protocol === IpProtocol.DCCP) {
    const coverage = dccpCoverage(bytes, transportOffset);
    if (coverage === 0) return available;
    const covered = dccpDataOffset(bytes, transportOffset) + (coverage - 1) * 4;
    return covered > available ? -1 : covered;
  }
  return available;
}

/** Sum over pseudo header and covered bytes, the checksum field included. */
function transportSum(packet: IpPacket, available: number, covered: number): number {
  const { bytes, transportOffset, protocol } = packet;
  // UDP states its own length in the pseudo header, UDP-Lite and DCCP that of the whole packet.
  const length = protocol === IpProtocol.UDP ? covered : available;
  const sum =
    protocol === IpProtocol.ICMP
      ? 0
      : pseudoHeaderSum(
          bytes,
          packet.sourceOffset,
          finalDestinationOffset(packet),
          packet.addressLength,
          protocol,
          length,
        );
  return addToSum(sum, bytes, transportOffset, transportOffset + covered);
}

/**
 * Destination of the pseudo header. While a routing header has segments left, it is the route's last address
 * (RFC 8200 §8.1): the last of a type 0 or 2 header, the first of the segment list of a type 4 one (RFC 8754).
 */
function finalDestinationOffset(packet: IpPacket): number {
  if (packet.family !== 6) return packet.destinationOffset;
  const { bytes } = packet;
  let type = read8(bytes, packet.offset + 6);
  let at = packet.offset + 40;
  while (at < packet.transportOffset) {
    const units = read8(bytes, at + 1);
    if (type === IpProtocol.ROUTING && read8(bytes, at + 3) > 0 && units >= 2) {
      const kind = read8(bytes, at + 2);
      if (kind === 0 || kind === 2) return at + 8 + (Math.floor(units / 2) - 1) * 16;
      if (kind === 4) return at + 8;
    }
    const length =
      type === IpProtocol.FRAGMENT ? 8 : type === IpProtocol.AH ? (units + 2) * 4 : (units + 1) * 8;
    type = read8(bytes, at);
    at += length;
  }
  return packet.destinationOffset;
}

/** Verifies the transport checksum of a packet that was read by loadIpPacket. */
export function transportChecksumStatus(packet: IpPacket): ChecksumStatus {
  if (packet.family === 0 || packet.problem !== undefined || packet.isFragment) return 'unverifiable';
  const { bytes, transportOffset, protocol } = packet;
  const available = packet.end - transportOffset;
  if (protocol === IpProtocol.SCTP) {
    if (available < 12) return 'unverifiable';
    return read32(bytes, transportOffset + 8) === computeSctpChecksum(bytes, transportOffset, packet.end)
      ? 'good'
      : 'bad';
  }
  const field = checksumField(packet);
  if (field < 0) return 'none';
  if (available < field + 2) return 'unverifiable';
  if (read16(bytes, transportOffset + field) === 0) {
    if (protocol === IpProtocol.UDP && packet.family === 4) return 'none';
    if (protocol === IpProtocol.UDP || protocol === IpProtocol.UDPLITE) return 'illegal';
  }
  const covered = coveredLength(packet, available);
  if (covered < 0) return 'unverifiable';
  return foldSum(transportSum(packet, available, covered)) === 0xffff ? 'good' : 'bad';
}

/**
 * Computes the transport checksum and writes it into the packet's bytes; packets whose status cannot be computed
 * stay as they are. UDP that sums to zero gets 0xffff (RFC 768).
 */
export function fillTransportChecksum(packet: IpPacket): void {
  if (packet.family === 0 || packet.problem !== undefined || packet.isFragment) return;
  const { bytes, transportOffset, protocol } = packet;
  const available = packet.end - transportOffset;
  if (protocol === IpProtocol.SCTP && available >= 12) {
    write32(bytes, transportOffset + 8, computeSctpChecksum(bytes, transportOffset, packet.end));
    return;
  }
  const field = checksumField(packet);
  if (field < 0 || available < field + 2) return;
  const covered = coveredLength(packet, available);
  if (covered < 0) return;
  write16(bytes, transportOffset + field, 0);
  const checksum = finishSum(transportSum(packet, available, covered));
  const zeroMeansNone = protocol === IpProtocol.UDP || protocol === IpProtocol.UDPLITE;
  write16(bytes, transportOffset + field, zeroMeansNone && checksum === 0 ? 0xffff : checksum);
}
