/**
 * Attach points: where in the kernel the programs of a policy hang, and which tables run there.
 *
 * At netfilter every table group is a link of its own, so that our tables lie between the kernel's own steps as
 * iptables' do: raw before conntrack (-200), mangle after it, filter (and security, in the same program) after nat's
 * destination step. Priorities are odd because the kernel refuses a link at a priority that any other hook has.
 */
import { Hook } from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import type { TableName } from '../rules/index.ts';

export type TableGroup = 'raw' | 'mangle' | 'filter';

/** In the order in which a packet meets them. */
export const TABLE_GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];

/** Priorities of our links: right after iptables' own tables of the group. */
export const GROUP_PRIORITY: Readonly<Record<TableGroup, number>> = { raw: -299, mangle: -149, filter: 1 };

/** Tables of a group in the order in which one program runs them. */
export const GROUP_TABLES: Readonly<Record<TableGroup, readonly TableName[]>> = {
  raw: ['raw'],
  mangle: ['mangle'],
  filter: ['filter', 'security'],
};

export type Direction = 'ingress' | 'egress';

export type AttachPoint =
  | {
      readonly flavour: 'netfilter';
      readonly group: TableGroup;
      readonly family: Family;
      readonly hook: Hook;
    }
  | { readonly flavour: 'xdp' }
  | { readonly flavour: 'tcx'; readonly direction: Direction }
  | { readonly flavour: 'cgroup'; readonly direction: Direction };

export type Flavour = AttachPoint['flavour'];

const NETFILTER_ENTRIES = 48;

/**
 * The attach point's place in a generation's `entries`, and the program-array index of its dispatcher.
 * Netfilter: `(group * 2 + (ipv6 ? 1 : 0)) * 8 + hook`; then xdp 48, tcx 49 and 50, cgroup 51 and 52.
 */
export function entryIndex(point: AttachPoint): number {
  switch (point.flavour) {
    case 'netfilter':
      return (TABLE_GROUPS.indexOf(point.group) * 2 + (point.family === 'ipv6' ? 1 : 0)) * 8 + point.hook;
    case 'xdp':
      return NETFILTER_ENTRIES;
    case 'tcx':
      return NETFILTER_ENTRIES + (point.direction === 'ingress' ? 1 : 2);
    case 'cgroup':
      return NETFILTER_ENTRIES + (point.direction === 'ingress' ? 3 : 4);
  }
}

/** Attach points of the same number run one program where rules are data: the hooks of a table group and family. */
export function sharedPlace(point: AttachPoint): number {
  return entryIndex(point) - (point.flavour === 'netfilter' ? point.hook : 0);
}

/** Program arrays take programs of one type only, so each kind of attach point has an array; this is its map's name. */
export function programArrayName(point: AttachPoint): string {
  switch (point.flavour) {
    case 'netfilter':
    case 'xdp':
      return `programs_${point.flavour}`;
    default:
      return `programs_${point.flavour}_${point.direction}`;
  }
}

/** Program-array indexes below this are dispatchers, by {@link entryIndex}; programs of generations come after. */
export const FIRST_PROGRAM_INDEX = 64;
export const PROGRAM_ARRAY_SIZE = 1024;

/** The first of netfilter's hooks that are entered in process context, too. */
export const FIRST_PREEMPTIBLE_HOOK: Hook = Hook.LOCAL_OUT;

/**
 * True where a program can be entered in process context, where a softirq (or a preempting task) can come between the
 * load and the store of an increment: counters need atomic additions there, plain ones do elsewhere.
 */
export function needsAtomicCounters(point: AttachPoint): boolean {
  switch (point.flavour) {
    case 'netfilter':
      return point.hook >= FIRST_PREEMPTIBLE_HOOK;
    case 'xdp':
      return false;
    case 'tcx':
      return point.direction === 'egress';
    case 'cgroup':
      return true;
  }
}

/** "netfilter INPUT ipv4 (filter)", "tcx ingress": for messages and listings. */
export function formatAttachPoint(point: AttachPoint): string {
  switch (point.flavour) {
    case 'netfilter':
      return `netfilter ${['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'][point.hook]} ${point.family} (${point.group})`;
    case 'xdp':
      return 'xdp';
    default:
      return `${point.flavour} ${point.direction}`;
  }
}
