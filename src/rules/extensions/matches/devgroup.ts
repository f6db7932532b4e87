/** `-m devgroup`: net/netfilter/xt_devgroup.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { formatGroup, parseGroup } from '../../text/group.ts';
import type { MaskedMark } from '../../text/mark.ts';
import { requireAny } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import { readMaskedMark, writeMaskedMark } from '../../uapi/payload.ts';

/** The name of group 0 in iproute2's file. */
const DEFAULT_GROUP = 'default';

/** XT_DEVGROUP_MATCH_*; the bit above each negates. */
const SOURCE = 0x1;
const DESTINATION = 0x4;
const ALL_FLAGS = 0xf;

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
  // struct xt_devgroup_info
  abi: [
    {
      name: 'devgroup',
      revision: 0,
      everyFamily: true,
      size: 20,
      decode(view) {
        const flags = view.getUint32(0, true);
        if ((flags & ~ALL_FLAGS) !== 0) refuse(`devgroup has unknown flags 0x${flags.toString(16)}`);
        const read = (bit: number, at: number): Group | undefined =>
          (flags & bit) === 0
            ? undefined
            : { ...readMaskedMark(view, at), negate: (flags & (bit << 1)) !== 0 };
        return { source: read(SOURCE, 4), destination: read(DESTINATION, 12) };
      },
      encode({ source, destination }, view) {
        let flags = 0;
        const write = (bit: number, at: number, given: Group | undefined): void => {
          if (given === undefined) return;
          flags |= given.negate ? bit | (bit << 1) : bit;
          writeMaskedMark(view, at, given);
        };
        write(SOURCE, 4, source);
        write(DESTINATION, 12, destination);
        view.setUint32(0, flags, true);
      },
    },
  ],
});
