/** A packet as a tree: one node per header, outermost first, each inside the one that carries it. */
import { formatAddressBytes } from '../net/index.ts';
import { parseArp } from './arp.ts';
import { parseDccp } from './dccp.ts';
import { EtherType, formatMac } from './ethernet.ts';
import type { Frame } from './frame.ts';
import { parseGre } from './gre.ts';
import { isIcmpError, isIcmpv6Error, parseIcmp } from './icmp.ts';
import { parseAh, parseEsp } from './ipsec.ts';
import { parseIpv4, verifyIpv4Checksum } from './ipv4.ts';
import { parseIpv6 } from './ipv6.ts';
import { walkExtensions } from './ipv6-extension.ts';
import { linkTypeName } from './link-type.ts';
import { walkIpv6Options, walkOptions } from './options.ts';
import { IpPacket, loadIpPacket } from './packet.ts';
import { formatTcpFlags } from './print-line.ts';
import { IpProtocol, protocolName } from './protocol.ts';
import { parseSctp, walkChunks } from './sctp.ts';
import { parseTcp } from './tcp.ts';
import { transportChecksumStatus } from './transport-checksum.ts';
import { parseUdp } from './udp.ts';
import { vlanDropEligible, vlanId, vlanPriority } from './vlan.ts';

/** Quoted and tunnelled packets are shown to this depth. */
const DEEPEST = 4;
/** Lines are indented to this depth. */
const DEEPEST_INDENT = 16;

/** Prints a loaded frame, a line a header; ends without a newline. */
export function printFrameTree(frame: Frame): string {
  const lines = [linkLine(frame)];
  for (const { tpid, tci } of frame.vlanTags) {
    const eligible = vlanDropEligible(tci) ? ' dei' : '';
    lines.push(`VLAN tpid 0x${tpid.toString(16)} id ${vlanId(tci)} priority ${vlanPriority(tci)}${eligible}`);
  }
  if (frame.ip.family !== 0) lines.push(...packetLines(frame.ip, 0));
  else if (frame.etherType === EtherType.ETH_P_ARP) lines.push(arpLine(frame));
  else if (frame.problem !== undefined) lines.push(`problem: ${frame.problem}`);
  return nest(lines);
}

/** Prints a loaded IP packet, a line a header; ends without a newline. */
export function printPacketTree(packet: IpPacket): string {
  return nest(packetLines(packet, 0));
}

/** Each line is inside the one before it. Indentation ends somewhere: a hostile chain has thousands of headers. */
function nest(lines: readonly string[]): string {
  return lines
    .map((line, depth) =>
      depth === 0 ? line : `${' '.repeat(Math.min(depth, DEEPEST_INDENT) * 2 - 1)}\\ ${line}`,
    )
    .join('\n');
}

function linkLine(frame: Frame): string {
  const name = linkTypeName(frame.linkType);
  const length = `${frame.bytes.length} bytes`;
  if (frame.ethernetHeader === undefined) return `${name} ${length}`;
  const type = `0x${frame.etherType.toString(16).padStart(4, '0')}`;
  return `${name} ${formatMac(frame.bytes, 6)} > ${formatMac(frame.bytes, 0)} type ${type} ${length}`;
}

function arpLine(frame: Frame): string {
  const arp = parseArp(frame.bytes, frame.networkOffset);
  if (arp === undefined) return 'ARP problem: truncated';
  const address = (bytes: Uint8Array): string =>
    bytes.length === 4 ? formatAddressBytes(bytes) : `${bytes.length} bytes`;
  return `ARP operation ${arp.operation} ${address(arp.senderProtocol)} > ${address(arp.targetProtocol)}`;
}

function packetLines(packet: IpPacket, depth: number): string[] {
  if (packet.family === 0) return [`not an IP packet, problem: ${packet.problem ?? 'empty'}`];
  const lines = packet.family === 4 ? ipv4Lines(packet) : ipv6Lines(packet);
  if (packet.problem !== undefined) lines.push(`problem: ${packet.problem}`);
  const data = Math.max(0, packet.end - packet.transportOffset);
  if (packet.fragmentOffset > 0) {
    lines.push(`${protocolName(packet.protocol)} data of a later fragment, ${data} bytes`);
    return lines;
  }
  lines.push(...transportLines(packet, depth));
  return lines;
}

function ipv4Lines(packet: IpPacket): string[] {
  const header = parseIpv4(packet.bytes, packet.offset, packet.end);
  if (header === undefined) return ['IPv4'];
  const flags = [
    ...(header.reservedFlag ? ['reserved'] : []),
    ...(header.dontFragment ? ['DF'] : []),
    ...(header.moreFragments ? ['MF'] : []),
  ];
  const checksum = verifyIpv4Checksum(packet.bytes, packet.offset) ? '' : ' cksum bad';
  const kinds = walkOptions(header.options, 0, header.options.length);
  const options =
    header.options.length === 0
      ? ''
      : ` options [${kinds.options.map(({ kind }) => kind).join(' ')}]${kinds.wellFormed ? '' : ' malformed'}`;
  return [
    `IPv4 ${formatAddressBytes(header.source)} > ${formatAddressBytes(header.destination)} ` +
      `proto ${protocolName(header.protocol)} tos 0x${header.tos.toString(16)} ttl ${header.ttl} id ${header.id} ` +
      `flags [${flags.join(' ')}] offset ${header.fragmentOffset * 8} length ${header.totalLength}${checksum}${options}`,
  ];
}

function ipv6Lines(packet: IpPacket): string[] {
  const header = parseIpv6(packet.bytes, packet.offset, packet.end);
  if (header === undefined) return ['IPv6'];
  const lines = [
    `IPv6 ${formatAddressBytes(header.source)} > ${formatAddressBytes(header.destination)} ` +
      `class 0x${header.trafficClass.toString(16)} flow 0x${header.flowLabel.toString(16)} ` +
      `hlim ${header.hopLimit} payload ${header.payloadLength}`,
  ];
  const chain = walkExtensions(packet.bytes, packet.offset, packet.end);
  for (const { type, offset, length } of chain.headers) {
    const text = `${protocolName(type)} ${length} bytes`;
    if (type === IpProtocol.FRAGMENT && chain.fragment !== undefined) {
      const { fragmentOffset, moreFragments, id } = chain.fragment;
      lines.push(
        `${text} id 0x${id.toString(16)} offset ${fragmentOffset * 8}${moreFragments ? ' more' : ''}`,
      );
    } else if (type === IpProtocol.HOPOPTS || type === IpProtocol.DSTOPTS) {
      const { options, wellFormed } = walkIpv6Options(packet.bytes, offset + 2, offset + length);
      const kinds = options.map(({ kind }) => kind).join(' ');
      lines.push(`${text} options [${kinds}]${wellFormed ? '' : ' malformed'}`);
    } else if (type === IpProtocol.AH) {
      lines.push(`${text} spi 0x${(parseAh(packet.bytes, offset, packet.end)?.spi ?? 0).toString(16)}`);
    } else lines.push(text);
  }
  return lines;
}

function transportLines(packet: IpPacket, depth: number): string[] {
  const { bytes, transportOffset: at, end, protocol } = packet;
  const status = transportChecksumStatus(packet);
  const checksum = status === 'none' ? '' : ` cksum ${status}`;
  switch (protocol) {
    case IpProtocol.TCP: {
      const tcp = parseTcp(bytes, at, end);
      if (tcp === undefined) break;
      const { options, wellFormed } = walkOptions(tcp.options, 0, tcp.options.length);
      const kinds = options.map(({ kind }) => kind).join(' ');
      const ports = `TCP ${tcp.sourcePort} > ${tcp.destinationPort} [${formatTcpFlags(tcp.flags)}]`;
      const numbers = `seq ${tcp.sequence} ack ${tcp.acknowledgment} win ${tcp.window}`;
      return [`${ports} ${numbers} options [${kinds}]${wellFormed ? '' : ' malformed'}${checksum}`];
    }
    case IpProtocol.UDP:
    case IpProtocol.UDPLITE: {
      const udp = parseUdp(bytes, at, end);
      if (udp === undefined) break;
      const third = protocol === IpProtocol.UDP ? 'length' : 'coverage';
      return [
        `${protocolName(protocol)} ${udp.sourcePort} > ${udp.destinationPort} ${third} ${udp.length}${checksum}`,
      ];
    }
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6:
      return icmpLines(packet, checksum, depth);
    case IpProtocol.SCTP: {
      const sctp = parseSctp(bytes, at, end);
      if (sctp === undefined) break;
      const chunks = walkChunks(bytes, at + 12, end).chunks.map(({ type }) => type);
      return [
        `SCTP ${sctp.sourcePort} > ${sctp.destinationPort} tag ${sctp.tag} chunks [${chunks.join(' ')}]${checksum}`,
      ];
    }
    case IpProtocol.DCCP: {
      const dccp = parseDccp(bytes, at, end);
      if (dccp === undefined) break;
      return [
        `DCCP ${dccp.sourcePort} > ${dccp.destinationPort} type ${dccp.type} seq ${dccp.sequence}${checksum}`,
      ];
    }
    case IpProtocol.GRE: {
      const gre = parseGre(bytes, at, end);
      if (gre === undefined) break;
      const key = gre.key === undefined ? '' : ` key 0x${gre.key.toString(16)}`;
      return [`GRE version ${gre.version} type 0x${gre.protocol.toString(16).padStart(4, '0')}${key}`];
    }
    case IpProtocol.ESP: {
      const esp = parseEsp(bytes, at, end);
      if (esp === undefined) break;
      return [
        `ESP spi 0x${esp.spi.toString(16).padStart(8, '0')} seq ${esp.sequence}, ${end - at - 8} bytes`,
      ];
    }
    case IpProtocol.IPIP:
    case IpProtocol.IPV6:
      return innerLines(packet, at, depth);
    default:
      break;
  }
  return [`${protocolName(protocol)} ${Math.max(0, end - at)} bytes`];
}

function icmpLines(packet: IpPacket, checksum: string, depth: number): string[] {
  const { bytes, transportOffset: at, end, protocol } = packet;
  const icmp = parseIcmp(bytes, at, end);
  if (icmp === undefined) return [`${protocolName(protocol)} ${Math.max(0, end - at)} bytes`];
  const line = `${protocolName(protocol)} type ${icmp.type} code ${icmp.code} rest 0x${icmp.rest.toString(16).padStart(8, '0')}${checksum}`;
  const quotes = protocol === IpProtocol.ICMP ? isIcmpError(icmp.type) : isIcmpv6Error(icmp.type);
  return quotes && at + 8 < end ? [line, ...innerLines(packet, at + 8, depth)] : [line];
}

/** A packet inside a packet: a tunnel's, or the one an ICMP error quotes. */
function innerLines(packet: IpPacket, offset: number, depth: number): string[] {
  if (depth >= DEEPEST) return [`${packet.end - offset} bytes, not looked into any deeper`];
  const inner = new IpPacket();
  loadIpPacket(inner, packet.bytes, offset, packet.end);
  return packetLines(inner, depth + 1);
}
