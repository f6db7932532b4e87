/**
 * What the kernel's own code does for a policy's programs in a namespace: nf_tables tables of ours. One switches connection
 * tracking on; one a family holds the action chains of decision 13 in docs/ARCHITECTURE.md: REJECT, MARK.
 *
 * `nft flush ruleset` by others removes them. Packets whose action nobody carries out are dropped by the backstop; every
 * command that changes policies puts the tables back.
 */
import { type ActionFilter, type AttachPoint, NO_MARK_CHANGES, unionOfMarks } from '../../compile/index.ts';
import {
  changeMark,
  conntrackEnabled,
  countNftRules,
  disableConntrack,
  Errno,
  enableConntrack,
  isErrno,
  matchSocketFilter,
  type NftExpression,
  type NftFamily,
  NftTransaction,
  type Program,
  type Rejection,
  reject,
  verdict,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import type { KernelAids } from './document.ts';
import { priorityOf } from './links.ts';

/** Whose tables they are, and who has the socket filters that their rules match by. */
export interface AidOwner {
  readonly name: string;
  readonly about: { readonly order: number };
  filter(filter: ActionFilter): Program;
}

type NetfilterPoint = AttachPoint & { flavour: 'netfilter' };

const TABLE_FAMILY: Readonly<Record<Family, NftFamily>> = { ipv4: 'ip', ipv6: 'ip6' };
const LOCAL_OUT = 3;
const WHOLE_MARK = 0xffffffff;

/** Codes of ICMP destination unreachable by enum ipt_reject_with (net/ipv4/netfilter/ipt_REJECT.c). */
const UNREACHABLE4: Readonly<Record<number, number>> = { 0: 0, 1: 1, 2: 2, 3: 3, 5: 9, 6: 10, 8: 13 };
const TCP_RESET4 = 7;
/** Codes of ICMPv6 destination unreachable by enum ip6t_reject_with (net/ipv6/netfilter/ip6t_REJECT.c). */
const UNREACHABLE6: Readonly<Record<number, number>> = { 0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 7: 5, 8: 6 };
const TCP_RESET6 = 6;

export function conntrackTable(policy: string): string {
  return `sluice-${policy}-ct`;
}

export function actionTable(policy: string): string {
  return `sluice-${policy}`;
}

function chainName({ group, hook }: NetfilterPoint): string {
  return `${group}_${hook}`;
}

/** All that either needs: while a commit is under way both generations run. */
export function unionOfAids(all: readonly KernelAids[]): KernelAids {
  const chains = new Map<string, NetfilterPoint>();
  for (const { chains: points } of all)
    for (const point of points) chains.set(`${point.family} ${chainName(point)}`, point);
  const rejects = (family: Family): number[] =>
    [...new Set(all.flatMap((aids) => aids.rejects[family]))].sort((a, b) => a - b);
  return {
    conntrack: all.some(({ conntrack }) => conntrack),
    chains: [...chains.values()],
    marks: all.reduce((most, { marks }) => unionOfMarks(most, marks), NO_MARK_CHANGES),
    rejects: { ipv4: rejects('ipv4'), ipv6: rejects('ipv6') },
  };
}

/** Makes or mends the tables in the calling thread's namespace. */
export function ensureAids(owner: AidOwner, aids: KernelAids): void {
  if (aids.conntrack && !conntrackEnabled(conntrackTable(owner.name)))
    enableConntrack(conntrackTable(owner.name));
  for (const family of ['ipv4', 'ipv6'] as const) {
    const points = aids.chains.filter((point) => point.family === family);
    if (points.length === 0) continue;
    const transaction = new NftTransaction(TABLE_FAMILY[family], actionTable(owner.name)).addTable();
    for (const point of points) {
      const name = chainName(point);
      // A chain of type route looks the route up again when the mark has changed, as iptables' mangle OUTPUT does.
      const type = point.group === 'mangle' && point.hook === LOCAL_OUT ? 'route' : 'filter';
      const priority = priorityOf(point, owner.about.order) + 1;
      transaction
        .addChain({ name, hook: { type, number: point.hook, priority, policy: 'accept' } })
        .flushChain(name);
      for (const { filter, actions } of chainRules(point, aids)) {
        const matched = matchSocketFilter({ fd: owner.filter(filter).fd.number });
        transaction.addRule(name, [matched, ...actions]);
      }
    }
    transaction.commit();
  }
}

interface ActionRule {
  readonly filter: ActionFilter;
  readonly actions: readonly NftExpression[];
}

/** The rules of an action chain, in the order of src/compile/actionchain.ts. */
function chainRules({ group, family }: NetfilterPoint, { marks, rejects }: KernelAids): ActionRule[] {
  const rules: ActionRule[] = [{ filter: { kind: 'none' }, actions: [verdict('accept')] }];
  if (marks.whole) rules.push({ filter: { kind: 'reset' }, actions: changeMark(0, WHOLE_MARK) });
  for (let bit = 0; bit < 32; bit++) {
    if (((marks.bits >>> bit) & 1) === 0) continue;
    rules.push({ filter: { kind: 'mark', bit }, actions: changeMark((1 << bit) >>> 0, 0) });
  }
  // The target REJECT is for the filter table only, as with iptables.
  if (group === 'filter') {
    for (const code of rejects[family])
      rules.push({ filter: { kind: 'reject', with: code }, actions: [reject(rejectionOf(family, code))] });
  }
  return [...rules, { filter: { kind: 'done' }, actions: [] }];
}

function rejectionOf(family: Family, code: number): Rejection {
  if (code === (family === 'ipv4' ? TCP_RESET4 : TCP_RESET6)) return { kind: 'tcp-reset' };
  const unreachable = (family === 'ipv4' ? UNREACHABLE4 : UNREACHABLE6)[code];
  if (unreachable === undefined) throw new RangeError(`no answer is known for REJECT ${code} of ${family}`);
  return { kind: 'unreachable', code: unreachable };
}

/** What is missing of the tables in the calling thread's namespace, in words. */
export function missingAids(policy: string, aids: KernelAids): string[] {
  const missing: string[] = [];
  if (aids.conntrack && !conntrackEnabled(conntrackTable(policy)))
    missing.push(`nftables table inet ${conntrackTable(policy)}, which keeps connection tracking on`);
  for (const point of aids.chains) {
    const family = TABLE_FAMILY[point.family];
    const found = countNftRules(family, actionTable(policy), chainName(point));
    if ((found ?? 0) < chainRules(point, aids).length)
      missing.push(
        `nftables chain ${family} ${actionTable(policy)} ${chainName(point)}, which rejects and marks`,
      );
  }
  return missing;
}

/** Takes the tables away from the calling thread's namespace. */
export function removeAids(policy: string): void {
  disableConntrack(conntrackTable(policy));
  for (const family of ['ip', 'ip6'] as const) {
    try {
      new NftTransaction(family, actionTable(policy)).deleteTable().commit();
    } catch (error) {
      if (!isErrno(error, Errno.ENOENT)) throw error;
    }
  }
}
