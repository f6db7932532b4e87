/**
 * What a program can say of a packet's connection state before conntrack has seen the packet (xdp, tcx ingress).
 *
 * A look-up in the connection table tells less than conntrack will: an unknown packet may open a connection (NEW), be
 * expected by one (RELATED) or be nonsense (INVALID), and protocols other than TCP and UDP are not found at all. So the fact
 * `ctState` is, there, the set of the states that the packet can have, and a rule compiles when its answer is the same for
 * every state of every set that its packets can have. Sets of one state are exact, with one proviso, which the policy's
 * notices tell: conntrack also calls TCP segments outside the window and wrong checksums INVALID.
 */
import { CtStateBit, type Predicate, type ScalarPredicate } from '../ir/index.ts';
import type { Obstacle } from './support.ts';

const { INVALID, ESTABLISHED, RELATED, NEW, UNTRACKED } = CtStateBit;
const TCP = 6;
const UDP = 17;

/** The sets that a look-up leaves of a packet. */
export const StateSet: Readonly<
  Record<'established' | 'new' | 'related' | 'invalid' | 'opening' | 'midway' | 'unknown', number>
> = {
  established: ESTABLISHED,
  /** An entry that has seen no answer. */
  new: NEW,
  related: RELATED,
  invalid: INVALID,
  /** No entry; what conntrack would open one for. Whether one is expected is not to be seen. */
  opening: NEW | RELATED,
  /** No entry, a TCP segment in mid-connection: NEW or INVALID, as nf_conntrack_tcp_loose says. */
  midway: NEW | RELATED | INVALID,
  /** Not TCP, not UDP, or no ports to look for. IPv6 neighbour discovery is never tracked. */
  unknown: NEW | RELATED | INVALID | ESTABLISHED | UNTRACKED,
};

const SETS_UDP = [StateSet.established, StateSet.new, StateSet.related, StateSet.invalid, StateSet.opening];
const SETS_TCP = [...SETS_UDP, StateSet.midway];
const SETS_ANY = [...SETS_TCP, StateSet.unknown];
const STATES = StateSet.unknown;

/** The protocols that a rule's conditions leave, as far as connections can be looked up. */
export type LookedUp = 'tcp' | 'udp' | 'any';

export function protocolsOf(predicates: readonly Predicate[]): LookedUp {
  let protocols: LookedUp = 'any';
  for (const predicate of predicates) {
    if (predicate.kind === 'all') {
      const inner = protocolsOf(predicate.of);
      if (inner !== 'any') protocols = inner;
    }
    if (predicate.kind !== 'scalar' || predicate.field !== 'ip.protocol' || predicate.negate) continue;
    if (predicate.ranges.length === 0 || predicate.mask !== 0xff) continue;
    const only = (number: number): boolean =>
      predicate.ranges.every(([min, max]) => min === number && max === number);
    if (only(UDP)) protocols = 'udp';
    else if (predicate.ranges.every(([min, max]) => [TCP, UDP].includes(min) && min === max)) {
      protocols = protocols === 'udp' ? 'udp' : 'tcp';
    }
  }
  return protocols;
}

/** Why the answer of a condition on the state cannot be had from a look-up; none when it can. */
export function stateObstacles(predicate: ScalarPredicate, protocols: LookedUp): readonly Obstacle[] {
  const asked = predicate.mask;
  const what = 'connection state';
  if ((asked & (~STATES | UNTRACKED)) !== 0) {
    return [{ what, reason: 'a look-up tells neither UNTRACKED nor what will be translated (SNAT, DNAT)' }];
  }
  const sets = protocols === 'udp' ? SETS_UDP : protocols === 'tcp' ? SETS_TCP : SETS_ANY;
  const torn = sets.find((set) => (set & asked) !== 0 && (set & ~asked) !== 0);
  if (torn === undefined) return [];
  if (torn === StateSet.unknown) {
    return [
      {
        what,
        reason: 'before conntrack only TCP and UDP connections can be looked up: say -p tcp or -p udp',
      },
    ];
  }
  const told = protocols === 'udp' ? 'new RELATED from NEW' : 'NEW, new RELATED and INVALID from each other';
  return [{ what, reason: `a look-up cannot tell ${told}` }];
}

/** Holds for packets of which the look-up alone says that the condition holds. `undefined`: it never says so. */
export function certainly(predicate: ScalarPredicate): ScalarPredicate | undefined {
  const { negate, mask } = predicate;
  if (negate && (mask & ~STATES) !== 0) return undefined;
  const wanted = negate ? STATES & ~mask : mask & STATES;
  return { ...predicate, mask: STATES & ~wanted, negate: true };
}

/** Holds for packets of which the look-up cannot say that the condition fails. `undefined`: it never says so. */
export function possibly(predicate: ScalarPredicate): ScalarPredicate | undefined {
  const { negate, mask } = predicate;
  if (!negate && (mask & ~STATES) !== 0) return undefined;
  return { ...predicate, mask: negate ? STATES & ~mask : mask, negate: false };
}
