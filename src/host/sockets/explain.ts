/** Why a packet goes where it goes: every binding that has to do with it, and what the loaded program says. */
import { selectedSocketCookie, skLookupContext, testRun, withNetns } from '../../kernel/index.ts';
import { formatPortRange, formatPrefix, portRangeContains, prefixContainsBytes } from '../../net/index.ts';
import {
  type Binding,
  bindingMatches,
  compareBindings,
  compareSpecificity,
  type LookupTuple,
  lookupLinear,
  PROTOCOL_NUMBER,
  SK_PASS,
} from '../../sklookup/index.ts';
import { createMetrics, loadSkLookup } from './objects.ts';
import type { SocketSteering } from './steering.ts';

export interface ConsideredBinding {
  readonly binding: Binding;
  readonly wins: boolean;
  /** Why it does not get the packet; empty for the winner. */
  readonly reason: string;
}

export interface SocketExplanation {
  /** Bindings whose prefix and protocol fit, in the order of precedence. */
  readonly considered: readonly ConsideredBinding[];
  readonly winner: Binding | undefined;
  /** `socket`: that one; `drop`: no socket, refused; `pass`: the ordinary look-up decides. */
  readonly outcome: 'socket' | 'drop' | 'pass';
  /** Cookie of the selected socket. A reuseport group may choose another of its sockets. */
  readonly cookie: bigint | undefined;
  /** The test run of the program agrees with the winner. False is a defect, of the tables or of the program. */
  readonly agrees: boolean;
}

/** Most bindings that are shown; the winner is among them. */
const MOST_CONSIDERED = 200;

/**
 * Asks the bindings by their definition, and the program. Counters and kept flows stay as they are.
 * @throws {SocketHostError} `HOST_SOCKETS_DEVICE`
 */
export function explainLookup(steering: SocketSteering, tuple: LookupTuple): SocketExplanation {
  const { bindings } = steering.bindings();
  const winner = lookupLinear(bindings, tuple);
  const near = bindings
    .filter(
      (binding) =>
        binding.protocol === tuple.protocol && prefixContainsBytes(binding.prefix, tuple.localAddress),
    )
    .sort(compareBindings);
  const considered = near
    .slice(0, MOST_CONSIDERED)
    .map((binding) => ({ binding, wins: binding === winner, reason: reasonOf(binding, winner, tuple) }));
  const result = probe(steering, tuple);
  return { considered, winner, ...result, agrees: agrees(steering, winner, tuple, result) };
}

/** Whether the program chose a socket of the winner's label, or none because the label or the packet has none. */
function agrees(
  steering: SocketSteering,
  winner: Binding | undefined,
  tuple: LookupTuple,
  { outcome, cookie }: Outcome,
): boolean {
  if (winner === undefined) return outcome === 'pass';
  const family = tuple.localAddress.length === 16 ? 'ipv6' : 'ipv4';
  const destination = steering
    .status()
    .destinations.find(
      (each) => each.label === winner.label && each.protocol === winner.protocol && each.family === family,
    );
  const live = destination?.members.filter((member) => member.cookie !== undefined) ?? [];
  if (outcome === 'socket') return live.some((member) => member.cookie === cookie);
  return !live.some(({ weight }) => weight > 0);
}

function reasonOf(binding: Binding, winner: Binding | undefined, tuple: LookupTuple): string {
  if (binding === winner) return '';
  if (!bindingMatches(binding, tuple)) {
    if (!portRangeContains(binding.ports, tuple.localPort))
      return `port ${tuple.localPort} is not in ${formatPortRange(binding.ports)}`;
    if (binding.source !== undefined && !prefixContainsBytes(binding.source, tuple.remoteAddress))
      return `the source is not in ${formatPrefix(binding.source)}`;
    if (binding.device !== undefined && binding.device !== tuple.device)
      return `it did not come in by ${binding.device}`;
    return `the remote port is not ${binding.remotePort}`;
  }
  return winner === undefined ? '' : lossOf(binding, winner);
}

/** The first point of the precedence in which the winner is more specific. */
function lossOf(loser: Binding, winner: Binding): string {
  if (winner.prefix.length !== loser.prefix.length) return 'a longer prefix wins';
  const width = (binding: Binding): number => binding.ports.max - binding.ports.min;
  if (width(winner) !== width(loser)) return 'fewer ports win';
  if (winner.source?.length !== loser.source?.length) return 'a longer source prefix wins';
  if (winner.device !== loser.device) return 'one that names the device wins';
  return compareSpecificity(winner, loser) < 0
    ? 'one that names the remote port wins'
    : 'it is not the first';
}

type Outcome = Pick<SocketExplanation, 'outcome' | 'cookie'>;

/** A test run of the program, loaded once more with counters of its own and the device as a constant: a test run has none. */
function probe(steering: SocketSteering, tuple: LookupTuple): Outcome {
  const ifindex = tuple.device === '' ? 0 : steering.ifindex(tuple.device);
  const { arena, sockets, flows } = steering.objects;
  const metrics = createMetrics();
  try {
    const program = loadSkLookup({ arena, sockets, metrics, flows }, { probe: { ifindex } });
    try {
      const context = skLookupContext({ ...tuple, protocol: PROTOCOL_NUMBER[tuple.protocol] });
      const result = withNetns(steering.netns.netns, () => testRun(program, { context }));
      if (result.returnValue !== SK_PASS) return { outcome: 'drop', cookie: undefined };
      const cookie = selectedSocketCookie(result.context);
      return cookie === 0n ? { outcome: 'pass', cookie: undefined } : { outcome: 'socket', cookie };
    } finally {
      program.close();
    }
  } finally {
    metrics.close();
  }
}
