/** `-j SET`: net/netfilter/xt_set.c, revision 3. Whether the sets exist is for the host to say. */
import { Hook } from '../../../ir/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { lowerSetKeys } from '../../sets/lower.ts';
import { addPacket, deletePacket, membersOf, neverFits, packetKey } from '../../sets/packet.ts';
import type { PlainSet } from '../../sets/plain.ts';
import type { SetExtras } from '../../sets/type.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAny, requireWith } from '../../text/requirement.ts';
import { formatSetReference, parseSetReference, type SetReference } from '../../text/set-reference.ts';
import type { AbiForm } from '../../uapi/payload.ts';
import { readSet, SET_BYTES, type SetLayout, writeSet } from '../../uapi/set-form.ts';

type Mapped = 'map-mark' | 'map-prio' | 'map-queue';

interface SetState {
  add: SetReference | undefined;
  remove: SetReference | undefined;
  map: SetReference | undefined;
  /** An entry that is there already gets a new timeout. */
  exist: boolean;
  timeoutSec: number | undefined;
  readonly mapped: Set<Mapped>;
}

/** In the order of printing. */
const MAPPED: readonly (readonly [name: Mapped, summary: string])[] = [
  ['map-mark', 'The mark of the packet becomes that of the entry (with --map-set)'],
  ['map-prio', 'The traffic class becomes that of the entry (with --map-set)'],
  ['map-queue', 'The transmit queue becomes that of the entry (with --map-set)'],
];

function reference(name: string, key: 'add' | 'remove' | 'map', summary: string): OptionSpec<SetState> {
  return {
    name,
    arguments: 2,
    syntax: 'name src|dst[,…]',
    summary,
    apply(state, [set, directions]) {
      state[key] = parseSetReference(set!, directions!);
    },
  };
}

/** IPSET_FLAG_EXIST, IPSET_FLAG_MAP_SKBMARK, SKBPRIO, SKBQUEUE */
const EXIST = 0x1;
const MAP_FLAGS: Readonly<Record<Mapped, number>> = {
  'map-mark': 0x100,
  'map-prio': 0x200,
  'map-queue': 0x400,
};
/** The timeout that is not given. */
const NO_TIMEOUT = UINT32_MAX;

/** The sets that a revision names one after the other, and where flags and timeout stand. */
function form(
  revision: number,
  layout: SetLayout,
  keys: readonly ('add' | 'remove' | 'map')[],
  flagsAt?: number,
): AbiForm<SetState> {
  const bytes = SET_BYTES[layout];
  return {
    name: 'SET',
    revision,
    ...(layout === 'words' ? { families: ['ipv4'] } : {}),
    size: flagsAt === undefined ? keys.length * bytes : flagsAt + 8,
    decode(view, context) {
      const sets: Partial<Record<(typeof keys)[number], SetReference>> = {};
      for (const [index, key] of keys.entries()) {
        const read = readSet(view, index * bytes, layout, context);
        if (read !== undefined) sets[key] = read.set;
      }
      const flags = flagsAt === undefined ? 0 : view.getUint32(flagsAt, true);
      const timeout = flagsAt === undefined ? NO_TIMEOUT : view.getUint32(flagsAt + 4, true);
      return {
        add: sets.add,
        remove: sets.remove,
        map: sets.map,
        exist: (flags & EXIST) !== 0,
        timeoutSec: timeout === NO_TIMEOUT ? undefined : timeout,
        mapped: new Set(MAPPED.map(([name]) => name).filter((name) => (flags & MAP_FLAGS[name]) !== 0)),
      };
    },
    encode(state, view, context) {
      for (const [index, key] of keys.entries()) {
        const set = state[key];
        writeSet(view, index * bytes, layout, set && { set, negate: false }, context);
      }
      if (flagsAt === undefined) return;
      const flags = [...state.mapped].reduce((sum, name) => sum | MAP_FLAGS[name], state.exist ? EXIST : 0);
      view.setUint32(flagsAt, flags, true);
      view.setUint32(flagsAt + 4, state.timeoutSec ?? NO_TIMEOUT, true);
    },
  };
}

export const set: TargetExtension = defineTarget<SetState>({
  name: 'SET',
  families: ['ipv4', 'ipv6'],
  summary: 'Puts addresses and ports of the packet into IP sets or takes them out, and goes on',
  where: ({ mapped }) =>
    mapped.has('map-prio') || mapped.has('map-queue')
      ? { tables: ['mangle'], hooks: [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING] }
      : {},
  options: [
    reference('add-set', 'add', 'Adds an entry'),
    reference('del-set', 'remove', 'Deletes an entry'),
    reference('map-set', 'map', 'Takes mark, class and queue from an entry'),
    {
      name: 'timeout',
      arguments: 1,
      syntax: 'seconds',
      summary: 'How long the new entry stays (with --add-set)',
      apply(state, [value]) {
        state.timeoutSec = boundedNumber(value!, 0, UINT32_MAX - 1);
      },
    },
    {
      name: 'exist',
      arguments: 0,
      summary: 'The timeout of an entry that is there already begins anew (with --add-set)',
      apply(state) {
        state.exist = true;
      },
    },
    ...MAPPED.map(
      ([name, summary]): OptionSpec<SetState> => ({
        name,
        arguments: 0,
        summary,
        apply(state) {
          state.mapped.add(name);
        },
      }),
    ),
  ],
  initial: () => ({
    add: undefined,
    remove: undefined,
    map: undefined,
    exist: false,
    timeoutSec: undefined,
    mapped: new Set(),
  }),
  finish({ add, remove, map, exist, timeoutSec, mapped }) {
    requireAny('SET', {
      'add-set': add !== undefined,
      'del-set': remove !== undefined,
      'map-set': map !== undefined,
    });
    requireWith('exist', exist, 'add-set', add !== undefined);
    requireWith('timeout', timeoutSec !== undefined, 'add-set', add !== undefined);
    for (const name of mapped) requireWith(name, true, 'map-set', map !== undefined);
    if (map !== undefined && mapped.size === 0)
      throw new OptionError('--map-set needs --map-mark, --map-prio or --map-queue', { argument: -1 });
  },
  sets: ({ add, remove, map }) => [add, remove, map].filter((one) => one !== undefined),
  print({ add, remove, map, exist, timeoutSec, mapped }) {
    let text = '';
    if (add !== undefined) {
      text += ` --add-set ${formatSetReference(add)}`;
      if (exist) text += ' --exist';
      if (timeoutSec !== undefined) text += ` --timeout ${timeoutSec}`;
    }
    if (remove !== undefined) text += ` --del-set ${formatSetReference(remove)}`;
    if (map !== undefined) {
      text += ` --map-set ${formatSetReference(map)}`;
      for (const [name] of MAPPED) if (mapped.has(name)) text += ` --${name}`;
    }
    return text;
  },
  // struct xt_set_info_target_v3 down to v0
  abi: [
    form(3, 'bits', ['add', 'remove', 'map'], 12),
    form(2, 'bits', ['add', 'remove'], 8),
    form(1, 'bits', ['add', 'remove']),
    form(0, 'words', ['add', 'remove']),
  ],
  semantics: {
    evaluate({ add, remove, map, exist, timeoutSec, mapped }, packet) {
      const setOf = ({ name }: SetReference): PlainSet => {
        const set = packet.world.sets?.get(name);
        if (set === undefined) throw new RangeError(`set ${name} is not there`);
        return set;
      };
      if (add !== undefined) addPacket(setOf(add), packet, add, exist, timeoutSec);
      if (remove !== undefined) deletePacket(setOf(remove), packet, remove);
      if (map !== undefined) {
        const found = mappedEntry(setOf(map), packet, map);
        const mark = mapped.has('map-mark') ? found?.skbmark : undefined;
        if (mark !== undefined) packet.mark = ((packet.mark & ~mark.mask) ^ mark.value) >>> 0;
        if (mapped.has('map-prio') && found !== undefined) packet.host?.setPriority(found.skbprio ?? 0);
      }
      return 'continue';
    },
    lower({ add, remove, map, exist, timeoutSec }, context) {
      const adds = add === undefined ? [] : lowerSetKeys(add, context);
      const removes = remove === undefined ? [] : lowerSetKeys(remove, context);
      return {
        kind: 'set',
        map: map !== undefined,
        ...(adds.length === 0 ? {} : { add: { keys: adds, exist, timeoutSec } }),
        ...(removes.length === 0 ? {} : { remove: { keys: removes } }),
      };
    },
  },
});

/** What the entry that the packet is found in, and that counts it, says of marks and classes. */
function mappedEntry(
  set: PlainSet,
  packet: EvaluationPacket,
  reference: SetReference,
): SetExtras | undefined {
  if (set.definition.type.method === 'list') {
    for (const member of membersOf(set, packet)) {
      const found = mappedEntry(member, packet, reference);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (neverFits(set.definition, reference, packet.family)) return undefined;
  const key = packetKey(set.definition, packet, reference);
  if (key === undefined) return undefined;
  return set.find(key, packet.world.nowMs(), {
    length: packet.length,
    keepCounters: false,
    keepSubcounters: false,
    countersHold: () => true,
  });
}
