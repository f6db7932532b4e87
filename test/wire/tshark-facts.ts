/** The same facts about a packet from our views and from tshark's columns, as text, under the names of its fields. */
import { formatAddressBytes } from '../../src/net/index.ts';
import {
  type CapturedPacket,
  type ChecksumStatus,
  checkTcp,
  EtherType,
  type Frame,
  formatMac,
  IpProtocol,
  icmpCode,
  icmpType,
  ipv4DontFragment,
  ipv4HeaderLength,
  ipv4Id,
  ipv4Protocol,
  ipv4TotalLength,
  ipv4Ttl,
  ipv6FlowLabel,
  ipv6HopLimit,
  ipv6NextHeader,
  ipv6PayloadLength,
  ipv6TrafficClass,
  LinkType,
  tcpAcknowledgment,
  tcpFlags,
  tcpHeaderLength,
  tcpSequence,
  transportChecksumStatus,
  udpLength,
  verifyIpv4Checksum,
  vlanId,
  walkExtensions,
  walkIpv6Options,
  walkOptions,
} from '../../src/wire/index.ts';

/** Columns asked of tshark. The second and third are the frame's own. */
export const FIELDS: readonly string[] = [
  'frame.number',
  'frame.cap_len',
  'frame.protocols',
  'frame.len',
  'frame.time_epoch',
  'eth.src',
  'eth.dst',
  'vlan.id',
  'ieee8021ad.id',
  'sll.pkttype',
  'ip.version',
  'ip.hdr_len',
  'ip.len',
  'ip.id',
  'ip.flags.df',
  'ip.flags.mf',
  'ip.frag_offset',
  'ip.ttl',
  'ip.proto',
  'ip.checksum.status',
  'ip.src',
  'ip.dst',
  'ipv6.version',
  'ipv6.tclass',
  'ipv6.flow',
  'ipv6.plen',
  'ipv6.nxt',
  'ipv6.hlim',
  'ipv6.src',
  'ipv6.dst',
  'ipv6.fraghdr.offset',
  'ipv6.fraghdr.more',
  'ipv6.fraghdr.ident',
  'tcp.srcport',
  'tcp.dstport',
  'tcp.seq_raw',
  'tcp.ack_raw',
  'tcp.hdr_len',
  'tcp.flags',
  'tcp.checksum.status',
  'udp.srcport',
  'udp.dstport',
  'udp.length',
  'udp.checksum.status',
  'icmp.type',
  'icmp.code',
  'icmp.checksum.status',
  'icmpv6.type',
  'icmpv6.code',
  'icmpv6.checksum.status',
  'sctp.srcport',
  'sctp.dstport',
  'sctp.checksum.status',
  'dccp.srcport',
  'dccp.dstport',
  'dccp.checksum.status',
];

export type Facts = Record<string, string | undefined>;

/** tshark's first value of each column, numbers in decimal. */
export function tsharkFacts(answer: readonly string[]): Facts {
  const facts: Facts = {};
  for (const [index, field] of FIELDS.entries()) {
    const column = answer[index] ?? '';
    const first = field === 'vlan.id' || field === 'ieee8021ad.id' ? column : column.split(',')[0]!;
    facts[field] = /^0x[0-9a-f]+$/.test(first) ? String(Number(first)) : first === '' ? undefined : first;
  }
  facts.network = networkOf(answer[2] ?? '');
  return facts;
}

const LINK_LAYERS = new Set(['eth', 'ethertype', 'vlan', 'ieee8021ad', 'sll', 'null', 'raw']);

/** The family of the IP packet that tshark finds directly after the link header, if it does. */
function networkOf(protocols: string): string | undefined {
  const first = protocols.split(':').find((name) => !LINK_LAYERS.has(name));
  if (first === 'ip') return '4';
  return first === 'ipv6' ? '6' : undefined;
}

/** True when the frame's payload is an IP packet whose fixed header can be read. */
export function hasNetworkPacket(frame: Frame): boolean {
  return frame.ip.family !== 0;
}

const STATUS: Readonly<Record<ChecksumStatus, string>> = {
  bad: '0',
  good: '1',
  unverifiable: '2',
  none: '3',
  illegal: '4',
};

/** What our views say; only what they do say. */
export function factsOf(frame: Frame, packet: CapturedPacket): Facts {
  const facts: Facts = {
    'frame.cap_len': String(packet.data.length),
    'frame.len': String(packet.originalLength),
    'frame.time_epoch': formatTime(packet.timestampNs ?? 0n),
  };
  if (frame.ethernetHeader !== undefined) {
    facts['eth.dst'] = formatMac(packet.data, 0);
    facts['eth.src'] = formatMac(packet.data, 6);
  }
  if (frame.linkType === LinkType.LINUX_SLL && packet.data.length >= 16) {
    facts['sll.pkttype'] = String(frame.packetType);
  }
  // tshark dissects a service tag apart; the older 0x9100 one it takes for a customer tag.
  for (const { tpid, tci } of frame.vlanTags) {
    const field = tpid === EtherType.ETH_P_8021AD ? 'ieee8021ad.id' : 'vlan.id';
    const before = facts[field];
    facts[field] = before === undefined ? String(vlanId(tci)) : `${before},${vlanId(tci)}`;
  }
  facts.network = frame.ip.family === 0 ? undefined : String(frame.ip.family);
  if (frame.ip.family === 0) return facts;
  if (frame.ip.family === 4) addIpv4(facts, frame);
  else addIpv6(facts, frame);
  if (frame.ip.fragmentOffset === 0) addTransport(facts, frame);
  return facts;
}

function formatTime(ns: bigint): string {
  return `${ns / 1_000_000_000n}.${String(ns % 1_000_000_000n).padStart(9, '0')}`;
}

function addIpv4(facts: Facts, frame: Frame): void {
  const { bytes, offset } = frame.ip;
  facts['ip.version'] = '4';
  facts['ip.hdr_len'] = String(ipv4HeaderLength(bytes, offset));
  facts['ip.len'] = String(ipv4TotalLength(bytes, offset));
  facts['ip.id'] = String(ipv4Id(bytes, offset));
  facts['ip.flags.df'] = ipv4DontFragment(bytes, offset) ? '1' : '0';
  facts['ip.flags.mf'] = frame.ip.moreFragments ? '1' : '0';
  facts['ip.frag_offset'] = String(frame.ip.fragmentOffset);
  facts['ip.ttl'] = String(ipv4Ttl(bytes, offset));
  facts['ip.proto'] = String(ipv4Protocol(bytes, offset));
  facts['ip.checksum.status'] = verifyIpv4Checksum(bytes, offset) ? '1' : '0';
  facts['ip.src'] = formatAddressBytes(frame.ip.source);
  facts['ip.dst'] = formatAddressBytes(frame.ip.destination);
}

function addIpv6(facts: Facts, frame: Frame): void {
  const { bytes, offset, end } = frame.ip;
  facts['ipv6.version'] = '6';
  facts['ipv6.tclass'] = String(ipv6TrafficClass(bytes, offset));
  facts['ipv6.flow'] = String(ipv6FlowLabel(bytes, offset));
  facts['ipv6.plen'] = String(ipv6PayloadLength(bytes, offset));
  facts['ipv6.nxt'] = String(ipv6NextHeader(bytes, offset));
  facts['ipv6.hlim'] = String(ipv6HopLimit(bytes, offset));
  facts['ipv6.src'] = formatAddressBytes(frame.ip.source);
  facts['ipv6.dst'] = formatAddressBytes(frame.ip.destination);
  const { headers } = walkExtensions(bytes, offset, end);
  const first = headers.find(({ type }) => type === IpProtocol.FRAGMENT);
  if (first === undefined) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset + first.offset, 8);
  facts['ipv6.fraghdr.offset'] = String(view.getUint16(2) >>> 3);
  facts['ipv6.fraghdr.more'] = String(view.getUint16(2) & 1);
  facts['ipv6.fraghdr.ident'] = String(view.getUint32(4));
}

const PORTS: Readonly<Record<number, string>> = {
  [IpProtocol.TCP]: 'tcp',
  [IpProtocol.UDP]: 'udp',
  [IpProtocol.SCTP]: 'sctp',
  [IpProtocol.DCCP]: 'dccp',
};

function addTransport(facts: Facts, frame: Frame): void {
  const { ip } = frame;
  const { bytes, transportOffset: at } = ip;
  const name = PORTS[ip.protocol];
  const whole = ip.protocol !== IpProtocol.TCP || checkTcp(bytes, at, ip.end) === undefined;
  if (name !== undefined && ip.hasPorts) {
    facts[`${name}.srcport`] = String(ip.sourcePort);
    facts[`${name}.dstport`] = String(ip.destinationPort);
    if (whole) facts[`${name}.checksum.status`] = STATUS[transportChecksumStatus(ip)];
  }
  if (ip.protocol === IpProtocol.UDP && at + 8 <= ip.end) facts['udp.length'] = String(udpLength(bytes, at));
  if (ip.protocol === IpProtocol.TCP && whole) {
    facts['tcp.seq_raw'] = String(tcpSequence(bytes, at));
    facts['tcp.ack_raw'] = String(tcpAcknowledgment(bytes, at));
    facts['tcp.hdr_len'] = String(tcpHeaderLength(bytes, at));
    facts['tcp.flags'] = String(((bytes[at + 12]! & 0x0f) << 8) | tcpFlags(bytes, at));
  }
  const icmp = ip.family === 4 && ip.protocol === IpProtocol.ICMP ? 'icmp' : undefined;
  const icmpv6 = ip.family === 6 && ip.protocol === IpProtocol.ICMPV6 ? 'icmpv6' : undefined;
  const message = icmp ?? icmpv6;
  if (message !== undefined && at + 4 <= ip.end) {
    facts[`${message}.type`] = String(icmpType(bytes, at));
    facts[`${message}.code`] = String(icmpCode(bytes, at));
    facts[`${message}.checksum.status`] = STATUS[transportChecksumStatus(ip)];
  }
}

/**
 * Why tshark's answer may differ here, or `undefined` when it may not. Each case is a reading of tshark's that a
 * packet path must not share; its condition is as narrow as the reason.
 */
export function excuse(
  field: string,
  frame: Frame,
  packet: CapturedPacket,
  ours: string | undefined,
  theirs: string | undefined,
  answer: readonly string[],
): string | undefined {
  const { problem } = frame;
  if (field === 'network') {
    const impossible = problem === 'version' || problem === 'header-length' || problem === 'truncated';
    if (ours === undefined && impossible && answer[FIELDS.indexOf('ip.src')] === '') {
      return 'tshark names the IP layer before it finds the header impossible';
    }
    if (ours === undefined && problem === 'truncated' && packet.data.length < packet.originalLength) {
      return 'tshark reads a fixed header whose options the capture cut off';
    }
    if (ours === undefined && frame.linkType === LinkType.NULL && frame.etherType === 0) {
      return 'tshark guesses an EtherType where a BSD loopback header has no known address family';
    }
  }
  if (problem === 'total-length' && theirs === undefined) {
    return 'tshark stops at a total length below the header length; the fields are there to be read';
  }
  if (problem === 'packet-truncated' && field.endsWith('checksum.status') && ours === '2') {
    return 'tshark sums what is there of a packet that ends before its length says; the kernel drops it';
  }
  if (field === 'ip.dst' && hasSourceRoute(frame)) {
    return "tshark shows a source route's last hop as the destination";
  }
  if (field.startsWith('udp.') && hasMalformedDestinationOptions(frame)) {
    return 'tshark stops at malformed destination options, or believes a Home Address of wrong length';
  }
  return undefined;
}

function hasSourceRoute(frame: Frame): boolean {
  const { bytes, offset, family } = frame.ip;
  if (family !== 4) return false;
  const { options } = walkOptions(bytes, offset + 20, offset + ipv4HeaderLength(bytes, offset));
  return options.some(({ kind }) => kind === 131 || kind === 137);
}

function hasMalformedDestinationOptions(frame: Frame): boolean {
  const { bytes, offset, end, family } = frame.ip;
  if (family !== 6) return false;
  return walkExtensions(bytes, offset, end).headers.some((header) => {
    if (header.type !== IpProtocol.DSTOPTS) return false;
    const list = walkIpv6Options(bytes, header.offset + 2, header.offset + header.length);
    return !list.wellFormed || list.options.some(({ kind, data }) => kind === 0xc9 && data.length !== 16);
  });
}
