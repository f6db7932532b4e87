/**
 * TCP states and the transition table of net/netfilter/nf_conntrack_proto_tcp.c: what state a packet of a
 * direction leads to. Two results are no states: `invalid` and `ignore` (let through, nothing learnt).
 */
export const TcpState = {
  NONE: 0,
  SYN_SENT: 1,
  SYN_RECV: 2,
  ESTABLISHED: 3,
  FIN_WAIT: 4,
  CLOSE_WAIT: 5,
  LAST_ACK: 6,
  TIME_WAIT: 7,
  CLOSE: 8,
  SYN_SENT2: 9,
} as const;
export type TcpState = (typeof TcpState)[keyof typeof TcpState];

/** Names as /proc/net/nf_conntrack prints them, by number. */
export const TCP_STATE_NAMES: readonly string[] = Object.keys(TcpState);

/** What a segment is to the table: the first of RST, SYN, FIN, ACK that is set. */
export const SegmentKind = { SYN: 0, SYNACK: 1, FIN: 2, ACK: 3, RST: 4, NONE: 5 } as const;
export type SegmentKind = (typeof SegmentKind)[keyof typeof SegmentKind];

export type Transition = TcpState | 'invalid' | 'ignore';

const COLUMNS = {
  NO: TcpState.NONE,
  SS: TcpState.SYN_SENT,
  SR: TcpState.SYN_RECV,
  ES: TcpState.ESTABLISHED,
  FW: TcpState.FIN_WAIT,
  CW: TcpState.CLOSE_WAIT,
  LA: TcpState.LAST_ACK,
  TW: TcpState.TIME_WAIT,
  CL: TcpState.CLOSE,
  S2: TcpState.SYN_SENT2,
  IV: 'invalid',
  IG: 'ignore',
} as const;

/** One line per kind of segment, one column per old state, NONE first. */
function table(lines: readonly string[]): readonly (readonly Transition[])[] {
  return lines.map((line) => line.split(' ').map((name) => COLUMNS[name as keyof typeof COLUMNS]));
}

const ORIGINAL = table([
  //NO SS SR ES FW CW LA TW CL S2
  'SS SS IG IG IG IG IG SS SS S2', // SYN
  'IV IV SR IV IV IV IV IV IV SR', // SYN ACK
  'IV IV FW FW LA LA LA TW CL IV', // FIN
  'ES IV ES ES CW CW TW TW CL IV', // ACK
  'IV CL CL CL CL CL CL CL CL CL', // RST
  'IV IV IV IV IV IV IV IV IV IV', // none of them
]);
const REPLY = table([
  'IV S2 IV IV IV IV IV SS IV S2',
  'IV SR IG IG IG IG IG IG IG SR',
  'IV IV FW FW LA LA LA TW CL IV',
  'IV IG SR ES CW CW TW TW CL IG',
  'IV CL CL CL CL CL CL CL CL CL',
  'IV IV IV IV IV IV IV IV IV IV',
]);

/** The state after a segment of this kind from this side (0 original, 1 reply). */
export function transition(side: 0 | 1, kind: SegmentKind, old: TcpState): Transition {
  return (side === 0 ? ORIGINAL : REPLY)[kind]![old]!;
}

/** Flags of one side (IP_CT_TCP_FLAG_*). */
export const TcpFlag = {
  WINDOW_SCALE: 0x01,
  SACK_PERM: 0x02,
  /** This side sent the first FIN. */
  CLOSE_INIT: 0x04,
  BE_LIBERAL: 0x08,
  DATA_UNACKNOWLEDGED: 0x10,
  MAXACK_SET: 0x20,
  /** Bits of {@link TcpConnection.lastFlags} only. */
  EXPECT_CHALLENGE_ACK: 0x40,
  SIMULTANEOUS_OPEN: 0x80,
} as const;

/** What has been learnt of one side (struct ip_ct_tcp_state). Sequence numbers are unsigned 32-bit. */
export interface TcpSide {
  end: number;
  maxEnd: number;
  maxWindow: number;
  maxAck: number;
  scale: number;
  flags: number;
}

/** struct ip_ct_tcp: both sides, and the last segment seen. */
export interface TcpConnection {
  readonly sides: readonly [TcpSide, TcpSide];
  state: TcpState;
  lastSide: 0 | 1;
  retransmissions: number;
  lastKind: SegmentKind;
  lastSeq: number;
  lastAck: number;
  lastEnd: number;
  lastWindow: number;
  lastScale: number;
  lastFlags: number;
}

/** A side of which nothing is known. */
export function unknownSide(): TcpSide {
  return { end: 0, maxEnd: 0, maxWindow: 0, maxAck: 0, scale: 0, flags: 0 };
}

/** A connection in this state, of which no segment was seen yet. */
export function tcpConnection(state: TcpState, original: TcpSide, reply: TcpSide): TcpConnection {
  return {
    sides: [original, reply],
    state,
    lastSide: 0,
    retransmissions: 0,
    lastKind: SegmentKind.NONE,
    lastSeq: 0,
    lastAck: 0,
    lastEnd: 0,
    lastWindow: 0,
    lastScale: 0,
    lastFlags: 0,
  };
}
