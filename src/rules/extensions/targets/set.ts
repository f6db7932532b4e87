/** `-j SET`: net/netfilter/xt_set.c, revision 3. Whether the sets exist is for the host to say. */
import { Hook } from '../../../ir/index.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { requireAny, requireWith } from '../../text/requirement.ts';
import { formatSetReference, parseSetReference, type SetReference } from '../../text/set-reference.ts';

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
});
