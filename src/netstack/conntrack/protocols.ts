import { read16 } from '../../wire/index.ts';
import { type Entry, IPS } from './entry.ts';
import type { TableAccess, TrackOutcome } from './outcome.ts';
import type { Located } from './packet.ts';
import type { ConntrackSettings } from './settings.ts';

/** UDP streams are recognised after this much time (nf_conntrack_proto_udp.c). */
const STREAM_AFTER_MS = 2000;
/** ICMP requests that may open an exchange: echo, timestamp, information, address mask. */
const ICMP_REQUESTS: ReadonlySet<number> = new Set([8, 13, 15, 17]);
/** ICMPv6: echo request, node information query. */
const ICMPV6_REQUESTS: ReadonlySet<number> = new Set([128, 139]);

/** udp_error() without the checksum: the header is there and its length field fits. */
export function udpIsSound(located: Located): boolean {
  const left = located.bytes.length - located.offset;
  if (left < 8) return false;
  const length = read16(located.bytes, located.offset + 4);
  return length >= 8 && length <= left;
}

/** udplite_error() without the checksum: coverage 0 means everything. */
export function udpliteIsSound(located: Located): boolean {
  const left = located.bytes.length - located.offset;
  if (left < 8) return false;
  const coverage = read16(located.bytes, located.offset + 4);
  if (coverage !== 0 && (coverage < 8 || coverage > left)) return false;
  return read16(located.bytes, located.offset + 6) !== 0;
}

/** nf_conntrack_udp_packet(). */
export function trackUdp(entry: Entry, settings: ConntrackSettings, table: TableAccess): TrackOutcome {
  if ((entry.status & IPS.CONFIRMED) === 0) entry.streamAfterMs = table.nowMs + STREAM_AFTER_MS;
  if ((entry.status & IPS.SEEN_REPLY) === 0) {
    table.refresh(settings.udpTimeoutMs);
    return 'accept';
  }
  const stream = entry.streamAfterMs === undefined || table.nowMs > entry.streamAfterMs;
  table.refresh(stream ? settings.udpTimeoutStreamMs : settings.udpTimeoutMs);
  if (stream) entry.status |= IPS.ASSURED;
  return 'accept';
}

/** nf_conntrack_udplite_packet(): the second packet after an answer makes a stream, however soon it comes. */
export function trackUdplite(entry: Entry, settings: ConntrackSettings, table: TableAccess): TrackOutcome {
  const answered = (entry.status & IPS.SEEN_REPLY) !== 0;
  table.refresh(answered ? settings.udpTimeoutStreamMs : settings.udpTimeoutMs);
  if (answered) entry.status |= IPS.ASSURED;
  return 'accept';
}

/** nf_conntrack_icmp_packet() and nf_conntrack_icmpv6_packet(): only a request may open an exchange. */
export function trackIcmp(entry: Entry, settings: ConntrackSettings, table: TableAccess): TrackOutcome {
  const ipv4 = entry.original.family === 'ipv4';
  const requests = ipv4 ? ICMP_REQUESTS : ICMPV6_REQUESTS;
  if (!requests.has(entry.original.destinationPort >> 8)) return 'invalid';
  table.refresh(ipv4 ? settings.icmpTimeoutMs : settings.icmpv6TimeoutMs);
  return 'accept';
}

/** nf_conntrack_gre_packet(). */
export function trackGre(entry: Entry, settings: ConntrackSettings, table: TableAccess): TrackOutcome {
  if ((entry.status & IPS.SEEN_REPLY) === 0) {
    table.refresh(settings.greTimeoutMs);
    return 'accept';
  }
  table.refresh(settings.greTimeoutStreamMs);
  entry.status |= IPS.ASSURED;
  return 'accept';
}

/** Every protocol without a tracker of its own: tracked by addresses. */
export function trackGeneric(settings: ConntrackSettings, table: TableAccess): TrackOutcome {
  table.refresh(settings.genericTimeoutMs);
  return 'accept';
}
