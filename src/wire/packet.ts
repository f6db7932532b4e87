/**
 * An IP packet at a glance: one reusable object that walks either family's headers to the transport header and keeps
 * the offsets, so that a packet path allocates nothing per packet.
 */

import { read8, read16 } from './bytes.ts';
import {
  checkIpv4,
  IP_MF,
  IP_OFFSET,
  ipv4FragmentWord,
  ipv4HeaderLength,
  ipv4Protocol,
  ipv4TotalLength,
} from './ipv4.ts';
import { checkIpv6, IPV6_HEADER_LENGTH, ipv6NextHeader, ipv6TotalLength } from './ipv6.ts';
import { extensionLength, isExtensionHeader } from './ipv6-extension.ts';
import type { WireProblem } from './problem.ts';
import { IpProtocol } from './protocol.ts';

/** What {@link loadIpPacket} finds. Offsets are in `bytes`. Meaningless when `family` is 0. */
export class IpPacket {
  bytes: Uint8Array = new Uint8Array(0);
  /** 4, 6, or 0 when the bytes are no IP header. */
  family: 0 | 4 | 6 = 0;
  problem: WireProblem | undefined = undefined;
  offset = 0;
  /** Where the packet ends: its length field, or what there is of it. */
  end = 0;
  /** Bytes by the length field, also where fewer are there. */
  totalLength = 0;
  /** Protocol at the end of the headers; IPv6: after the whole extension chain, RFC 8200's view, not netfilter's. */
  protocol = 0;
  transportOffset = 0;
  isFragment = false;
  /** In units of 8 bytes. */
  fragmentOffset = 0;
  moreFragments = false;
  /** Host order; 0 where the protocol has none or the packet is a later fragment. */
  sourcePort = 0;
  destinationPort = 0;
  hasPorts = false;

  /** Bytes of each address. */
  get addressLength(): 4 | 16 {
    return this.family === 6 ? 16 : 4;
  }
  get sourceOffset(): number {
    return this.offset + (this.family === 6 ? 8 : 12);
  }
  get destinationOffset(): number {
    return this.offset + (this.family === 6 ? 24 : 16);
  }
  /** A view over the source address. */
  get source(): Uint8Array {
    return this.bytes.subarray(this.sourceOffset, this.sourceOffset + this.addressLength);
  }
  /** A view over the destination address. */
  get destination(): Uint8Array {
    return this.bytes.subarray(this.destinationOffset, this.destinationOffset + this.addressLength);
  }
}

/** Reads the packet in `bytes[offset, end)` into `packet`. True when its headers are whole and well formed. */
export function loadIpPacket(
  packet: IpPacket,
  bytes: Uint8Array,
  offset = 0,
  end: number = bytes.length,
): boolean {
  packet.bytes = bytes;
  packet.offset = offset;
  packet.end = end;
  packet.family = 0;
  packet.totalLength = 0;
  packet.protocol = 0;
  packet.transportOffset = end;
  packet.isFragment = false;
  packet.fragmentOffset = 0;
  packet.moreFragments = false;
  packet.sourcePort = 0;
  packet.destinationPort = 0;
  packet.hasPorts = false;
  packet.problem = offset < end ? loadHeaders(packet) : 'truncated';
  if (packet.family !== 0 && packet.fragmentOffset === 0) loadPorts(packet);
  return packet.problem === undefined;
}

function loadHeaders(packet: IpPacket): WireProblem | undefined {
  const version = packet.bytes[packet.offset]! >>> 4;
  if (version === 4) return loadIpv4(packet);
  return version === 6 ? loadIpv6(packet) : 'version';
}

function loadIpv4(packet: IpPacket): WireProblem | undefined {
  const { bytes, offset, end } = packet;
  const problem = checkIpv4(bytes, offset, end);
  if (problem !== undefined && problem !== 'packet-truncated' && problem !== 'total-length') return problem;
  packet.family = 4;
  packet.totalLength = ipv4TotalLength(bytes, offset);
  packet.transportOffset = offset + ipv4HeaderLength(bytes, offset);
  if (problem !== 'total-length') packet.end = Math.min(end, offset + packet.totalLength);
  packet.protocol = ipv4Protocol(bytes, offset);
  const word = ipv4FragmentWord(bytes, offset);
  packet.isFragment = (word & (IP_MF | IP_OFFSET)) !== 0;
  packet.fragmentOffset = word & IP_OFFSET;
  packet.moreFragments = (word & IP_MF) !== 0;
  return problem;
}

function loadIpv6(packet: IpPacket): WireProblem | undefined {
  const { bytes, offset } = packet;
  const problem = checkIpv6(bytes, offset, packet.end);
  if (problem !== undefined && problem !== 'packet-truncated') return problem;
  packet.family = 6;
  packet.totalLength = ipv6TotalLength(bytes, offset, packet.end) ?? packet.end - offset;
  packet.end = Math.min(packet.end, offset + packet.totalLength);
  let next = ipv6NextHeader(bytes, offset);
  let at = offset + IPV6_HEADER_LENGTH;
  let chainProblem: WireProblem | undefined;
  while (isExtensionHeader(next)) {
    const length = at + 2 <= packet.end ? extensionLength(next, bytes, at) : 2;
    if (at + length > packet.end) {
      chainProblem = 'truncated';
      break;
    }
    const isFragment = next === IpProtocol.FRAGMENT;
    next = read8(bytes, at);
    if (isFragment) {
      const word = read16(bytes, at + 2);
      packet.isFragment = true;
      packet.fragmentOffset = word >>> 3;
      packet.moreFragments = (word & 1) !== 0;
    }
    at += length;
    if (packet.fragmentOffset > 0) break;
  }
  packet.protocol = next;
  packet.transportOffset = at;
  return problem ?? chainProblem;
}

/** True for the protocols whose header begins with two 16-bit ports. */
export function protocolHasPorts(protocol: number): boolean {
  return (
    protocol === IpProtocol.TCP ||
    protocol === IpProtocol.UDP ||
    protocol === IpProtocol.UDPLITE ||
    protocol === IpProtocol.SCTP ||
    protocol === IpProtocol.DCCP
  );
}

function loadPorts(packet: IpPacket): void {
  if (!protocolHasPorts(packet.protocol) || packet.transportOffset + 4 > packet.end) return;
  packet.hasPorts = true;
  packet.sourcePort = read16(packet.bytes, packet.transportOffset);
  packet.destinationPort = read16(packet.bytes, packet.transportOffset + 2);
}
