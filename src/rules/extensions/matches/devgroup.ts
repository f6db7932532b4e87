/** `-m devgroup`: net/netfilter/xt_devgroup.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { formatGroup, parseGroup } from '../../text/group.ts';
import type { MaskedMark } from '../../text/mark.ts';
import { requireAny } from '../../text/requirement.ts';

/** The name of group 0 in iproute2's file. */
const DEFAULT_GROUP = 'default';

type Group = MaskedMark & { readonly negate: boolean };

interface DevgroupState {
  source: Group | undefined;
  destination: Group | undefined;
}

const IN_HOOKS = [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD];
const OUT_HOOKS = [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING];

function group(name: string, key: keyof DevgroupState, summary: string): OptionSpec<DevgroupState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'value[/mask]',
    summary,
    apply(state, [value], negate) {
      state[key] = { ...parseGroup(value!, DEFAULT_GROUP), negate };
    },
  };
}

function print(option: string, given: Group | undefined): string {
  if (given === undefined) return '';
  return `${given.negate ? ' !' : ''} --${option} ${formatGroup(given, DEFAULT_GROUP)}`;
}

export const devgroup: MatchExtension = defineMatch<DevgroupState>({
  name: 'devgroup',
  families: ['ipv4', 'ipv6'],
  summary: 'Groups of the devices a packet comes in and goes out by',
  where: ({ source, destination }) => ({
    hooks: [...IN_HOOKS, Hook.LOCAL_OUT, Hook.POST_ROUTING].filter(
      (hook) =>
        (source === undefined || IN_HOOKS.some((one) => one === hook)) &&
        (destination === undefined || OUT_HOOKS.some((one) => one === hook)),
    ),
  }),
  options: [
    group('src-group', 'source', 'Group of the device it came in by'),
    group('dst-group', 'destination', 'Group of the device it goes out by'),
  ],
  initial: () => ({ source: undefined, destination: undefined }),
  finish(state) {
    requireAny('devgroup', {
      'src-group': state.source !== undefined,
      'dst-group': state.destination !== undefined,
    });
  },
  print: (state) => print('src-group', state.source) + print('dst-group', state.destination),
});
