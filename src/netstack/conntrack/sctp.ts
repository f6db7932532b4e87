/** SCTP associations: net/netfilter/nf_conntrack_proto_sctp.c, with the paths' established states unified. */
import { IpProtocol, read8, read16, read32 } from '../../wire/index.ts';
import { type Direction, type Entry, IPS } from './entry.ts';
import type { TableAccess, TrackOutcome } from './outcome.ts';
import type { Located } from './packet.ts';
import type { ConntrackSettings } from './settings.ts';

export const SctpState = {
  NONE: 0,
  CLOSED: 1,
  COOKIE_WAIT: 2,
  COOKIE_ECHOED: 3,
  ESTABLISHED: 4,
  SHUTDOWN_SENT: 5,
  SHUTDOWN_RECD: 6,
  SHUTDOWN_ACK_SENT: 7,
  HEARTBEAT_SENT: 8,
} as const;
export type SctpState = (typeof SctpState)[keyof typeof SctpState];

/** struct ip_ct_sctp. Tags are those that a side's packets must carry. */
export interface SctpAssociation {
  state: SctpState;
  readonly tags: [number, number];
  /** This side has sent an INIT. */
  readonly initSeen: [boolean, boolean];
  /** A HEARTBEAT came with another tag: its answer may prove that the tag has changed. */
  heartbeatFailed: boolean;
  lastSide: 0 | 1;
}

const Chunk = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  HEARTBEAT: 4,
  HEARTBEAT_ACK: 5,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  ERROR: 9,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  SHUTDOWN_COMPLETE: 14,
} as const;
/** The sender reflects the tag because it has no association (RFC 9260 section 8.5.1). */
const FLAG_T = 1;

const NAMES = {
  CL: SctpState.CLOSED,
  CW: SctpState.COOKIE_WAIT,
  CE: SctpState.COOKIE_ECHOED,
  ES: SctpState.ESTABLISHED,
  SS: SctpState.SHUTDOWN_SENT,
  SR: SctpState.SHUTDOWN_RECD,
  SA: SctpState.SHUTDOWN_ACK_SENT,
  HS: SctpState.HEARTBEAT_SENT,
  IV: 'invalid',
} as const;

type Row = readonly (SctpState | 'invalid')[];

function row(line: string): Row {
  return line.split(' ').map((name) => NAMES[name as keyof typeof NAMES]);
}

/** By chunk: the next state for each old one, NONE first; packets of the original side, then of the other. */
const TRANSITIONS: ReadonlyMap<number, readonly [Row, Row]> = new Map(
  (
    [
      //                    NO CL CW CE ES SS SR SA HS    reply
      [Chunk.INIT, 'CL CL CW CE ES SS SR SA CW', 'IV CL CW CE ES SS SR SA IV'],
      [Chunk.INIT_ACK, 'CL CL CW CE ES SS SR SA CL', 'IV CW CW CE ES SS SR SA IV'],
      [Chunk.ABORT, 'CL CL CL CL CL CL CL CL CL', 'IV CL CL CL CL CL CL CL IV'],
      [Chunk.SHUTDOWN, 'CL CL CW CE SS SS SR SA CL', 'IV CL CW CE SR SS SR SA IV'],
      [Chunk.SHUTDOWN_ACK, 'SA CL CW CE ES SA SA SA SA', 'IV CL CW CE ES SA SA SA IV'],
      [Chunk.ERROR, 'CL CL CW CE ES SS SR SA CL', 'IV CL CW CL ES SS SR SA IV'],
      [Chunk.COOKIE_ECHO, 'CL CL CE CE ES SS SR SA CL', 'IV CL CE CE ES SS SR SA IV'],
      [Chunk.COOKIE_ACK, 'CL CL CW ES ES SS SR SA CL', 'IV CL CW ES ES SS SR SA IV'],
      [Chunk.SHUTDOWN_COMPLETE, 'CL CL CW CE ES SS SR CL CL', 'IV CL CW CE ES SS SR CL IV'],
      [Chunk.HEARTBEAT, 'HS CL CW CE ES SS SR SA HS', 'IV CL CW CE ES SS SR SA HS'],
      [Chunk.HEARTBEAT_ACK, 'CL CL CW CE ES SS SR SA HS', 'IV CL CW CE ES SS SR SA ES'],
    ] as const
  ).map(([chunk, original, reply]) => [chunk, [row(original), row(reply)]]),
);

/** DATA, SACK and unknown chunks change nothing. */
function nextState(side: 0 | 1, state: SctpState, chunk: number): SctpState | 'invalid' {
  return TRANSITIONS.get(chunk)?.[side][state] ?? state;
}

interface ChunkAt {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
}

/** The chunks up to the first that is cut off; `undefined` when one is empty. */
function chunksOf({ bytes, offset }: Located): ChunkAt[] | undefined {
  const chunks: ChunkAt[] = [];
  let at = offset + 12;
  while (at + 4 <= bytes.length) {
    const length = read16(bytes, at + 2);
    if (length === 0) return undefined;
    chunks.push({ type: read8(bytes, at), flags: read8(bytes, at + 1), offset: at });
    at += (length + 3) & ~3;
  }
  return chunks;
}

/** do_basic_checks(): some chunks must come first or alone. */
function orderIsSound(chunks: readonly ChunkAt[]): boolean {
  let alone = false;
  for (const [index, { type }] of chunks.entries()) {
    alone ||= type === Chunk.INIT || type === Chunk.INIT_ACK || type === Chunk.SHUTDOWN_COMPLETE;
    const first = alone || type === Chunk.COOKIE_ACK || type === Chunk.COOKIE_ECHO;
    if (first && index !== 0) return false;
  }
  return chunks.length > 0;
}

/** The initiate tag of an INIT or INIT ACK; `undefined` when the chunk is cut short. */
function initiateTag(bytes: Uint8Array, chunk: ChunkAt): number | undefined {
  return chunk.offset + 20 > bytes.length ? undefined : read32(bytes, chunk.offset + 4);
}

/** Chunks whose tag is looked at one by one. */
const OWN_TAG_RULES: ReadonlySet<number> = new Set([
  Chunk.INIT,
  Chunk.SHUTDOWN_COMPLETE,
  Chunk.COOKIE_ECHO,
  Chunk.ABORT,
  Chunk.SHUTDOWN_ACK,
  Chunk.HEARTBEAT,
  Chunk.HEARTBEAT_ACK,
]);

/** nf_conntrack_sctp_packet(), after the checksum. */
export function trackSctp(
  entry: Entry,
  direction: Direction,
  located: Located,
  settings: ConntrackSettings,
  table: TableAccess,
): TrackOutcome {
  const chunks = chunksOf(located);
  if (chunks === undefined || !orderIsSound(chunks)) return 'invalid';
  const tag = read32(located.bytes, located.offset + 4);
  const confirmed = (entry.status & IPS.CONFIRMED) !== 0;
  if (!confirmed) {
    const opened = openAssociation(located, chunks, tag);
    if (opened === undefined) return 'invalid';
    entry.sctp = opened;
  }
  const association = entry.sctp!;
  const side = direction === 'original' ? 0 : 1;
  const special = chunks.some(({ type }) => OWN_TAG_RULES.has(type));
  if (!special && tag !== association.tags[side]) return 'invalid';

  const before = { ignore: false, state: association.state };
  for (const chunk of chunks) {
    const from = association.state;
    const check = checkTag(association, side, chunk, tag, chunks, before.ignore);
    if (check === 'invalid') return 'invalid';
    if (check === 'ignore') {
      before.ignore = true;
      continue;
    }
    const to = nextState(side, from, chunk.type);
    if (to === 'invalid') return 'invalid';
    const noted = noteTags(association, side, chunk, located.bytes);
    if (!noted) return 'invalid';
    // An INIT sent again does not prolong the entry.
    const again = chunk.type === Chunk.INIT && from === SctpState.CLOSED && to === SctpState.CLOSED;
    if (again && confirmed) before.ignore = true;
    association.state = to;
    if (from !== to && to === SctpState.ESTABLISHED) entry.status |= IPS.ASSURED;
  }
  if (!before.ignore) table.refresh(settings.sctpTimeoutsMs[association.state]!);
  return 'accept';
}

/** sctp_new(): the first packet says what tags to expect; out of the blue, some chunks open nothing (RFC 9260 8.4). */
function openAssociation(
  { bytes }: Located,
  chunks: readonly ChunkAt[],
  tag: number,
): SctpAssociation | undefined {
  const nothing: ReadonlySet<number> = new Set([Chunk.ABORT, Chunk.SHUTDOWN_COMPLETE, Chunk.COOKIE_ACK]);
  if (chunks.some(({ type }) => nothing.has(type))) return undefined;
  const association: SctpAssociation = {
    state: SctpState.NONE,
    tags: [0, 0],
    initSeen: [false, false],
    heartbeatFailed: false,
    lastSide: 0,
  };
  for (const chunk of chunks) {
    const state = nextState(0, SctpState.NONE, chunk.type);
    if (state === SctpState.NONE || state === 'invalid') return undefined;
    if (chunk.type === Chunk.INIT) {
      const initial = initiateTag(bytes, chunk);
      if (tag !== 0 || initial === undefined) return undefined;
      association.tags[1] = initial;
    } else if (chunk.type === Chunk.HEARTBEAT) association.tags[0] = tag;
    else if (chunk.type === Chunk.SHUTDOWN_ACK) association.tags[1] = tag;
    association.state = state;
  }
  return association;
}

/** RFC 9260 section 8.5: the verification tag, and its exceptions by chunk. */
function checkTag(
  association: SctpAssociation,
  side: 0 | 1,
  { type, flags }: ChunkAt,
  tag: number,
  chunks: readonly ChunkAt[],
  ignored: boolean,
): 'ok' | 'ignore' | 'invalid' {
  const own = association.tags[side];
  const other = association.tags[side === 0 ? 1 : 0];
  switch (type) {
    case Chunk.INIT:
      return tag === 0 ? 'ok' : 'invalid';
    case Chunk.ABORT:
    case Chunk.SHUTDOWN_COMPLETE:
      return tag === ((flags & FLAG_T) !== 0 ? other : own) ? 'ok' : 'invalid';
    case Chunk.COOKIE_ECHO:
      return tag === own ? 'ok' : 'invalid';
    case Chunk.COOKIE_ACK:
      association.initSeen.fill(false);
      return 'ok';
    case Chunk.HEARTBEAT:
    case Chunk.HEARTBEAT_ACK:
      break;
    default:
      return 'ok';
  }
  if (own === 0) {
    association.tags[side] = tag;
    return 'ok';
  }
  if (tag === own) {
    association.heartbeatFailed = false;
    return 'ok';
  }
  if (ignored || chunks.some((chunk) => chunk.type === Chunk.DATA)) return 'invalid';
  if (type === Chunk.HEARTBEAT) {
    association.heartbeatFailed = true;
    association.lastSide = side;
    return 'ignore';
  }
  if (!association.heartbeatFailed || association.lastSide === side) return 'invalid';
  association.heartbeatFailed = false;
  association.tags[side] = tag;
  association.tags[side === 0 ? 1 : 0] = 0;
  return 'ok';
}

/** INIT and INIT ACK carry the tag that the other side must use; false when that contradicts what both have said. */
function noteTags(association: SctpAssociation, side: 0 | 1, chunk: ChunkAt, bytes: Uint8Array): boolean {
  if (chunk.type !== Chunk.INIT && chunk.type !== Chunk.INIT_ACK) return true;
  const peer = side === 0 ? 1 : 0;
  const initial = initiateTag(bytes, chunk);
  if (initial === undefined) return false;
  const { initSeen, tags } = association;
  if (chunk.type === Chunk.INIT) {
    if (initSeen[side] && initSeen[peer]) initSeen[peer] = false;
    initSeen[side] = true;
  } else {
    if (!initSeen[peer] && tags[peer] !== 0 && tags[peer] !== initial) return false;
    // Both sent an INIT: the association is that of the INIT which this one acknowledges.
    if (initSeen[side] && initSeen[peer] && tags[peer] !== initial) return false;
  }
  tags[peer] = initial;
  return true;
}

/** The header is there. */
export function sctpIsSound(located: Located): boolean {
  return located.protocol === IpProtocol.SCTP && located.bytes.length - located.offset >= 12;
}
