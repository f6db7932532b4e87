/**
 * Which generation a packet meets first is noted by the first hook of its way (docs/arena.md). A link cannot change its
 * program, so an attach point's role must not depend on which others there are: a policy that has more than the filter
 * tables' hooks also hangs dispatchers at the two places where ways begin, whether or not rules run there.
 */
import { type AttachPoint, entryIndex, type FlightRole } from '../../compile/index.ts';
import type { Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';

const PRE_ROUTING = 0;
const LOCAL_OUT = 3;

/** The role of a point among those that a policy has in a namespace. */
export function roleOf(point: AttachPoint, points: readonly AttachPoint[]): FlightRole {
  switch (point.flavour) {
    case 'xdp':
      return 'only';
    case 'tcx':
      return point.direction === 'ingress' ? 'first' : 'later';
    case 'cgroup':
      return 'later';
    case 'netfilter': {
      if (point.group !== 'raw') return 'later';
      if (point.hook === LOCAL_OUT) return 'first';
      const after = points.some((other) => other.flavour === 'tcx' && other.direction === 'ingress');
      return point.hook === PRE_ROUTING && !after ? 'first' : 'later';
    }
  }
}

/** True when a dispatcher at one of these points notes which generation a packet meets first. */
export function hasNotes(points: readonly AttachPoint[]): boolean {
  const all = withWayBeginnings(points);
  return all.some((point) => roleOf(point, all) === 'first');
}

/** The points that programs need, and those where ways begin if a packet can meet several of them. */
export function withWayBeginnings(points: readonly AttachPoint[]): AttachPoint[] {
  const families = new Set<Family>();
  const others = points.some(({ flavour }) => flavour === 'tcx' || flavour === 'cgroup');
  for (const point of points) {
    if (point.flavour === 'netfilter' && (point.group !== 'filter' || others)) families.add(point.family);
  }
  const all = [...points];
  for (const family of families) {
    for (const hook of [PRE_ROUTING, LOCAL_OUT] as const) {
      const beginning: AttachPoint = { flavour: 'netfilter', group: 'raw', family, hook: hook as Hook };
      if (!all.some((point) => entryIndex(point) === entryIndex(beginning))) all.push(beginning);
    }
  }
  return all;
}
