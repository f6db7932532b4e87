/**
 * Divides a rule's conditions: those that vectors answer, and those asked at the rule's turn.
 *
 * Conditions without effects may be asked in any order, so vectors can answer them first. Behind one that counts packets
 * (limit, statistic) or may drop the packet (hotdrop) nothing may: it has to be asked even where a later one fails. What a
 * transport condition would drop is left to odd packets (layout.ts), so fields of the transport header can be answered.
 */
import type {
  AddressPredicate,
  AddressRangePredicate,
  IrRule,
  Predicate,
  ScalarField,
  ScalarPredicate,
  SetAction,
} from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import { FIELD_FACTS } from '../../emit/fact.ts';
import {
  addressIntervals,
  type Interval,
  type Intervals,
  intersect,
  rangeIntervals,
  scalarIntervals,
} from './intervals.ts';

export type AddressSide = 'ip.source' | 'ip.destination';

/** Fields that services are made of, and the largest value of each. */
export const CLASS_FIELDS: ReadonlyMap<ScalarField, number> = new Map<ScalarField, number>([
  ['ip.protocol', 0xff],
  ['meta.packetType', 7],
  ['ct.direction', 1],
  ['ct.state', 0xffff],
  ['tcp.flags', 0xff],
  ['icmp.type', 0xff],
  ['icmp.code', 0xff],
  ['ip.tos', 0xff],
  ['ip.ttl', 0xff],
  ['ip.fragmentOffset', 0x1fff],
  ['l4.sourcePort', 0xffff],
  ['l4.destinationPort', 0xffff],
  ['ip.length', 0xffff],
]);

/** Fields of the transport header: only to be asked behind a transport condition. */
export const TRANSPORT_FIELDS: ReadonlySet<ScalarField> = new Set<ScalarField>([
  'tcp.flags',
  'icmp.type',
  'icmp.code',
  'l4.sourcePort',
  'l4.destinationPort',
]);

/** What a rule does to sets, which is done behind its last condition, as if it were one that always holds. */
export interface SetChange {
  readonly kind: 'set-change';
  readonly change: SetAction;
}

/** What is asked, or done, at a rule's turn. */
export type Asked = Predicate | SetChange;

export interface DividedRule {
  readonly addresses: ReadonlyMap<AddressSide, Intervals>;
  readonly scalars: ReadonlyMap<ScalarField, Intervals>;
  /** What vectors do not answer, in order. */
  readonly rest: readonly Asked[];
  /** The most transport bytes that one of the answered conditions asks for. */
  readonly headerBytes: number;
}

/** All that is asked of a packet, and done to sets, where vectors answer nothing. */
export function askedOf({ predicates, action }: IrRule): readonly Asked[] {
  return action.kind === 'set' ? [...predicates, { kind: 'set-change', change: action }] : predicates;
}

/** `without` are fields that this chain's vectors leave out. */
export function divideRule(rule: IrRule, family: Family, without: ReadonlySet<ScalarField>): DividedRule {
  const addresses = new Map<AddressSide, Interval[]>();
  const scalars = new Map<ScalarField, Interval[]>();
  const rest: Asked[] = [];
  let headerBytes = 0;
  let answered = true;
  let guarded = false;
  // A condition before may drop odd packets, whatever their addresses.
  let dropsOdd = false;

  const narrow = <Key>(map: Map<Key, Interval[]>, key: Key, found: Interval[]): void => {
    const known = map.get(key);
    map.set(key, known === undefined ? found : intersect(known, found));
  };
  for (const predicate of flatten(rule.predicates)) {
    if (!answered) {
      rest.push(predicate);
      continue;
    }
    switch (predicate.kind) {
      case 'transport':
        guarded = true;
        dropsOdd = true;
        headerBytes = Math.max(headerBytes, predicate.minimumBytes);
        continue;
      case 'address':
      case 'address-range': {
        const found = dropsOdd ? undefined : intervalsOf(predicate);
        if (found === undefined) break;
        narrow(addresses, predicate.field as AddressSide, found);
        continue;
      }
      case 'scalar': {
        const { field } = predicate;
        const maximum = CLASS_FIELDS.get(field);
        if (maximum === undefined || without.has(field)) break;
        if (TRANSPORT_FIELDS.has(field) && !guarded) break;
        dropsOdd ||= field === 'ip.protocol' && family === 'ipv6';
        narrow(scalars, field, cachedIntervals(predicate, maximum));
        continue;
      }
    }
    rest.push(predicate);
    if (hasEffect(predicate, family)) answered = false;
  }
  if (rule.action.kind === 'set') rest.push({ kind: 'set-change', change: rule.action });
  return { addresses, scalars, rest, headerBytes };
}

/** Conjunctions within the conjunction are taken apart. */
export function flatten(predicates: readonly Predicate[]): readonly Predicate[] {
  if (!predicates.some(({ kind }) => kind === 'all')) return predicates;
  return predicates.flatMap((predicate) => (predicate.kind === 'all' ? flatten(predicate.of) : [predicate]));
}

function intervalsOf(predicate: AddressPredicate | AddressRangePredicate): Interval[] | undefined {
  if (predicate.field !== 'ip.source' && predicate.field !== 'ip.destination') return undefined;
  return predicate.kind === 'address' ? addressIntervals(predicate) : rangeIntervals(predicate);
}

/** Asking it changes something, or can drop the packet. */
function hasEffect(predicate: Predicate, family: Family): boolean {
  switch (predicate.kind) {
    case 'address':
    case 'address-range':
    case 'device':
    case 'address-type':
    case 'mac-source':
      return false;
    case 'scalar':
      // Fields without a fact are read from the packet; the protocol of IPv6 may be unknown.
      return (
        FIELD_FACTS[predicate.field] === undefined || (predicate.field === 'ip.protocol' && family === 'ipv6')
      );
    case 'all':
    case 'any':
      return predicate.of.some((part) => hasEffect(part, family));
    case 'not':
      return hasEffect(predicate.of, family);
    default:
      return true;
  }
}

const masked = new Map<string, Interval[]>();
const MASKED_KEPT = 4096;

/** Masks make long work of wide fields; the same few conditions come again and again. */
function cachedIntervals(predicate: ScalarPredicate, maximum: number): Interval[] {
  if ((predicate.mask & maximum) >>> 0 === maximum) return scalarIntervals(predicate, maximum);
  const key = `${maximum} ${predicate.mask} ${predicate.negate} ${predicate.ranges.join(' ')}`;
  const known = masked.get(key);
  if (known !== undefined) return known;
  if (masked.size >= MASKED_KEPT) masked.clear();
  const found = scalarIntervals(predicate, maximum);
  masked.set(key, found);
  return found;
}
