/**
 * A LOG record in the kernel's own words: net/netfilter/nf_log_syslog.c of Linux 6.15 and later. Not known to a record: the
 * ports of a bridge (PHYSIN=, PHYSOUT=). Headers beyond what was captured read as cut off.
 */
import { formatAddressBytes } from '../../net/index.ts';

/** What a line is made of. */
export interface LoggedPacket {
  readonly prefix: string;
  /** XT_LOG_* */
  readonly flags: number;
  readonly inDevice: string;
  readonly outDevice: string;
  readonly link: LinkHeader;
  readonly mark: number;
  /** Of the socket that sends it, when the rule asks and there is one. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Bytes of the whole IP packet. */
  readonly length: number;
  /** From the IP header on, as much as was captured. */
  readonly packet: Uint8Array;
}

export interface LinkHeader {
  /** ARPHRD_* of the packet's device */
  readonly deviceType: number;
  /** Bytes from the link-layer header to the IP header; 0: none. */
  readonly macLength: number;
  /** As many bytes from the link-layer header on as headers of the device have. */
  readonly bytes: Uint8Array;
  /** The tag that the device took out of the frame. */
  readonly vlan?: { readonly protocol: number; readonly tci: number };
}

const LOG_TCPSEQ = 0x01;
const LOG_TCPOPT = 0x02;
const LOG_IPOPT = 0x04;
const LOG_UID = 0x08;
const LOG_MACDECODE = 0x20;

const ARPHRD_ETHER = 1;
const ETH_HLEN = 14;

/** One line, as the kernel's log has it behind the time. */
export function logText(logged: LoggedPacket): string {
  const { packet, inDevice, outDevice } = logged;
  const mac = inDevice === '' ? '' : linkText(logged);
  const version = (packet[0] ?? 0) >> 4;
  const whole = { bytes: packet, end: Math.max(logged.length, packet.length) };
  const body = version === 6 ? ipv6Text(logged, whole, 0, true) : ipv4Text(logged, whole, 0);
  return `${logged.prefix}IN=${inDevice} OUT=${outDevice} ${mac}${body}`;
}

function linkText({ flags, link }: LoggedPacket): string {
  const { bytes, deviceType, macLength, vlan } = link;
  if ((flags & LOG_MACDECODE) !== 0 && deviceType === ARPHRD_ETHER) {
    if (macLength < ETH_HLEN || bytes.length < ETH_HLEN) return '';
    const tag = vlan === undefined ? '' : `VPROTO=${hex(vlan.protocol, 4)} VID=${vlan.tci} `;
    const type = (bytes[12]! << 8) | bytes[13]!;
    return `MACSRC=${macText(bytes.subarray(6, 12))} MACDST=${macText(bytes.subarray(0, 6))} ${tag}MACPROTO=${hex(type, 4)} `;
  }
  return `MAC=${macText(bytes)} `;
}

function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => hex(byte, 2)).join(':');
}

/** A packet of which only the first bytes are known. */
interface Captured {
  readonly bytes: Uint8Array;
  /** Where the packet ends, beyond the last captured byte or not. */
  readonly end: number;
}

/** `length` bytes at an offset; `undefined` when they are not all there: skb_header_pointer. */
function header({ bytes }: Captured, at: number, length: number): DataView | undefined {
  return at + length > bytes.length ? undefined : new DataView(bytes.buffer, bytes.byteOffset + at, length);
}

const incomplete = ({ end }: Captured, at: number): string => `INCOMPLETE [${end - at} bytes] `;

function optionsText(packet: Captured, at: number, length: number): string | undefined {
  const options = header(packet, at, length);
  if (options === undefined) return undefined;
  const digits = Array.from({ length }, (_, index) => hex(options.getUint8(index), 2).toUpperCase());
  return `OPT (${digits.join('')}) `;
}

const IP_MAX_TYPE = 18;
/** ICMP messages that are shorter than this are incomplete; by type, 0 for any length. */
const ICMP_LENGTHS: ReadonlyMap<number, number> = new Map([
  [0, 4],
  [3, 28],
  [4, 28],
  [5, 28],
  [8, 4],
  [11, 28],
  [12, 28],
  [13, 20],
  [14, 20],
  [17, 12],
  [18, 12],
]);

/** dump_ipv4_packet; `at` 0 for the packet itself, else that of one that an ICMP error quotes. */
function ipv4Text(logged: LoggedPacket, packet: Captured, at: number): string {
  const ip = header(packet, at, 20);
  if (ip === undefined) return 'TRUNCATED';
  const { flags } = logged;
  const address = (offset: number): string =>
    formatAddressBytes(packet.bytes.subarray(at + offset, at + offset + 4));
  const tos = ip.getUint8(1);
  const fragment = ip.getUint16(6);
  const offset = fragment & 0x1fff;
  const headerLength = (ip.getUint8(0) & 0xf) * 4;
  const bits = [
    [0x8000, 'CE '],
    [0x4000, 'DF '],
    [0x2000, 'MF '],
  ] as const;
  let text =
    `SRC=${address(12)} DST=${address(16)} LEN=${ip.getUint16(2)} TOS=0x${hex(tos & 0x1e, 2).toUpperCase()} ` +
    `PREC=0x${hex(tos & 0xe0, 2).toUpperCase()} TTL=${ip.getUint8(8)} ID=${ip.getUint16(4)} ` +
    bits.map(([bit, word]) => (fragment & bit ? word : '')).join('') +
    (offset === 0 ? '' : `FRAG:${offset} `);
  if ((flags & LOG_IPOPT) !== 0 && headerLength > 20) {
    const options = optionsText(packet, at + 20, headerLength - 20);
    if (options === undefined) return `${text}TRUNCATED`;
    text += options;
  }
  const protocol = ip.getUint8(9);
  const next = at + headerLength;
  const later = offset !== 0;
  if (protocol === 6 || protocol === 17 || protocol === 136) {
    const transport = transportText(flags, packet, next, protocol, later);
    text += transport.text;
    if (transport.ends) return text;
  } else if (protocol === 1) text += icmpText(logged, packet, at, next, later);
  else if (protocol === 51) text += later ? '' : `PROTO=AH ${spiText(packet, next, 12, 4)}`;
  else if (protocol === 50) text += `PROTO=ESP ${later ? '' : spiText(packet, next, 8, 0)}`;
  else text += `PROTO=${protocol} `;
  return at === 0 ? text + tailText(logged) : text;
}

function icmpText(logged: LoggedPacket, packet: Captured, at: number, next: number, later: boolean): string {
  const name = 'PROTO=ICMP ';
  if (later) return name;
  const icmp = header(packet, next, 8);
  if (icmp === undefined) return name + incomplete(packet, next);
  const type = icmp.getUint8(0);
  const code = icmp.getUint8(1);
  let text = `${name}TYPE=${type} CODE=${code} `;
  if (type <= IP_MAX_TYPE && packet.end - next < (ICMP_LENGTHS.get(type) ?? 0))
    return text + incomplete(packet, next);
  if (type === 0 || type === 8) return `${text}ID=${icmp.getUint16(4)} SEQ=${icmp.getUint16(6)} `;
  if (type === 12) return `${text}PARAMETER=${icmp.getUint8(4)} `;
  if (type === 5) text += `GATEWAY=${formatAddressBytes(packet.bytes.subarray(next + 4, next + 8))} `;
  if (type !== 3 && type !== 4 && type !== 5 && type !== 11) return text;
  if (at === 0) text += `[${ipv4Text(logged, packet, next + 8)}] `;
  return type === 3 && code === 4 ? `${text}MTU=${icmp.getUint16(6)} ` : text;
}

/** Numbers of extension headers that the walk knows (nf_ip6_ext_hdr, net/ipv6/netfilter/ip6_tables.c). */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const ESP = 50;
const AH = 51;
const DESTINATION = 60;
const EXTENSIONS: ReadonlySet<number> = new Set([HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, DESTINATION]);

/** dump_ipv6_packet; `outer` for the packet itself. */
function ipv6Text(logged: LoggedPacket, packet: Captured, at: number, outer: boolean): string {
  const ip = header(packet, at, 40);
  if (ip === undefined) return 'TRUNCATED';
  const { flags } = logged;
  const shows = (flags & LOG_IPOPT) !== 0;
  const address = (offset: number): string =>
    Array.from({ length: 8 }, (_, group) => hex(ip.getUint16(offset + group * 2), 4)).join(':');
  const first = ip.getUint32(0);
  let text =
    `SRC=${address(8)} DST=${address(24)} LEN=${ip.getUint16(4) + 40} TC=${(first >>> 20) & 0xff} ` +
    `HOPLIMIT=${ip.getUint8(7)} FLOWLBL=${first & 0xfffff} `;
  let kind = ip.getUint8(6);
  let next = at + 40;
  let later = false;
  while (EXTENSIONS.has(kind)) {
    const extension = header(packet, next, 2);
    if (extension === undefined) return `${text}TRUNCATED`;
    if (shows) text += 'OPT ( ';
    const words = extension.getUint8(1);
    let length = (words + 1) * 8;
    if (kind === FRAGMENT) {
      const fragment = header(packet, next, 8);
      if (fragment === undefined) return `${text}FRAG:TRUNCATED `;
      const place = fragment.getUint16(2);
      text += `FRAG:${place & 0xfff8} ${place & 1 ? 'INCOMPLETE ' : ''}ID:${hex(fragment.getUint32(4), 8)} `;
      later ||= (place & 0xfff8) !== 0;
      length = 8;
    } else if (kind === ESP) {
      if (!shows) return text;
      return `${text}ESP ${later ? '' : spiText(packet, next, 8, 0)})`;
    } else if (kind === AH) {
      if (shows) {
        if (later) return `${text}AH )`;
        text += `AH ${spiText(packet, next, 12, 4)}`;
        if (header(packet, next, 12) === undefined) return `${text})`;
      }
      length = (words + 2) * 4;
    } else if (later) return shows ? `${text})` : text;
    if (shows) text += ') ';
    kind = extension.getUint8(0);
    next += length;
  }
  if (kind === 6 || kind === 17 || kind === 136) {
    const transport = transportText(flags, packet, next, kind, later);
    text += transport.text;
    if (transport.ends) return text;
  } else if (kind === 58) {
    if (!later && header(packet, next, 8) === undefined)
      return `${text}PROTO=ICMPv6 ${incomplete(packet, next)}`;
    text += icmp6Text(logged, packet, next, later, outer);
  } else text += `PROTO=${kind} `;
  return outer ? text + tailText(logged) : text;
}

function icmp6Text(
  logged: LoggedPacket,
  packet: Captured,
  next: number,
  later: boolean,
  outer: boolean,
): string {
  const name = 'PROTO=ICMPv6 ';
  const icmp = header(packet, next, 8);
  if (later || icmp === undefined) return name;
  const type = icmp.getUint8(0);
  let text = `${name}TYPE=${type} CODE=${icmp.getUint8(1)} `;
  if (type === 128 || type === 129) return `${text}ID=${icmp.getUint16(4)} SEQ=${icmp.getUint16(6)} `;
  if (type === 4) text += `POINTER=${hex(icmp.getUint32(4), 8)} `;
  if (type >= 1 && type <= 4 && outer) text += `[${ipv6Text(logged, packet, next + 8, false)}] `;
  return type === 2 ? `${text}MTU=${icmp.getUint32(4)} ` : text;
}

/** The SPI of a header of `length` bytes. */
function spiText(packet: Captured, at: number, length: number, offset: number): string {
  const security = header(packet, at, length);
  return security === undefined
    ? incomplete(packet, at)
    : `SPI=0x${security.getUint32(offset).toString(16)} `;
}

const TCP_FLAGS = ['CWR', 'ECE', 'URG', 'ACK', 'PSH', 'RST', 'SYN', 'FIN'] as const;

/** `ends`: the line ends there, without owner and mark. */
function transportText(
  flags: number,
  packet: Captured,
  at: number,
  protocol: number,
  later: boolean,
): { readonly text: string; readonly ends: boolean } {
  const name = `PROTO=${protocol === 6 ? 'TCP' : protocol === 17 ? 'UDP' : 'UDPLITE'} `;
  if (later) return { text: name, ends: false };
  const transport = header(packet, at, protocol === 6 ? 20 : 8);
  if (transport === undefined) return { text: name + incomplete(packet, at), ends: true };
  const ports = `${name}SPT=${transport.getUint16(0)} DPT=${transport.getUint16(2)} `;
  if (protocol !== 6) return { text: `${ports}LEN=${transport.getUint16(4)} `, ends: false };
  const place = transport.getUint8(12);
  const bits = transport.getUint8(13);
  const set = TCP_FLAGS.filter((_, index) => (bits & (0x80 >> index)) !== 0);
  const names = [...(place & 1 ? ['AE'] : []), ...set].map((flag) => `${flag} `).join('');
  const sequence =
    (flags & LOG_TCPSEQ) === 0 ? '' : `SEQ=${transport.getUint32(4)} ACK=${transport.getUint32(8)} `;
  const text =
    `${ports}${sequence}WINDOW=${transport.getUint16(14)} RES=0x${hex((place & 0xe) << 2, 2)} ${names}` +
    `URGP=${transport.getUint16(18)} `;
  const options = (place >> 4) * 4 - 20;
  if ((flags & LOG_TCPOPT) === 0 || options <= 0) return { text, ends: false };
  const shown = optionsText(packet, at + 20, options);
  return shown === undefined
    ? { text: `${text}OPT (TRUNCATED)`, ends: true }
    : { text: text + shown, ends: false };
}

function tailText({ flags, owner, mark }: LoggedPacket): string {
  const who = owner === undefined || (flags & LOG_UID) === 0 ? '' : `UID=${owner.uid} GID=${owner.gid} `;
  return who + (mark === 0 ? '' : `MARK=0x${mark.toString(16)} `);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
