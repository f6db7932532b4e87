import { type Direction, type Entry, IPS } from '../entry.ts';
import type { TableAccess, TrackOutcome } from '../outcome.ts';
import type { ConntrackSettings } from '../settings.ts';
import { before, learnOptions, type Segment } from './segment.ts';
import {
  SegmentKind,
  type TcpConnection,
  TcpFlag,
  type TcpSide,
  TcpState,
  type Transition,
  tcpConnection,
  transition,
  unknownSide,
} from './state.ts';
import { checkWindow } from './window.ts';

/** nf_conntrack_tcp_packet() of net/netfilter/nf_conntrack_proto_tcp.c, after the segment was found sound. */
export function trackTcp(
  entry: Entry,
  direction: Direction,
  segment: Segment,
  settings: ConntrackSettings,
  table: TableAccess,
): TrackOutcome {
  const confirmed = (entry.status & IPS.CONFIRMED) !== 0;
  if (!confirmed) {
    const opened = openConnection(segment, settings);
    if (opened === undefined) return 'invalid';
    entry.tcp = opened;
  }
  const connection = entry.tcp!;
  const side = direction === 'original' ? 0 : 1;
  const step = decide(entry, connection, side, segment, settings);
  if (typeof step === 'string') {
    if (step === 'repeat') table.remove();
    return step;
  }
  if (!step.skipWindow) {
    const outcome = checkWindow(connection, side, segment, settings);
    if (outcome === 'ignore') return 'accept';
    if (outcome === 'invalid') {
      shortenAfterInvalid(entry, connection, side, segment, settings, table);
      return 'invalid';
    }
  }
  return advance(entry, connection, side, segment, step, settings, table);
}

/** tcp_new(): the first packet. Without a SYN the connection is picked up, liberally, unless `tcpLoose` is off. */
function openConnection(segment: Segment, settings: ConntrackSettings): TcpConnection | undefined {
  const state = transition(0, segment.kind, TcpState.NONE);
  if (typeof state === 'string') return undefined;
  const first = unknownSide();
  const second = unknownSide();
  first.end = segment.end;
  first.maxWindow = segment.window === 0 ? 1 : segment.window;
  if (state === TcpState.SYN_SENT) {
    first.maxEnd = first.end;
    learnOptions(segment.options, first);
  } else {
    if (!settings.tcpLoose) return undefined;
    first.maxEnd = (first.end + first.maxWindow) >>> 0;
    first.flags = TcpFlag.SACK_PERM | TcpFlag.BE_LIBERAL;
    second.flags = first.flags;
  }
  return tcpConnection(TcpState.NONE, first, second);
}

interface Step {
  readonly from: TcpState;
  readonly to: TcpState;
  readonly skipWindow: boolean;
}

/** The transition table and its many exceptions, up to the window check. */
function decide(
  entry: Entry,
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  settings: ConntrackSettings,
): Step | 'accept' | 'invalid' | 'repeat' {
  const from = connection.state;
  const to = transition(side, segment.kind, from);
  if (to === TcpState.SYN_SENT && from >= TcpState.TIME_WAIT) {
    // RFC 1122 4.2.2.13: a new SYN may reopen a connection from TIME-WAIT; and a client may have aborted and begun anew.
    const flags = connection.sides[0].flags | connection.sides[1].flags;
    const aborted = connection.lastSide === side && connection.lastKind === SegmentKind.RST;
    if ((flags & TcpFlag.CLOSE_INIT) !== 0 || aborted) return 'repeat';
    return ignore(connection, side, segment, from);
  }
  switch (to as Transition) {
    case 'ignore':
      return ignore(connection, side, segment, from);
    case 'invalid':
      return 'invalid';
    case TcpState.TIME_WAIT:
      // RFC 5961: a challenge ACK answers a spurious SYN. It does not acknowledge the last FIN.
      if (
        from === TcpState.LAST_ACK &&
        segment.kind === SegmentKind.ACK &&
        connection.lastSide !== side &&
        connection.lastKind === SegmentKind.SYN &&
        (connection.lastFlags & TcpFlag.EXPECT_CHALLENGE_ACK) !== 0
      ) {
        connection.lastFlags &= ~TcpFlag.EXPECT_CHALLENGE_ACK;
        return 'accept';
      }
      break;
    case TcpState.SYN_SENT2:
      connection.lastFlags |= TcpFlag.SIMULTANEOUS_OPEN;
      break;
    case TcpState.SYN_RECV:
      if (
        side === 1 &&
        segment.kind === SegmentKind.ACK &&
        (connection.lastFlags & TcpFlag.SIMULTANEOUS_OPEN) !== 0
      ) {
        return { from, to: TcpState.ESTABLISHED, skipWindow: false };
      }
      break;
    case TcpState.CLOSE:
      if (segment.kind === SegmentKind.RST) return reset(entry, connection, side, segment, settings);
      break;
  }
  return { from, to: to as TcpState, skipWindow: false };
}

/**
 * Our entry may be out of step with the two hosts: let the packet through, note it, and when the server's SYN ACK
 * acknowledges a SYN we ignored, believe both.
 */
function ignore(connection: TcpConnection, side: 0 | 1, segment: Segment, from: TcpState): Step | 'accept' {
  if (
    segment.kind === SegmentKind.SYNACK &&
    connection.lastKind === SegmentKind.SYN &&
    connection.lastSide !== side &&
    segment.ack === connection.lastEnd
  ) {
    const client = connection.sides[connection.lastSide];
    client.end = connection.lastEnd;
    client.maxEnd = connection.lastEnd;
    client.maxWindow = connection.lastWindow === 0 ? 1 : connection.lastWindow;
    client.scale = connection.lastScale;
    connection.lastFlags &= ~TcpFlag.EXPECT_CHALLENGE_ACK;
    client.flags = connection.lastFlags;
    forget(connection.sides[side]);
    return { from: TcpState.SYN_SENT, to: TcpState.SYN_RECV, skipWindow: false };
  }
  connection.lastKind = segment.kind;
  connection.lastSide = side;
  connection.lastSeq = segment.seq;
  connection.lastEnd = segment.end;
  connection.lastWindow = segment.window;
  if (segment.kind === SegmentKind.SYN && side === 0) {
    const seen = unknownSide();
    learnOptions(segment.options, seen);
    connection.lastFlags = seen.flags;
    connection.lastScale = seen.scale;
    if (from === TcpState.LAST_ACK) connection.lastFlags |= TcpFlag.EXPECT_CHALLENGE_ACK;
  }
  // Perhaps a challenge ACK that answers a SYN: see the RST that may follow.
  if (from === TcpState.SYN_SENT && segment.kind === SegmentKind.ACK && side === 1) {
    connection.lastAck = segment.ack;
  }
  return 'accept';
}

/** nf_ct_tcp_state_reset(). */
function forget(side: TcpSide): void {
  side.end = 0;
  side.maxEnd = 0;
  side.maxWindow = 0;
  side.maxAck = 0;
  side.scale = 0;
  side.flags &= TcpFlag.BE_LIBERAL;
}

/** A RST: believed when its sequence number says that the sender knows the connection (RFC 5961). */
function reset(
  entry: Entry,
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  settings: ConntrackSettings,
): Step | 'invalid' {
  const from = connection.state;
  const close = { from, to: TcpState.CLOSE, skipWindow: false } as const;
  // The connection is closing: the ports may be in use again already, and what we know is outdated.
  if (from >= TcpState.FIN_WAIT && from <= TcpState.CLOSE) return { ...close, skipWindow: true };
  const peer = connection.sides[side === 0 ? 1 : 0];
  let to: TcpState = TcpState.CLOSE;
  if ((peer.flags & TcpFlag.MAXACK_SET) !== 0 && connection.lastKind !== SegmentKind.SYN) {
    const established = from === TcpState.ESTABLISHED && (entry.status & IPS.ASSURED) !== 0;
    if (segment.seq === 0 && !established) return close;
    if (before(segment.seq, peer.maxAck) && !settings.tcpIgnoreInvalidRst) return 'invalid';
    if (!established || segment.seq === peer.maxAck) return close;
    const endsTrain =
      connection.lastKind === SegmentKind.ACK &&
      connection.lastSide === side &&
      segment.seq === connection.lastEnd;
    if (endsTrain) return close;
    // Not exactly the expected number: stay, the receiver will answer with a challenge ACK.
    to = from;
  }
  // A SYN is answered by the other side; the kernel (6.18) says so of SYNs, and not of acknowledgements.
  const answersIgnored =
    ((entry.status & IPS.SEEN_REPLY) !== 0 &&
      connection.lastKind === SegmentKind.SYN &&
      connection.lastSide !== side) ||
    ((entry.status & IPS.ASSURED) === 0 && connection.lastKind === SegmentKind.ACK);
  const answersChallenge =
    from === TcpState.SYN_SENT &&
    connection.lastKind === SegmentKind.ACK &&
    connection.lastSide === 1 &&
    segment.seq === connection.lastAck;
  // It answers a SYN or ACK that we let through without believing it: windows say nothing here.
  const skipWindow = (answersIgnored && segment.ack === connection.lastEnd) || answersChallenge;
  return { from, to, skipWindow };
}

/** The packet is in the window: the state moves, the timer starts anew. */
function advance(
  entry: Entry,
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  step: Step,
  settings: ConntrackSettings,
  table: TableAccess,
): TrackOutcome {
  const { from, to } = step;
  connection.lastKind = segment.kind;
  connection.lastSide = side;
  connection.state = to;
  if (from !== to && to === TcpState.FIN_WAIT) connection.sides[side].flags |= TcpFlag.CLOSE_INIT;

  let timeoutMs = chooseTimeout(connection, segment, to, settings);
  if ((entry.status & IPS.SEEN_REPLY) === 0) {
    if (segment.rst) {
      // Nothing but a RST as the only answer: there is no connection.
      table.count();
      table.remove();
      return 'accept';
    }
    // A SYN sent again does not prolong the entry.
    if (segment.kind === SegmentKind.SYN && from === TcpState.SYN_SENT) return 'accept';
    if (to === TcpState.ESTABLISHED) timeoutMs = Math.min(timeoutMs, settings.tcpTimeoutUnacknowledgedMs);
  } else if (
    (entry.status & IPS.ASSURED) === 0 &&
    (from === TcpState.SYN_RECV || from === TcpState.ESTABLISHED) &&
    to === TcpState.ESTABLISHED
  ) {
    entry.status |= IPS.ASSURED;
  }
  table.refresh(timeoutMs);
  return 'accept';
}

function chooseTimeout(
  connection: TcpConnection,
  segment: Segment,
  to: TcpState,
  settings: ConntrackSettings,
): number {
  const normal = settings.tcpTimeoutsMs[to]!;
  const retrans = settings.tcpTimeoutRetransMs;
  const unacknowledged = settings.tcpTimeoutUnacknowledgedMs;
  const flags = connection.sides[0].flags | connection.sides[1].flags;
  if (connection.retransmissions >= settings.tcpMaxRetrans && normal > retrans) return retrans;
  if (segment.kind === SegmentKind.RST) return settings.tcpTimeoutsMs[TcpState.CLOSE]!;
  if ((flags & TcpFlag.DATA_UNACKNOWLEDGED) !== 0 && normal > unacknowledged) return unacknowledged;
  if (connection.lastWindow === 0 && normal > retrans) return retrans;
  return normal;
}

/** nf_tcp_handle_invalid(): FIN or RST both ways, all out of window, must not leave the entry for five days. */
function shortenAfterInvalid(
  entry: Entry,
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  settings: ConntrackSettings,
  table: TableAccess,
): void {
  if ((entry.status & IPS.ASSURED) === 0) return;
  if (segment.kind !== SegmentKind.RST && segment.kind !== SegmentKind.FIN) return;
  const answered =
    connection.lastSide !== side &&
    (connection.lastKind === SegmentKind.FIN || connection.lastKind === SegmentKind.RST);
  if (!answered) {
    connection.lastKind = segment.kind;
    connection.lastSide = side;
    return;
  }
  const leftMs = entry.timeoutMs - table.nowMs;
  if (leftMs >= 120_000 && leftMs > settings.tcpTimeoutUnacknowledgedMs) {
    table.shorten(settings.tcpTimeoutUnacknowledgedMs);
  }
}
