import { read16, read32 } from '../../../wire/index.ts';
import { SegmentKind, TcpFlag, type TcpSide } from './state.ts';

/** A TCP segment as window tracking needs it. Numbers are in host order, unsigned. */
export interface Segment {
  readonly seq: number;
  readonly ack: number;
  /** seq + payload, SYN and FIN counting one each. */
  readonly end: number;
  readonly window: number;
  readonly syn: boolean;
  readonly hasAck: boolean;
  readonly rst: boolean;
  readonly kind: SegmentKind;
  readonly options: Uint8Array;
}

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;
const URG = 0x20;

/** Combinations of FIN, SYN, RST, ACK, URG that a sound stack sends (tcp_valid_flags). */
const VALID_FLAGS: ReadonlySet<number> = new Set([
  SYN,
  SYN | URG,
  SYN | ACK,
  RST,
  RST | ACK,
  FIN | ACK,
  FIN | ACK | URG,
  ACK,
  ACK | URG,
]);

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_WINDOW_SCALE = 3;
const OPTION_SACK_PERMITTED = 4;
const OPTION_SACK = 5;
const OPTION_TIMESTAMP = 8;
/** RFC 7323 section 2.3: larger shifts are taken as this. */
const MAX_SCALE = 14;

/** The segment at `offset`, or `undefined` when it is cut off or its flags make no sense (tcp_error). */
export function segmentAt(bytes: Uint8Array, offset: number): Segment | undefined {
  const length = bytes.length - offset;
  if (length < 20) return undefined;
  const headerLength = (bytes[offset + 12]! >> 4) * 4;
  if (headerLength < 20 || length < headerLength) return undefined;
  const flags = bytes[offset + 13]! & (FIN | SYN | RST | ACK | URG);
  if (!VALID_FLAGS.has(flags)) return undefined;
  const seq = read32(bytes, offset + 4);
  const syn = (flags & SYN) !== 0;
  const fin = (flags & FIN) !== 0;
  return {
    seq,
    ack: read32(bytes, offset + 8),
    end: (seq + length - headerLength + (syn ? 1 : 0) + (fin ? 1 : 0)) >>> 0,
    window: read16(bytes, offset + 14),
    syn,
    hasAck: (flags & ACK) !== 0,
    rst: (flags & RST) !== 0,
    kind: kindOf(flags),
    options: bytes.subarray(offset + 20, offset + headerLength),
  };
}

function kindOf(flags: number): SegmentKind {
  if ((flags & RST) !== 0) return SegmentKind.RST;
  if ((flags & SYN) !== 0) return (flags & ACK) !== 0 ? SegmentKind.SYNACK : SegmentKind.SYN;
  if ((flags & FIN) !== 0) return SegmentKind.FIN;
  return (flags & ACK) !== 0 ? SegmentKind.ACK : SegmentKind.NONE;
}

/** Calls `visit(kind, from, to)` for each whole option (bounds of its value) until it says stop or the list is broken. */
function eachOption(
  options: Uint8Array,
  visit: (kind: number, from: number, to: number) => 'stop' | undefined,
): void {
  let at = 0;
  while (at < options.length) {
    const kind = options[at]!;
    if (kind === OPTION_END) return;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 2 > options.length) return;
    const size = options[at + 1]!;
    if (size < 2 || at + size > options.length) return;
    if (visit(kind, at + 2, at + size) === 'stop') return;
    at += size;
  }
}

/** tcp_options(): learns window scale and SACK permission from a SYN. Leaves the side alone when there are no options. */
export function learnOptions(options: Uint8Array, side: TcpSide): void {
  if (options.length === 0) return;
  side.scale = 0;
  side.flags &= TcpFlag.BE_LIBERAL;
  eachOption(options, (kind, from, to) => {
    if (kind === OPTION_SACK_PERMITTED && to === from) side.flags |= TcpFlag.SACK_PERM;
    else if (kind === OPTION_WINDOW_SCALE && to - from === 1) {
      side.scale = Math.min(options[from]!, MAX_SCALE);
      side.flags |= TcpFlag.WINDOW_SCALE;
    }
    return undefined;
  });
}

/** tcp_sack(): the highest right edge of the SACK blocks, when it is after `ack`. */
export function highestSack(options: Uint8Array, ack: number): number {
  const aligned =
    options.length === 12 &&
    options[0] === OPTION_NOP &&
    options[1] === OPTION_NOP &&
    options[2] === OPTION_TIMESTAMP &&
    options[3] === 10;
  if (aligned) return ack;
  let highest = ack;
  eachOption(options, (kind, from, to) => {
    if (kind !== OPTION_SACK || to - from < 8 || (to - from) % 8 !== 0) return undefined;
    for (let block = from; block < to; block += 8) {
      const edge = read32(options, block + 4);
      if (after(edge, highest)) highest = edge;
    }
    return 'stop';
  });
  return highest;
}

/** Sequence space comparison: `a` lies before `b` (modulo 2^32). */
export function before(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Sequence space comparison: `a` lies after `b`. */
export function after(a: number, b: number): boolean {
  return before(b, a);
}
