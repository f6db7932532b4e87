import type { ConntrackSettings } from '../settings.ts';
import { after, before, highestSack, learnOptions, type Segment } from './segment.ts';
import { SegmentKind, type TcpConnection, TcpFlag, type TcpSide, TcpState } from './state.ts';

/** `ignore`: let through as part of the connection, but nothing is learnt from it. */
export type WindowOutcome = 'accept' | 'ignore' | 'invalid';

/** Acknowledgements may lie this far back even when no such window was ever seen. */
const MAX_ACK_WINDOW = 66_000;

/**
 * tcp_in_window(): does the segment intersect the windows as far as we know them? Learns from it when it does.
 *
 * "Real Stateful TCP Packet Filtering in IP Filter", Guido van Rooij, with the bounds the kernel uses:
 * I seq <= sender.maxEnd; II end >= sender.end - receiver.maxWindow; III sack <= receiver.end;
 * IV sack >= receiver.end - max(sender.maxWindow, 66000).
 */
export function checkWindow(
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  settings: ConntrackSettings,
): WindowOutcome {
  const sender = connection.sides[side];
  const receiver = connection.sides[side === 0 ? 1 : 0];
  const liberal = settings.tcpBeLiberal || (sender.flags & TcpFlag.BE_LIBERAL) !== 0;
  const unless = (outcome: 'ignore' | 'invalid'): WindowOutcome => (liberal ? 'accept' : outcome);

  let { seq, ack, end } = segment;
  let sack = (receiver.flags & TcpFlag.SACK_PERM) !== 0 ? highestSack(segment.options, ack) : ack;

  if (sender.maxWindow === 0) {
    if (segment.syn) {
      startSide(sender, receiver, segment, side);
      // Simultaneous open.
      if (!segment.hasAck) return 'accept';
    } else {
      pickUp(sender, receiver, segment, sack);
    }
  } else if (
    segment.syn &&
    after(end, sender.end) &&
    (connection.state === TcpState.SYN_SENT || connection.state === TcpState.SYN_RECV)
  ) {
    // RFC 793: a TCP that starts anew must use larger sequence numbers. It may differ in options, too.
    startSide(sender, receiver, segment, side);
    if (side === 1 && !segment.hasAck) return 'accept';
  }

  // No acknowledgement, or a RST that carries none although its flag says so: take it as fitting.
  if (!segment.hasAck || (segment.rst && ack === 0)) {
    ack = receiver.end;
    sack = ack;
  }
  // A RST that answers a SYN has sequence number 0.
  if (segment.rst && seq === 0 && connection.state === TcpState.SYN_SENT) {
    seq = sender.end;
    end = sender.end;
  }

  const ackFloor = (receiver.end - Math.max(sender.maxWindow, MAX_ACK_WINDOW) - 1) >>> 0;
  const inReceiveWindow = after(end, (sender.end - receiver.maxWindow - 1) >>> 0);
  if (!before(seq, sender.maxEnd + 1)) {
    const overshoot = (end - sender.maxEnd + 1) >>> 0;
    if (
      receiver.maxWindow !== 0 &&
      inReceiveWindow &&
      after(sack, ackFloor) &&
      overshoot <= receiver.maxWindow &&
      before(sack, receiver.end + 1)
    ) {
      // Some senders send more than the window allows; the peer's acknowledgement of it must not become invalid.
      sender.end = end;
      sender.flags |= TcpFlag.DATA_UNACKNOWLEDGED;
      return unless('ignore');
    }
    return unless('invalid');
  }
  if (!before(sack, receiver.end + 1)) return unless('invalid');
  if (receiver.maxWindow !== 0 && !inReceiveWindow) return unless('ignore');
  if (!after(sack, ackFloor)) return unless('ignore');

  learn(connection, side, segment, { seq, ack, sack, end });
  return 'accept';
}

/** tcp_init_sender(): a SYN or SYN ACK tells where a side begins. */
function startSide(sender: TcpSide, receiver: TcpSide, segment: Segment, side: 0 | 1): void {
  sender.end = segment.end;
  sender.maxEnd = segment.end;
  sender.maxWindow = segment.window === 0 ? 1 : segment.window;
  learnOptions(segment.options, sender);
  // RFC 7323: both must have offered window scaling; only the answering side settles it.
  if (side === 1 && (sender.flags & receiver.flags & TcpFlag.WINDOW_SCALE) === 0) {
    sender.scale = 0;
    receiver.scale = 0;
  }
}

/** The connection was open before we looked: believe this segment. */
function pickUp(sender: TcpSide, receiver: TcpSide, segment: Segment, sack: number): void {
  const window = segment.window * 2 ** sender.scale;
  sender.end = segment.end;
  sender.maxWindow = window === 0 ? 1 : window;
  sender.maxEnd = (segment.end + sender.maxWindow) >>> 0;
  if (receiver.maxWindow === 0) {
    receiver.end = sack;
    receiver.maxEnd = sack;
  } else if (sack === (receiver.end + 1) >>> 0) {
    // Likely the answer to a keepalive.
    receiver.end = sack;
  }
}

function learn(
  connection: TcpConnection,
  side: 0 | 1,
  segment: Segment,
  numbers: { readonly seq: number; readonly ack: number; readonly sack: number; readonly end: number },
): void {
  const sender = connection.sides[side];
  const receiver = connection.sides[side === 0 ? 1 : 0];
  const { seq, ack, sack, end } = numbers;
  const window = segment.syn ? segment.window : segment.window * 2 ** sender.scale;

  sender.maxWindow = Math.max(sender.maxWindow, (window + (sack - ack)) >>> 0);
  if (after(end, sender.end)) {
    sender.end = end;
    sender.flags |= TcpFlag.DATA_UNACKNOWLEDGED;
  }
  if (segment.hasAck) {
    if ((sender.flags & TcpFlag.MAXACK_SET) === 0) {
      sender.maxAck = ack;
      sender.flags |= TcpFlag.MAXACK_SET;
    } else if (after(ack, sender.maxAck)) {
      sender.maxAck = ack;
    }
  }

  if (receiver.maxWindow !== 0 && after(end, sender.maxEnd)) {
    receiver.maxWindow = (receiver.maxWindow + end - sender.maxEnd) >>> 0;
  }
  const edge = (sack + window) >>> 0;
  if (after(edge, receiver.maxEnd - 1)) receiver.maxEnd = window === 0 ? (edge + 1) >>> 0 : edge;
  if (ack === receiver.end) receiver.flags &= ~TcpFlag.DATA_UNACKNOWLEDGED;

  if (segment.kind !== SegmentKind.ACK) return;
  const repeated =
    connection.lastSide === side &&
    connection.lastSeq === seq &&
    connection.lastAck === ack &&
    connection.lastEnd === end &&
    connection.lastWindow === segment.window;
  if (repeated) {
    connection.retransmissions = (connection.retransmissions + 1) & 0xff;
    return;
  }
  connection.lastSide = side;
  connection.lastSeq = seq;
  connection.lastAck = ack;
  connection.lastEnd = end;
  connection.lastWindow = segment.window;
  connection.retransmissions = 0;
}
