/** Transport checksums of whole IP packets: verify and fill, for TCP, UDP, UDP-Lite, ICMP, ICMPv6, SCTP, DCCP. */

import { read8, read16, read32, write16, write32 } from './bytes.ts';
import { addToSum, finishSum, foldSum, pseudoHeaderSum } from './checksum.ts';
import { DCCP_HEADER_LENGTH, dccpCoverage, dccpDataOffset } from './dccp.ts';
import { IPV6_HEADER_LENGTH } from './ipv6.ts';
import { extensionLength } from './ipv6-extension.ts';
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

/** Home Address destination option (RFC 6275 §6.3). */
const HOME_ADDRESS_OPTION = 0xc9;

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
    if (coverage === 0) return available < DCCP_HEADER_LENGTH ? -1 : available;
    const covered = dccpDataOffset(bytes, transportOffset) + (coverage - 1) * 4;
    return covered < DCCP_HEADER_LENGTH || covered > available ? -1 : covered;
  }
  return available;
}

/** Sum over pseudo header and covered bytes, the checksum field included. */
function transportSum(packet: IpPacket, available: number, covered: number): number {
  const { bytes, transportOffset, protocol } = packet;
  // UDP states its own length in the pseudo header, UDP-Lite and DCCP that of the whole packet.
  const length = protocol === IpProtocol.UDP ? covered : available;
  if (protocol === IpProtocol.ICMP) return addToSum(0, bytes, transportOffset, transportOffset + covered);
  findPseudoAddresses(packet);
  const { sourceOffset, destinationOffset } = pseudo;
  const sum = pseudoHeaderSum(bytes, sourceOffset, destinationOffset, packet.addressLength, protocol, length);
  return addToSum(sum, bytes, transportOffset, transportOffset + covered);
}

/** Where the addresses of the pseudo header stand; written over for each packet. */
const pseudo = { sourceOffset: 0, destinationOffset: 0 };

/**
 * Finds the pseudo header's addresses. IPv6 headers can name others than the fixed header does:
 * - a Home Address option stands for the source (RFC 6275 §6.3);
 * - while a routing header has segments left, the destination is the route's last address (RFC 8200 §8.1): the last
 *   of a type 0 or 2 header, the first of the segment list of a type 4 one (RFC 8754 §2).
 */
function findPseudoAddresses(packet: IpPacket): void {
  pseudo.sourceOffset = packet.sourceOffset;
  pseudo.destinationOffset = packet.destinationOffset;
  if (packet.family !== 6) return;
  const { bytes } = packet;
  let type = read8(bytes, packet.offset + 6);
  let at = packet.offset + IPV6_HEADER_LENGTH;
  while (at < packet.transportOffset) {
    const length = extensionLength(type, bytes, at);
    if (type === IpProtocol.ROUTING) findFinalDestination(bytes, at);
    else if (type === IpProtocol.DSTOPTS) findHomeAddress(bytes, at, at + length);
    type = read8(bytes, at);
    at += length;
  }
}

function findFinalDestination(bytes: Uint8Array, at: number): void {
  const units = read8(bytes, at + 1);
  if (read8(bytes, at + 3) === 0 || units < 2) return;
  const kind = read8(bytes, at + 2);
  if (kind === 0 || kind === 2) pseudo.destinationOffset = at + 8 + (Math.floor(units / 2) - 1) * 16;
  else if (kind === 4) pseudo.destinationOffset = at + 8;
}

function findHomeAddress(bytes: Uint8Array, start: number, end: number): void {
  for (let at = start + 2; at + 1 < end; at += bytes[at] === 0 ? 1 : 2 + bytes[at + 1]!) {
    if (bytes[at] === HOME_ADDRESS_OPTION && bytes[at + 1] === 16 && at + 18 <= end)
      pseudo.sourceOffset = at + 2;
  }
}

/** True when all that a checksum covers is there. An atomic fragment (RFC 6946) is whole. */
function isWhole(packet: IpPacket): boolean {
  return (
    packet.family !== 0 &&
    packet.problem === undefined &&
    packet.fragmentOffset === 0 &&
    !packet.moreFragments
  );
}

/** Verifies the transport checksum of a packet that was read by loadIpPacket. */
export function transportChecksumStatus(packet: IpPacket): ChecksumStatus {
  if (packet.family === 0 || packet.fragmentOffset > 0) return 'unverifiable';
  const { bytes, transportOffset, protocol } = packet;
  const available = packet.end - transportOffset;
  if (protocol === IpProtocol.SCTP) {
    if (!isWhole(packet) || available < 12) return 'unverifiable';
    const computed = computeSctpChecksum(bytes, transportOffset, packet.end);
    return read32(bytes, transportOffset + 8) === computed ? 'good' : 'bad';
  }
  const field = checksumField(packet);
  if (field < 0) return 'none';
  if (available < field + 2) return 'unverifiable';
  // A zero says all there is to say, also in a first fragment.
  if (read16(bytes, transportOffset + field) === 0) {
    if (protocol === IpProtocol.UDP && packet.family === 4) return 'none';
    if (protocol === IpProtocol.UDP || protocol === IpProtocol.UDPLITE) return 'illegal';
  }
  const covered = isWhole(packet) ? coveredLength(packet, available) : -1;
  if (covered < 0) return 'unverifiable';
  return foldSum(transportSum(packet, available, covered)) === 0xffff ? 'good' : 'bad';
}

/**
 * Computes the transport checksum and writes it into the packet's bytes; packets whose status cannot be computed
 * stay as they are. UDP that sums to zero gets 0xffff (RFC 768).
 */
export function fillTransportChecksum(packet: IpPacket): void {
  if (!isWhole(packet)) return;
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
