import type { SctpAssociation } from './sctp.ts';
import type { TcpConnection } from './tcp/state.ts';
import type { Tuple } from './tuple.ts';

/** Bits of {@link Entry.status} (enum ip_conntrack_status, uapi/linux/netfilter/nf_conntrack_common.h). */
export const IPS = {
  EXPECTED: 1,
  SEEN_REPLY: 2,
  ASSURED: 4,
  CONFIRMED: 8,
  SRC_NAT: 0x10,
  DST_NAT: 0x20,
  SEQ_ADJUST: 0x40,
  SRC_NAT_DONE: 0x80,
  DST_NAT_DONE: 0x100,
  DYING: 0x200,
} as const;

export type Direction = 'original' | 'reply';

/** One connection (struct nf_conn). Created unconfirmed: only once its first packet is through does it enter the table. */
export interface Entry {
  readonly zone: number;
  readonly original: Tuple;
  /** What the answer looks like; address translation changes it, before the connection is confirmed. */
  reply: Tuple;
  /** {@link IPS} bits. */
  status: number;
  mark: number;
  /** Packets that kept it alive, with their IP lengths (nf_conn_acct). */
  readonly accounting: Record<Direction, { packets: number; bytes: number }>;
  /** Unconfirmed: how long it will live, in ms. Confirmed: when it ends, on the clock of the table. */
  timeoutMs: number;
  /** Window tracking; absent for other protocols, and for TCP until its first packet was looked at. */
  tcp?: TcpConnection;
  sctp?: SctpAssociation;
  /** ifindex of the device whose address a MASQUERADE took: packets that leave by another one end the connection. */
  masqueradeIfindex?: number;
  /** UDP: traffic both ways after this time makes the flow a stream. */
  streamAfterMs?: number;
}
