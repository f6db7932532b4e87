/** `-m cgroup`: net/netfilter/xt_cgroup.c, revision 2. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { quoted } from '../../text/quote.ts';
import { requireOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** XT_CGROUP_PATH_MAX - 1 */
const PATH_BYTES = 511;

interface CgroupState {
  classId: number | undefined;
  path: string | undefined;
  classIdNegated: boolean;
  pathNegated: boolean;
}

export const cgroup: MatchExtension = defineMatch<CgroupState>({
  name: 'cgroup',
  families: ['ipv4', 'ipv6'],
  summary: 'Control group of the socket',
  where: { hooks: [Hook.LOCAL_IN, Hook.LOCAL_OUT, Hook.POST_ROUTING] },
  options: [
    {
      name: 'path',
      arguments: 1,
      negatable: true,
      syntax: 'path',
      summary: 'The group, or one above it, by its path in the cgroup 2 tree',
      apply(state, [value], negated) {
        state.path = cutToBytes(value!, PATH_BYTES);
        state.pathNegated = negated;
      },
    },
    {
      name: 'cgroup',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'The class of the group (net_cls of cgroup 1)',
      apply(state, [value], negated) {
        state.classId = boundedNumber(value!, 0, UINT32_MAX);
        state.classIdNegated = negated;
      },
    },
  ],
  initial: () => ({ classId: undefined, path: undefined, classIdNegated: false, pathNegated: false }),
  finish(state) {
    requireOne('cgroup', { path: state.path !== undefined, cgroup: state.classId !== undefined });
  },
  print: ({ classId, path, classIdNegated, pathNegated }) =>
    path === undefined
      ? `${classIdNegated ? ' !' : ''} --cgroup ${classId}`
      : `${pathNegated ? ' !' : ''} --path${quoted(path)}`,
});
