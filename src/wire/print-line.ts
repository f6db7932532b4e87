/** One line a packet, in the manner of tcpdump: what flows, between whom, and what is odd about it. */
import { formatAddressBytes } from '../net/index.ts';
import { ArpOperation, parseArp } from './arp.ts';
import { ETH_HLEN, EtherType, formatMac } from './ethernet.ts';
import type { Frame } from './frame.ts';
import { IcmpType, Icmpv6Type, icmpCode, icmpId, icmpSequence, icmpType } from './icmp.ts';
import { espSequence, espSpi } from './ipsec.ts';
import type { IpPacket } from './packet.ts';
import { IpProtocol, protocolName } from './protocol.ts';
import { walkChunks } from './sctp.ts';
import {
  checkTcp,
  TcpFlag,
  tcpAcknowledgment,
  tcpFlags,
  tcpHeaderLength,
  tcpSequence,
  tcpWindow,
} from './tcp.ts';
import { transportChecksumStatus } from './transport-checksum.ts';
import { vlanId } from './vlan.ts';

/** Prints a loaded frame. */
export function printFrameLine(frame: Frame): string {
  const tags = frame.vlanTags.map(({ tci }) => `vlan ${vlanId(tci)} `).join('');
  if (frame.ip.family !== 0) return tags + printPacketLine(frame.ip);
  if (frame.etherType === EtherType.ETH_P_ARP) return tags + arpLine(frame);
  const type = `ethertype 0x${frame.etherType.toString(16).padStart(4, '0')}`;
  const between =
    frame.ethernetHeader === undefined ? '' : `${formatMac(frame.bytes, 6)} > ${formatMac(frame.bytes, 0)} `;
  const problem = frame.problem === undefined ? '' : ` [${frame.problem}]`;
  return `${tags}${between}${type}, length ${Math.max(0, frame.bytes.length - ETH_HLEN)}${problem}`;
}

/** Prints a loaded IP packet. */
export function printPacketLine(packet: IpPacket): string {
  if (packet.family === 0) return `not an IP packet [${packet.problem ?? 'empty'}]`;
  const version = packet.family === 4 ? 'IP' : 'IP6';
  const source = endpoint(packet.source, packet.hasPorts ? packet.sourcePort : undefined);
  const destination = endpoint(packet.destination, packet.hasPorts ? packet.destinationPort : undefined);
  const problem = packet.problem === undefined ? '' : ` [${packet.problem}]`;
  return `${version} ${source} > ${destination}: ${describe(packet)}${fragmentNote(packet)}${problem}`;
}

function endpoint(address: Uint8Array, port: number | undefined): string {
  const text = formatAddressBytes(address);
  return port === undefined ? text : `${text}.${port}`;
}

function fragmentNote(packet: IpPacket): string {
  if (!packet.isFragment) return '';
  const data = packet.end - packet.transportOffset;
  return ` frag ${packet.fragmentOffset * 8}:${data}${packet.moreFragments ? '+' : ''}`;
}

function describe(packet: IpPacket): string {
  const { bytes, transportOffset: at, end, protocol } = packet;
  const available = Math.max(0, end - at);
  const plain = `${protocolName(protocol)}, length ${available}`;
  if (packet.fragmentOffset > 0) return plain;
  switch (protocol) {
    case IpProtocol.TCP:
      return checkTcp(bytes, at, end) === undefined
        ? `${tcpText(packet)}${checksumNote(packet)}`
        : `${plain} [bad header]`;
    case IpProtocol.UDP:
    case IpProtocol.UDPLITE:
      return available < 8
        ? plain
        : `${protocolName(protocol)}, length ${available - 8}${checksumNote(packet)}`;
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6:
      return available < 4 ? plain : `${icmpText(packet)}, length ${available}${checksumNote(packet)}`;
    case IpProtocol.SCTP:
      return available < 12 ? plain : `${sctpText(packet)}${checksumNote(packet)}`;
    case IpProtocol.ESP:
      if (available < 8) return plain;
      return `ESP(spi=0x${espSpi(bytes, at).toString(16).padStart(8, '0')},seq=${espSequence(bytes, at)}), length ${available}`;
    default:
      return plain;
  }
}

function checksumNote(packet: IpPacket): string {
  const status = transportChecksumStatus(packet);
  return status === 'bad' || status === 'illegal' ? ` [${status} cksum]` : '';
}

/** Flags in tcpdump's letters; `.` is ACK. */
const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [TcpFlag.FIN, 'F'],
  [TcpFlag.SYN, 'S'],
  [TcpFlag.RST, 'R'],
  [TcpFlag.PSH, 'P'],
  [TcpFlag.ACK, '.'],
  [TcpFlag.URG, 'U'],
  [TcpFlag.ECE, 'E'],
  [TcpFlag.CWR, 'W'],
];

/** TCP flags as tcpdump prints them: `S`, `S.`, `P.`, `none`. */
export function formatTcpFlags(flags: number): string {
  const letters = FLAG_LETTERS.map(([bit, letter]) => ((flags & bit) !== 0 ? letter : '')).join('');
  return letters === '' ? 'none' : letters;
}

function tcpText(packet: IpPacket): string {
  const { bytes, transportOffset: at, end } = packet;
  const flags = tcpFlags(bytes, at);
  const length = end - at - tcpHeaderLength(bytes, at);
  const sequence = tcpSequence(bytes, at);
  const range = length > 0 ? `${sequence}:${(sequence + length) >>> 0}` : String(sequence);
  const acknowledgment = (flags & TcpFlag.ACK) !== 0 ? `, ack ${tcpAcknowledgment(bytes, at)}` : '';
  return `Flags [${formatTcpFlags(flags)}], seq ${range}${acknowledgment}, win ${tcpWindow(bytes, at)}, length ${length}`;
}

const ICMP_NAMES: ReadonlyMap<number, string> = new Map<number, string>([
  [IcmpType.ICMP_ECHOREPLY, 'echo reply'],
  [IcmpType.ICMP_DEST_UNREACH, 'destination unreachable'],
  [IcmpType.ICMP_SOURCE_QUENCH, 'source quench'],
  [IcmpType.ICMP_REDIRECT, 'redirect'],
  [IcmpType.ICMP_ECHO, 'echo request'],
  [IcmpType.ICMP_TIME_EXCEEDED, 'time exceeded'],
  [IcmpType.ICMP_PARAMETERPROB, 'parameter problem'],
]);
const ICMPV6_NAMES: ReadonlyMap<number, string> = new Map<number, string>([
  [Icmpv6Type.ICMPV6_DEST_UNREACH, 'destination unreachable'],
  [Icmpv6Type.ICMPV6_PKT_TOOBIG, 'packet too big'],
  [Icmpv6Type.ICMPV6_TIME_EXCEED, 'time exceeded'],
  [Icmpv6Type.ICMPV6_PARAMPROB, 'parameter problem'],
  [Icmpv6Type.ICMPV6_ECHO_REQUEST, 'echo request'],
  [Icmpv6Type.ICMPV6_ECHO_REPLY, 'echo reply'],
  [Icmpv6Type.NDISC_ROUTER_SOLICITATION, 'router solicitation'],
  [Icmpv6Type.NDISC_ROUTER_ADVERTISEMENT, 'router advertisement'],
  [Icmpv6Type.NDISC_NEIGHBOUR_SOLICITATION, 'neighbor solicitation'],
  [Icmpv6Type.NDISC_NEIGHBOUR_ADVERTISEMENT, 'neighbor advertisement'],
  [Icmpv6Type.NDISC_REDIRECT, 'redirect'],
  [Icmpv6Type.ICMPV6_MLD2_REPORT, 'multicast listener report v2'],
]);

function icmpText(packet: IpPacket): string {
  const { bytes, transportOffset: at, end, protocol } = packet;
  const type = icmpType(bytes, at);
  const name = (protocol === IpProtocol.ICMP ? ICMP_NAMES : ICMPV6_NAMES).get(type) ?? `type ${type}`;
  const code = icmpCode(bytes, at) === 0 ? '' : ` code ${icmpCode(bytes, at)}`;
  const isEcho = name.startsWith('echo') && at + 8 <= end;
  const id = isEcho ? `, id ${icmpId(bytes, at)}, seq ${icmpSequence(bytes, at)}` : '';
  return `${protocolName(protocol)} ${name}${code}${id}`;
}

const CHUNK_NAMES: readonly string[] = [
  'DATA',
  'INIT',
  'INIT ACK',
  'SACK',
  'HB REQ',
  'HB ACK',
  'ABORT',
  'SHUTDOWN',
  'SHUTDOWN ACK',
  'ERROR',
  'COOKIE ECHO',
  'COOKIE ACK',
];

function sctpText(packet: IpPacket): string {
  const { chunks } = walkChunks(packet.bytes, packet.transportOffset + 12, packet.end);
  const names = chunks.map(({ type }) => CHUNK_NAMES[type] ?? `chunk ${type}`);
  return `SCTP [${names.join('] [')}], length ${packet.end - packet.transportOffset}`;
}

function arpLine(frame: Frame): string {
  const arp = parseArp(frame.bytes, frame.networkOffset);
  if (arp === undefined) return 'ARP [truncated]';
  const known = arp.senderProtocol.length === 4 && arp.senderHardware.length === 6;
  if (!known) return `ARP, operation ${arp.operation}, hardware ${arp.hardwareType}`;
  const sender = formatAddressBytes(arp.senderProtocol);
  const target = formatAddressBytes(arp.targetProtocol);
  if (arp.operation === ArpOperation.REQUEST) return `ARP, Request who-has ${target} tell ${sender}`;
  if (arp.operation === ArpOperation.REPLY)
    return `ARP, Reply ${sender} is-at ${formatMac(arp.senderHardware)}`;
  return `ARP, operation ${arp.operation}, ${sender} to ${target}`;
}
