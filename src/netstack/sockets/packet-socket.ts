/**
 * The sockets of packets before routing: what `-m socket` finds and `-j TPROXY` assigns.
 * Sources: net/ipv4/netfilter/nf_socket_ipv4.c, nf_tproxy_ipv4.c and their IPv6 twins.
 */
import type { Family } from '../../net/index.ts';
import { IpProtocol, read16 } from '../../wire/index.ts';
import { IPS } from '../conntrack/entry.ts';
import { type Located, locate } from '../conntrack/packet.ts';
import type { Tracking } from '../conntrack/tracking.ts';
import type { SocketQuery } from './query.ts';
import { isAny, type NetSocket } from './socket.ts';
import type { SocketTable } from './table.ts';

const ICMP_HEADER_BYTES = 8;
/** Destination unreachable, source quench, redirect, time exceeded, parameter problem. */
const ICMP_ERRORS: readonly number[] = [3, 4, 5, 11, 12];
const ICMPV6_INFOMSG = 128;

/** A packet that came in and was not routed yet. */
export interface UnroutedPacket {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly ingressIfindex: number;
  /** What conntrack said of it. */
  readonly tracking?: Tracking | undefined;
}

/**
 * The socket that a TCP or UDP packet would find; of an ICMP error that of the packet it quotes (nf_sk_lookup_slow_v4, v6). An
 * answer to a connection whose source was translated is looked up by what the socket knows.
 */
export function findPacketSocket(table: SocketTable, packet: UnroutedPacket): NetSocket | undefined {
  const located = locate(packet.family, packet.bytes);
  if (located === undefined) return undefined;
  const query = isIcmp(located) ? queryOfError(located, packet) : queryOf(located, packet);
  if (query === undefined) return undefined;
  return table.lookup(untranslated(query, packet, isIcmp(located)));
}

/**
 * The socket that takes a packet in place of the one it is addressed to: that of its own connection, else a listener at
 * `address` and `port` (tproxy_tg4, tproxy_tg6); `undefined` when there is none, or none that is transparent.
 */
export function findProxySocket(
  table: SocketTable,
  packet: UnroutedPacket,
  address: Uint8Array,
  port: number,
): NetSocket | undefined {
  const located = locate(packet.family, packet.bytes);
  const query = located === undefined ? undefined : queryOf(located, packet);
  if (query === undefined) return undefined;
  const own = table.established(query);
  const found =
    own !== undefined && !(own.protocol === 'udp' && isAny(own.localAddress))
      ? own
      : table.listening({ ...query, localAddress: address, localPort: port === 0 ? query.localPort : port });
  return found?.transparent === true ? found : undefined;
}

function isIcmp({ family, protocol }: Located): boolean {
  return protocol === (family === 'ipv4' ? IpProtocol.ICMP : IpProtocol.ICMPV6);
}

function addresses({ family, bytes }: Located, start: number): readonly [Uint8Array, Uint8Array] {
  const [at, length] = family === 'ipv4' ? [start + 12, 4] : [start + 8, 16];
  return [bytes.subarray(at, at + length), bytes.subarray(at + length, at + 2 * length)];
}

function queryOf(located: Located, { ingressIfindex }: UnroutedPacket): SocketQuery | undefined {
  const { bytes, protocol, offset } = located;
  if (protocol !== IpProtocol.TCP && protocol !== IpProtocol.UDP) return undefined;
  if (bytes.length < offset + 8) return undefined;
  const [remoteAddress, localAddress] = addresses(located, 0);
  const [remotePort, localPort] = [read16(bytes, offset), read16(bytes, offset + 2)];
  return { protocol, remoteAddress, remotePort, localAddress, localPort, ingressIfindex };
}

/** The packet that an error quotes went the other way (extract_icmp4_fields, extract_icmp6_fields). */
function queryOfError(located: Located, { ingressIfindex }: UnroutedPacket): SocketQuery | undefined {
  const { family, bytes, offset } = located;
  const type = bytes[offset] ?? 0;
  const isError = family === 'ipv4' ? ICMP_ERRORS.includes(type) : type < ICMPV6_INFOMSG;
  const start = offset + ICMP_HEADER_BYTES;
  const inner = isError ? locate(family, bytes, start) : undefined;
  if (inner === undefined || bytes.length < inner.offset + 4) return undefined;
  const { protocol } = inner;
  if (protocol !== IpProtocol.TCP && protocol !== IpProtocol.UDP) return undefined;
  const [localAddress, remoteAddress] = addresses(inner, start);
  const [localPort, remotePort] = [read16(bytes, inner.offset), read16(bytes, inner.offset + 2)];
  return { protocol, remoteAddress, remotePort, localAddress, localPort, ingressIfindex };
}

function untranslated(query: SocketQuery, { family, tracking }: UnroutedPacket, icmp: boolean): SocketQuery {
  const entry = tracking?.connection;
  if (family !== 'ipv4' || entry === undefined || tracking?.direction !== 'reply') return query;
  if (tracking.state !== (icmp ? 'RELATED' : 'ESTABLISHED')) return query;
  if ((entry.status & IPS.SRC_NAT_DONE) === 0) return query;
  return { ...query, localAddress: entry.original.source, localPort: entry.original.sourcePort };
}
