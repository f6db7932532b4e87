/** `-m set`: net/netfilter/xt_set.c, revision 4. Whether the set exists is for the host to say. */
import type { Predicate, SetPredicate } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { lowerSetKeys } from '../../sets/lower.ts';
import { testPacket } from '../../sets/packet.ts';
import { boundedNumber64 } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatSetReference, parseSetReference, type SetReference } from '../../text/set-reference.ts';
import { AbiErrno, AbiError, unwritten } from '../../uapi/errno.ts';
import type { AbiForm, PayloadContext } from '../../uapi/payload.ts';
import { readSet, SET_BYTES, type SetLayout, writeSet } from '../../uapi/set-form.ts';

interface CounterCondition {
  readonly compare: 'eq' | 'ne' | 'lt' | 'gt';
  readonly value: bigint;
}

interface SetState {
  set: SetReference | undefined;
  negate: boolean;
  returnNoMatch: boolean;
  keepCounters: boolean;
  keepSubcounters: boolean;
  packets: CounterCondition | undefined;
  bytes: CounterCondition | undefined;
}

function counter(
  key: 'packets' | 'bytes',
  compare: 'eq' | 'lt' | 'gt',
  summary: string,
): OptionSpec<SetState> {
  return {
    name: `${key}-${compare}`,
    arguments: 1,
    negatable: compare === 'eq',
    syntax: 'number',
    summary,
    apply(state, [value], negated) {
      if (state[key] !== undefined)
        throw new OptionError(`only one of --${key}-eq, --${key}-lt and --${key}-gt is possible`, {
          argument: -1,
        });
      state[key] = { compare: negated ? 'ne' : compare, value: boundedNumber64(value!) };
    },
  };
}

/** An option that is the default, and says something only with "!" before it. */
function kept(name: string, key: 'keepCounters' | 'keepSubcounters', summary: string): OptionSpec<SetState> {
  return {
    name,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negated) {
      if (negated) state[key] = true;
    },
  };
}

function printCounter(name: string, condition: CounterCondition | undefined): string {
  if (condition === undefined) return '';
  const { compare, value } = condition;
  return compare === 'ne' ? ` ! --${name}-eq ${value}` : ` --${name}-${compare} ${value}`;
}

/** IPSET_FLAG_* */
const Flag = {
  KEEP_COUNTERS: 0x08,
  KEEP_SUBCOUNTERS: 0x10,
  RETURN_NOMATCH: 0x80,
} as const;
/** IPSET_COUNTER_* from 1. */
const COMPARISONS: readonly CounterCondition['compare'][] = ['eq', 'ne', 'lt', 'gt'];
const PACKETS_AT = 8;
const BYTES_AT = 24;
const FLAGS_AT = 40;

function emptyState(): SetState {
  return {
    set: undefined,
    negate: false,
    returnNoMatch: false,
    keepCounters: false,
    keepSubcounters: false,
    packets: undefined,
    bytes: undefined,
  };
}

function decodeSet(view: DataView, layout: SetLayout, context: PayloadContext): SetState {
  const read = readSet(view, 0, layout, context);
  if (read === undefined) throw new AbiError(AbiErrno.ENOENT, 'no set is named');
  return { ...emptyState(), set: read.set, negate: read.negate };
}

/** Revisions that name a set only; the second of them could return nomatch by its first byte of padding, and iptables never did. */
function plainForm(revision: number, layout: SetLayout): AbiForm<SetState> {
  return {
    name: 'set',
    revision,
    ...(layout === 'words' ? { families: ['ipv4'] } : {}),
    size: SET_BYTES[layout],
    decode: (view, context) => decodeSet(view, layout, context),
    encode: ({ set, negate }, view, context) => writeSet(view, 0, layout, { set: set!, negate }, context),
  };
}

/** struct xt_set_info_match_v3 and v4, whose conditions have operator and number the other way round. */
function countingForm(revision: 3 | 4): AbiForm<SetState> {
  const [operatorAt, valueAt] = revision === 4 ? [8, 0] : [0, 8];
  const read = (view: DataView, at: number): CounterCondition | undefined => {
    const operator = view.getUint8(at + operatorAt);
    if (operator === 0) return undefined;
    const compare = COMPARISONS[operator - 1] ?? unwritten('set: counters are compared in an unknown way');
    return { compare, value: view.getBigUint64(at + valueAt, true) };
  };
  const write = (view: DataView, at: number, condition: CounterCondition | undefined): void => {
    if (condition === undefined) return;
    view.setUint8(at + operatorAt, COMPARISONS.indexOf(condition.compare) + 1);
    view.setBigUint64(at + valueAt, condition.value, true);
  };
  return {
    name: 'set',
    revision,
    size: 48,
    decode(view, context) {
      const flags = view.getUint32(FLAGS_AT, true);
      return {
        ...decodeSet(view, 'bits', context),
        returnNoMatch: (flags & Flag.RETURN_NOMATCH) !== 0,
        keepCounters: (flags & Flag.KEEP_COUNTERS) !== 0,
        keepSubcounters: (flags & Flag.KEEP_SUBCOUNTERS) !== 0,
        packets: read(view, PACKETS_AT),
        bytes: read(view, BYTES_AT),
      };
    },
    encode(state, view, context) {
      const { set, negate, packets, bytes } = state;
      writeSet(view, 0, 'bits', { set: set!, negate }, context);
      write(view, PACKETS_AT, packets);
      write(view, BYTES_AT, bytes);
      let flags = state.returnNoMatch ? Flag.RETURN_NOMATCH : 0;
      if (state.keepCounters) flags |= Flag.KEEP_COUNTERS;
      if (state.keepSubcounters) flags |= Flag.KEEP_SUBCOUNTERS;
      view.setUint32(FLAGS_AT, flags, true);
    },
  };
}

export const set: MatchExtension = defineMatch<SetState>({
  name: 'set',
  families: ['ipv4', 'ipv6'],
  summary: 'Addresses and ports that are in an IP set',
  options: [
    {
      name: 'match-set',
      aliases: ['set'],
      arguments: 2,
      negatable: true,
      syntax: 'name src|dst[,…]',
      summary: 'The set, and the side of the packet for each of its dimensions',
      apply(state, [name, directions], negated) {
        state.set = parseSetReference(name!, directions!);
        state.negate = negated;
      },
    },
    {
      name: 'return-nomatch',
      arguments: 0,
      summary: 'An entry marked nomatch counts as a match',
      apply(state) {
        state.returnNoMatch = true;
      },
    },
    kept('update-counters', 'keepCounters', 'With "!": the counters of the entry stay as they are'),
    kept(
      'update-subcounters',
      'keepSubcounters',
      'With "!": as --update-counters, in the members of a list of sets',
    ),
    counter('packets', 'eq', 'The packet counter of the entry equals the number'),
    counter('packets', 'lt', 'The packet counter of the entry is less than the number'),
    counter('packets', 'gt', 'The packet counter of the entry is greater than the number'),
    counter('bytes', 'eq', 'The byte counter of the entry equals the number'),
    counter('bytes', 'lt', 'The byte counter of the entry is less than the number'),
    counter('bytes', 'gt', 'The byte counter of the entry is greater than the number'),
  ],
  initial: emptyState,
  finish: (state) => requireAll('set', { 'match-set': state.set !== undefined }),
  sets: ({ set }) => [set!],
  print(state) {
    let text = `${state.negate ? ' !' : ''} --match-set ${formatSetReference(state.set!)}`;
    if (state.returnNoMatch) text += ' --return-nomatch';
    if (state.keepCounters) text += ' ! --update-counters';
    if (state.keepSubcounters) text += ' ! --update-subcounters';
    return text + printCounter('packets', state.packets) + printCounter('bytes', state.bytes);
  },
  abi: [countingForm(4), countingForm(3), plainForm(2, 'bits'), plainForm(1, 'bits'), plainForm(0, 'words')],
  semantics: {
    evaluate(state, packet) {
      const set = packet.world.sets?.get(state.set!.name);
      if (set === undefined) throw new RangeError(`set ${state.set!.name} is not there`);
      const request = {
        length: packet.length,
        keepCounters: state.keepCounters,
        keepSubcounters: state.keepSubcounters,
        countersHold: (packets: bigint, bytes: bigint) =>
          counterHolds(packets, state.packets) && counterHolds(bytes, state.bytes),
      };
      return testPacket(set, packet, state.set!, request, state.returnNoMatch) !== state.negate;
    },
    lower(state, context) {
      const { set, negate, returnNoMatch, keepCounters, keepSubcounters, packets, bytes } = state;
      const list = context.sets!.get(set!.name)!.definition.type.method === 'list';
      const members = lowerSetKeys(set!, context).map(
        (key): SetPredicate => ({
          kind: 'set',
          key,
          returnNoMatch: returnNoMatch && key.networks > 0,
          keepCounters: keepCounters || (list && keepSubcounters),
          // Counters are asked of the list's own entries, which have none.
          packets: list ? undefined : packets,
          bytes: list ? undefined : bytes,
          negate: false,
        }),
      );
      const [only, ...more] = members;
      if (only === undefined) return [{ kind: negate ? 'all' : 'any', of: [] }];
      if (more.length === 0) return [{ ...only, negate }];
      const some: Predicate = { kind: 'any', of: members };
      return [negate ? { kind: 'not', of: some } : some];
    },
    explain: ({ set, negate }) =>
      `the packet is ${negate ? '' : 'not '}in the set ${formatSetReference(set!)}`,
  },
});

/** ip_set_match_counter */
function counterHolds(counter: bigint, condition: CounterCondition | undefined): boolean {
  switch (condition?.compare) {
    case undefined:
      return true;
    case 'eq':
      return counter === condition!.value;
    case 'ne':
      return counter !== condition!.value;
    case 'lt':
      return counter < condition!.value;
    case 'gt':
      return counter > condition!.value;
  }
}
