/** What each kind of hook can do: the reasons for which a rule is refused there, and where it could run instead. */
import {
  type Action,
  CtStateBit,
  changedKeys,
  type IrRule,
  type Predicate,
  type ScalarPredicate,
  type SetKey,
} from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import type { AttachPoint } from './attach.ts';
import { certainly, possibly, protocolsOf, stateObstacles } from './connectionstate.ts';
import { type Fact, HOOK_FACTS } from './emit/fact.ts';
import { hookEmitter } from './hooks/index.ts';
import type { Bounds } from './partial.ts';
import { TABLE_TYPES } from './predicates/addresstype.ts';
import { isConnectionField } from './predicates/connection.ts';
import { extensionHeaderNeeds } from './predicates/extensionheader.ts';
import { predicateNeeds } from './predicates/index.ts';
import { scalarNeeds } from './predicates/scalar.ts';
import { setKeyNeeds } from './sets/subject.ts';

/** The spellings of `--hook`. */
export const HOOK_NAMES = [
  'netfilter',
  'xdp',
  'tcx-ingress',
  'tcx-egress',
  'cgroup-ingress',
  'cgroup-egress',
] as const;
export type HookName = (typeof HOOK_NAMES)[number];

export function hookName(point: AttachPoint): HookName {
  switch (point.flavour) {
    case 'netfilter':
    case 'xdp':
      return point.flavour;
    default:
      return `${point.flavour}-${point.direction}`;
  }
}

/** What cannot be done, and why. */
export interface Obstacle {
  readonly what: string;
  readonly reason: string;
}

/** Everything about a rule that this attach point cannot do; empty when it can run the rule. */
export function obstacles(rule: IrRule, point: AttachPoint, family: Family): readonly Obstacle[] {
  return [
    ...rule.predicates.flatMap((p) => predicateObstacles(p, rule, point, family)),
    ...actionObstacles(rule.action, point),
  ];
}

/** The hooks that could run the rule: `--hook` names. */
export function hooksFor(rule: IrRule, family: Family): readonly HookName[] {
  const points: readonly AttachPoint[] = [
    { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 },
    { flavour: 'xdp' },
    { flavour: 'tcx', direction: 'ingress' },
    { flavour: 'tcx', direction: 'egress' },
    { flavour: 'cgroup', direction: 'ingress' },
    { flavour: 'cgroup', direction: 'egress' },
  ];
  return points.filter((point) => obstacles(rule, point, family).length === 0).map(hookName);
}

/** As {@link obstacles}, of one condition of a rule. */
export function predicateObstacles(
  predicate: Predicate,
  rule: IrRule,
  point: AttachPoint,
  family: Family,
): readonly Obstacle[] {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.flatMap((p) => predicateObstacles(p, rule, point, family));
    case 'not':
      return predicateObstacles(predicate.of, rule, point, family);
    case 'extension-header':
      if (extensionHeaderNeeds(predicate) === undefined) {
        return [
          { what: `extension header ${predicate.protocol}`, reason: 'no program looks for this header yet' },
        ];
      }
      return [];
    case 'set':
      return [...setKeyObstacles(predicate.key), ...missingFacts(predicate, point, family)];
    case 'scalar':
      if (scalarNeeds(predicate, family) === undefined) {
        return [{ what: predicate.field, reason: 'no program reads this field yet' }];
      }
      if (isConnectionField(predicate.field)) return connectionObstacles(predicate.field, point);
      if (predicate.field === 'ct.state' && hookEmitter(point).provides.has('ctState')) {
        return askedStateObstacles(predicate, rule, point);
      }
      return missingFacts(predicate, point, family);
    case 'address':
    case 'address-range':
      return isConnectionField(predicate.field) ? connectionObstacles(predicate.field, point) : [];
    case 'address-type':
      if ((predicate.types & ~TABLE_TYPES) !== 0) {
        return [
          {
            what: 'addrtype',
            reason:
              'types other than UNICAST, LOCAL, BROADCAST, ANYCAST and MULTICAST depend on the routing tables',
          },
        ];
      }
      return missingFacts(predicate, point, family);
    default:
      return missingFacts(predicate, point, family);
  }
}

/** Tuples and timeouts change between the chain OUTPUT and the hooks behind it. */
function connectionObstacles(field: string, point: AttachPoint): readonly Obstacle[] {
  if (hookEmitter(point).connection !== undefined) return [];
  return [
    {
      what: field,
      reason: `a packet at ${hookName(point)} does not have its connection as the chain has it`,
    },
  ];
}

function askedStateObstacles(
  predicate: ScalarPredicate,
  rule: IrRule,
  point: AttachPoint,
): readonly Obstacle[] {
  if (point.flavour === 'netfilter') return [];
  const what = 'connection state';
  if (rule.source.table === 'raw') {
    return [
      {
        what,
        reason: 'the table raw comes before connection tracking: at netfilter no packet has a state there',
      },
    ];
  }
  if (hookEmitter(point).lookupNeeds !== undefined) {
    return stateObstacles(predicate, protocolsOf(rule.predicates));
  }
  if ((predicate.mask & (CtStateBit.SNAT | CtStateBit.DNAT)) === 0) return [];
  return [{ what, reason: `translation comes between the chain and ${hookName(point)}` }];
}

/** What can stand for a condition that the attach point cannot decide. */
export function boundsOf(predicate: Predicate, point: AttachPoint): Bounds {
  const looksUp = hookEmitter(point).lookupNeeds !== undefined;
  if (!looksUp || predicate.kind !== 'scalar' || predicate.field !== 'ct.state') return {};
  return { certainly: certainly(predicate), possibly: possibly(predicate) };
}

function missingFacts(predicate: Predicate, point: AttachPoint, family: Family): readonly Obstacle[] {
  return factObstacles(predicateNeeds(predicate, family), point);
}

function factObstacles(facts: readonly Fact[], point: AttachPoint): readonly Obstacle[] {
  const { provides } = hookEmitter(point);
  return facts
    .filter((fact) => HOOK_FACTS.has(fact) && !provides.has(fact))
    .map((fact) => ({ what: FACT_NAMES[fact] ?? fact, reason: whyMissing(fact, point) }));
}

function setKeyObstacles({ words }: SetKey): readonly Obstacle[] {
  if (!words.some(({ from }) => from === 'mac.destination')) return [];
  return [{ what: 'set', reason: 'no program reads the destination MAC address' }];
}

const FACT_NAMES: Partial<Record<Fact, string>> = {
  mark: 'mark',
  packetType: 'packet type',
  ctState: 'connection state',
  ctStatus: 'connection status',
  ctDirection: 'connection direction',
  ctMark: 'connection mark',
};

function whyMissing(fact: Fact, point: AttachPoint): string {
  if (fact.startsWith('ct')) {
    if (point.flavour === 'cgroup') return 'sockets get packets without their connection';
    return `connection tracking has not seen the packet at ${hookName(point)}`;
  }
  if (fact === 'mark') return `a packet at ${hookName(point)} has no mark yet`;
  return `${hookName(point)} does not know it`;
}

function actionObstacles(action: Action, point: AttachPoint): readonly Obstacle[] {
  switch (action.kind) {
    case 'set': {
      const keys = changedKeys(action);
      const missing = keys.flatMap((key) => [
        ...setKeyObstacles(key),
        ...factObstacles(setKeyNeeds(key), point),
      ]);
      if (!action.map) return missing;
      return [...missing, { what: 'SET --map-set', reason: 'no program takes a mark from an entry' }];
    }
    case 'mark':
      return point.flavour === 'xdp'
        ? [{ what: 'target MARK', reason: 'a packet at xdp has no mark yet' }]
        : [];
    case 'reject':
      if (hookEmitter(point).answering !== undefined || point.flavour === 'netfilter') return [];
      if (point.flavour === 'cgroup') {
        return [
          { what: 'target REJECT', reason: 'cgroup programs can only drop; a local sender gets EPERM' },
        ];
      }
      return [{ what: 'target REJECT', reason: 'a packet on its way out has nobody to be answered to' }];
    default:
      return [];
  }
}
