/**
 * The connections of the calling thread's namespace: ctnetlink (uapi/linux/netfilter/nfnetlink_conntrack.h). Read only.
 * Addresses are 4 or 16 bytes, ports in host order.
 */
import { decodeAttributes } from './message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './socket.ts';

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_GET = 1;
const CTA = {
  TUPLE_ORIG: 1,
  TUPLE_REPLY: 2,
  STATUS: 3,
  PROTOINFO: 4,
  TIMEOUT: 7,
  MARK: 8,
  COUNTERS_ORIG: 9,
  COUNTERS_REPLY: 10,
  ZONE: 18,
} as const;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const CTA_PROTO = {
  NUM: 1,
  SRC_PORT: 2,
  DST_PORT: 3,
  ICMP_ID: 4,
  ICMP_TYPE: 5,
  ICMP_CODE: 6,
  ICMPV6_ID: 7,
  ICMPV6_TYPE: 8,
  ICMPV6_CODE: 9,
} as const;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_SCTP = 3;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_WSCALE_ORIGINAL = 2;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_SCTP_STATE = 1;
const CTA_PROTOINFO_SCTP_VTAG_ORIGINAL = 2;
const CTA_COUNTERS_PACKETS = 1;
const CTA_COUNTERS_BYTES = 2;

/** One direction. For ICMP the identifier is the source port, and `type << 8 | code` the destination port. */
export interface ListedTuple {
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Of both directions, the original one first. */
type Both<T> = readonly [original: T, reply: T];

export interface ListedConnection {
  readonly original: ListedTuple;
  readonly reply: ListedTuple;
  /** IPS_* bits. */
  readonly status: number;
  readonly mark: number;
  readonly zone: number;
  /** Until it ends. */
  readonly timeoutSec: number;
  /** Zero where the namespace does not count (nf_conntrack_acct). */
  readonly counters: Both<{ readonly packets: number; readonly bytes: number }>;
  /** State, window scales and IP_CT_TCP_FLAG_* bits; sequence numbers stay in the kernel. */
  readonly tcp?: { readonly state: number; readonly scales: Both<number>; readonly flags: Both<number> };
  readonly sctp?: { readonly state: number; readonly tags: Both<number> };
}

type Attributes = ReadonlyMap<number, Uint8Array>;
const NOTHING: Attributes = new Map();

/** All connections that are confirmed, both families, all zones. @throws {SyscallError} EPERM without CAP_NET_ADMIN */
export function listConnections(): ListedConnection[] {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    const type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
    // struct nfgenmsg: any family, version 0, no resource.
    const messages = socket.dump(type, [new Uint8Array(4)], 'listing connections');
    return messages.flatMap(({ payload }) => decodeConnection(decodeAttributes(payload.subarray(4))) ?? []);
  } finally {
    socket.close();
  }
}

function within(attributes: Attributes, type: number): Attributes {
  const payload = attributes.get(type);
  return payload === undefined ? NOTHING : decodeAttributes(payload);
}

/** A number in network order, of as many bytes as there are; 0 when it is absent. */
function number(attributes: Attributes, type: number): number {
  let value = 0;
  for (const byte of attributes.get(type) ?? []) value = value * 256 + byte;
  return value;
}

function decodeConnection(attributes: Attributes): ListedConnection | undefined {
  const original = decodeTuple(within(attributes, CTA.TUPLE_ORIG));
  const reply = decodeTuple(within(attributes, CTA.TUPLE_REPLY));
  if (original === undefined || reply === undefined) return undefined;
  const info = within(attributes, CTA.PROTOINFO);
  const tcp = within(info, CTA_PROTOINFO_TCP);
  const sctp = within(info, CTA_PROTOINFO_SCTP);
  return {
    original,
    reply,
    status: number(attributes, CTA.STATUS),
    mark: number(attributes, CTA.MARK),
    zone: number(attributes, CTA.ZONE),
    timeoutSec: number(attributes, CTA.TIMEOUT),
    counters: [
      decodeCounters(within(attributes, CTA.COUNTERS_ORIG)),
      decodeCounters(within(attributes, CTA.COUNTERS_REPLY)),
    ],
    ...(tcp.size === 0 ? {} : { tcp: decodeTcp(tcp) }),
    ...(sctp.size === 0 ? {} : { sctp: decodeSctp(sctp) }),
  };
}

function decodeTuple(attributes: Attributes): ListedTuple | undefined {
  const ip = within(attributes, CTA_TUPLE_IP);
  const proto = within(attributes, CTA_TUPLE_PROTO);
  const source = ip.get(CTA_IP.V4_SRC) ?? ip.get(CTA_IP.V6_SRC);
  const destination = ip.get(CTA_IP.V4_DST) ?? ip.get(CTA_IP.V6_DST);
  if (source === undefined || destination === undefined) return undefined;
  const protocol = number(proto, CTA_PROTO.NUM);
  const ends = { protocol, source: source.slice(), destination: destination.slice() };
  for (const [id, type, code] of [
    [CTA_PROTO.ICMP_ID, CTA_PROTO.ICMP_TYPE, CTA_PROTO.ICMP_CODE],
    [CTA_PROTO.ICMPV6_ID, CTA_PROTO.ICMPV6_TYPE, CTA_PROTO.ICMPV6_CODE],
  ] as const) {
    if (!proto.has(type)) continue;
    const kind = (number(proto, type) << 8) | number(proto, code);
    return { ...ends, sourcePort: number(proto, id), destinationPort: kind };
  }
  return {
    ...ends,
    sourcePort: number(proto, CTA_PROTO.SRC_PORT),
    destinationPort: number(proto, CTA_PROTO.DST_PORT),
  };
}

function decodeCounters(attributes: Attributes): { packets: number; bytes: number } {
  return {
    packets: number(attributes, CTA_COUNTERS_PACKETS),
    bytes: number(attributes, CTA_COUNTERS_BYTES),
  };
}

function decodeTcp(attributes: Attributes): NonNullable<ListedConnection['tcp']> {
  // struct nf_ct_tcp_flags: the flags, then which of them a change is about.
  const flags = (side: number): number => attributes.get(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL + side)?.[0] ?? 0;
  const scale = (side: number): number => number(attributes, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL + side);
  return {
    state: number(attributes, CTA_PROTOINFO_TCP_STATE),
    scales: [scale(0), scale(1)],
    flags: [flags(0), flags(1)],
  };
}

function decodeSctp(attributes: Attributes): NonNullable<ListedConnection['sctp']> {
  return {
    state: number(attributes, CTA_PROTOINFO_SCTP_STATE),
    tags: [
      number(attributes, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL),
      number(attributes, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL + 1),
    ],
  };
}
