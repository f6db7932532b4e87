/** Connections of a live namespace as entries of the netstack's table. */
import type { ListedConnection, ListedTuple } from '../../kernel/index.ts';
import {
  type Conntrack,
  type Entry,
  type SctpAssociation,
  TcpFlag,
  type TcpState,
  type Tuple,
  tcpConnection,
  unknownSide,
} from '../../netstack/index.ts';

/**
 * Puts them into the table, with the time that each still has. The kernel does not tell sequence numbers and windows: of
 * a TCP connection the next segment of each side is believed, as after a failover.
 */
export function restoreConnections(conntrack: Conntrack, listed: readonly ListedConnection[]): void {
  for (const connection of listed) conntrack.restore(entryOf(connection));
}

function entryOf({
  original,
  reply,
  status,
  mark,
  zone,
  timeoutSec,
  counters,
  tcp,
  sctp,
}: ListedConnection): Entry {
  return {
    zone,
    original: tupleOf(original),
    reply: tupleOf(reply),
    status,
    mark,
    accounting: { original: { ...counters[0] }, reply: { ...counters[1] } },
    timeoutMs: timeoutSec * 1000,
    ...(tcp === undefined ? {} : { tcp: tcpOf(tcp) }),
    ...(sctp === undefined ? {} : { sctp: sctpOf(sctp) }),
  };
}

function tupleOf(tuple: ListedTuple): Tuple {
  return { family: tuple.source.length === 4 ? 'ipv4' : 'ipv6', ...tuple };
}

function tcpOf({ state, scales, flags }: NonNullable<ListedConnection['tcp']>): NonNullable<Entry['tcp']> {
  const side = (index: 0 | 1): ReturnType<typeof unknownSide> => ({
    ...unknownSide(),
    scale: scales[index],
    // Which number it has acknowledged is not told, so no reset can be held against it.
    flags: flags[index] & ~TcpFlag.MAXACK_SET,
  });
  return tcpConnection(state as TcpState, side(0), side(1));
}

function sctpOf({ state, tags }: NonNullable<ListedConnection['sctp']>): SctpAssociation {
  return {
    state: state as SctpAssociation['state'],
    tags: [...tags],
    initSeen: [false, false],
    heartbeatFailed: false,
    lastSide: 0,
  };
}
