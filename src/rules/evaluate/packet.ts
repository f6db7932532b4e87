import type { Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { PlainSet } from '../sets/plain.ts';
import type { PacketHost } from './packet-host.ts';

/** What the kernel hands a match: skb, hook state and struct xt_action_param, as far as rules can see it. */
export interface EvaluationPacket {
  readonly family: Family;
  /** From the first byte of the IP header to the end of the IP packet (trailers trimmed). */
  bytes: Uint8Array;
  /** skb->len: what byte counters count. */
  length: number;
  readonly hook: Hook;
  /** Empty when there is none. */
  readonly inDevice: string;
  readonly outDevice: string;
  /** IPv4 protocol, or what ipv6_find_hdr finds at the end of the chain (-1: none found). */
  readonly protocol: number;
  /** par->thoff: byte offset of the transport header. */
  readonly transportOffset: number;
  /** par->fragoff: fragment offset in units of 8 bytes; IPv6: as ip6t_do_table sets it. */
  readonly fragmentOffset: number;
  /** 14 bytes of Ethernet header, when the packet came with one. */
  readonly ethernet: Uint8Array | undefined;
  /** PACKET_HOST 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2, PACKET_OTHERHOST 3, PACKET_LOOPBACK 5. */
  readonly packetType: number;
  mark: number;
  /** What conntrack said of it before the table ran; `undefined` where conntrack did not look (raw table). */
  readonly conntrack: ConntrackView | undefined;
  readonly world: World;
  /** The socket that a packet of this host comes from; absent for all others, and for what the host itself sends. */
  readonly sender?: SendingSocket | undefined;
  /** The host around the tables, for targets that need one; absent where tables are evaluated alone. */
  readonly host?: PacketHost | undefined;
  /** Called by LOG and its like. */
  log(entry: LogEntry): void;
}

/** `skb->sk` of a packet that a process sent: the credentials of the file behind it. */
export interface SendingSocket {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups of the process that opened it. */
  readonly groups?: readonly number[];
}

/** A TCP or UDP socket that a packet is for. */
export interface ReceivingSocket {
  /** IP_TRANSPARENT. */
  readonly transparent: boolean;
  /** Bound to no address. */
  readonly wildcard: boolean;
  /** SO_MARK. */
  readonly mark: number;
}

/** `skb->_nfct` as a rule sees it. */
export interface ConntrackView {
  readonly state: 'NEW' | 'ESTABLISHED' | 'RELATED' | 'INVALID' | 'UNTRACKED';
  readonly direction: 'original' | 'reply';
  /** IPS_* bits; 0 for INVALID and UNTRACKED. */
  readonly status: number;
  readonly mark: number;
  readonly zone: number;
  /** Packets and bytes seen each way, the one at hand included (nf_conn_acct). */
  readonly accounting: Readonly<Record<'original' | 'reply', TransferCount>>;
  /** Seconds until the entry times out. */
  readonly expiresSec: number;
  readonly original: ConntrackTuple;
  readonly reply: ConntrackTuple;
}

/** Questions to conntrack's table that are not about the packet at hand. */
export interface ConnectionLookup {
  /** What a packet would be tracked by; `undefined` when it cannot be (nf_ct_get_tuplepr). */
  tupleOf(family: Family, bytes: Uint8Array): ConntrackTuple | undefined;
  /** The live connection that has this tuple in either direction. */
  find(tuple: ConntrackTuple, zone: number): FoundConnection | undefined;
}

/** A connection that was found in conntrack's table. */
export interface FoundConnection {
  /** TCP has closed it. */
  readonly closed: boolean;
  /** IPS_ASSURED. */
  readonly assured: boolean;
}

export interface TransferCount {
  readonly packets: number;
  readonly bytes: number;
}

/** Ports in host order; for ICMP the identifier as source and type << 8 | code as destination, as the kernel keeps them. */
export interface ConntrackTuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}

/** Routing, clock and chance, injected. */
export interface World {
  /**
   * Milliseconds, monotonic; the kernel's jiffies at HZ=250 are derived from it.
   */
  nowMs(): number;
  /** Milliseconds since 1970, UTC, for rules about the time of day; absent: `nowMs` is that. */
  wallMs?(): number;
  /** 32 random bits, as get_random_u32. */
  random32(): number;
  /** RTN_* type of an address (1 unicast, 2 local, 3 broadcast, 4 anycast, 5 multicast, …); with a device, local to it. */
  addressType(address: Uint8Array, device?: string): number;
  /** The device by which a packet to this address would leave, `lo` for own ones; `undefined`: no route. */
  outputDevice(destination: Uint8Array): string | undefined;
  /** Conntrack's table; absent where there is none. */
  readonly connections?: ConnectionLookup | undefined;
  /**
   * The socket that a received packet would find, established before listening (nf_sk_lookup_slow); `undefined` when there
   * is none. Absent where no sockets are known: then no packet has one.
   */
  findSocket?(packet: EvaluationPacket): ReceivingSocket | undefined;
  /** IP sets by name; rules that name others are refused before a packet is decided. */
  readonly sets?: ReadonlyMap<string, PlainSet> | undefined;
}

export interface LogEntry {
  readonly level: number;
  readonly flags: number;
  readonly prefix: string;
  readonly hook: Hook;
  readonly inDevice: string;
  readonly outDevice: string;
  readonly bytes: Uint8Array;
  readonly mark: number;
}
