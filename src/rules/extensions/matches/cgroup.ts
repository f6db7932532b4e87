/** `-m cgroup`: net/netfilter/xt_cgroup.c, revision 2. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { quoted } from '../../text/quote.ts';
import { requireOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import type { AbiForm } from '../../uapi/payload.ts';
import { readBoolean, readText, writeText } from '../../uapi/payload.ts';

/** XT_CGROUP_PATH_MAX - 1 */
const PATH_BYTES = 511;

interface CgroupState {
  classId: number | undefined;
  path: string | undefined;
  classIdNegated: boolean;
  pathNegated: boolean;
}

/** Revisions with a path of `pathEnd` - 4 bytes, where the class lies at `classAt`. */
function cgroupForm(
  revision: number,
  pathEnd: number,
  classAt: number,
  userSize: number,
): AbiForm<CgroupState> {
  const pathBytes = Math.min(pathEnd, classAt === 4 ? pathEnd : classAt) - 4;
  return {
    name: 'cgroup',
    revision,
    everyFamily: true,
    size: userSize + 8,
    userSize,
    decode(view) {
      const [hasPath, hasClass] = [readBoolean(view, 0), readBoolean(view, 1)];
      if (view.getUint8(2) > 1 || view.getUint8(3) > 1 || hasPath === hasClass)
        refuse('cgroup takes a path or a class');
      return {
        path: hasPath ? readText(view, 4, pathBytes) : undefined,
        classId: hasClass ? view.getUint32(classAt, true) : undefined,
        pathNegated: view.getUint8(2) === 1,
        classIdNegated: view.getUint8(3) === 1,
      };
    },
    encode({ path, classId, pathNegated, classIdNegated }, view) {
      view.setUint8(0, path === undefined ? 0 : 1);
      view.setUint8(1, classId === undefined ? 0 : 1);
      view.setUint8(2, pathNegated ? 1 : 0);
      view.setUint8(3, classIdNegated ? 1 : 0);
      if (path !== undefined) writeText(view, 4, pathBytes, path);
      if (classId !== undefined) view.setUint32(classAt, classId, true);
    },
  };
}

const CLASS_FORM: AbiForm<CgroupState> = {
  name: 'cgroup',
  revision: 0,
  everyFamily: true,
  size: 8,
  decode(view) {
    const invert = view.getUint32(4, true);
    if (invert > 1) refuse('cgroup is negated by 1');
    return {
      path: undefined,
      classId: view.getUint32(0, true),
      pathNegated: false,
      classIdNegated: invert === 1,
    };
  },
  encode({ classId, classIdNegated }, view) {
    view.setUint32(0, classId!, true);
    view.setUint32(4, classIdNegated ? 1 : 0, true);
  },
};

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
  // struct xt_cgroup_info_v2, v1 (a longer path, and the class behind it) and v0 (the class alone)
  abi: [cgroupForm(2, 516, 4, 520), cgroupForm(1, 4104, 4100, 4104), CLASS_FORM],
});
