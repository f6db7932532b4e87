/** Which chains run where: from tables and wanted hooks to attach points and the chain runs of their sections. */
import { HOOK_CHAINS, Hook, type IrTable } from '../ir/index.ts';
import type { Family } from '../net/index.ts';
import type { TableName } from '../rules/index.ts';
import { type AttachPoint, type Direction, GROUP_TABLES, TABLE_GROUPS } from './attach.ts';
import type { SectionPlan } from './section.ts';
import type { ChainRun } from './strategies/inline/chain.ts';
import type { HookName } from './support.ts';

/** A table with the place of its counters among the generation's. */
export interface PlacedTable {
  readonly ir: IrTable;
  readonly firstCounter: number;
}

export interface ProgramPlan {
  readonly point: AttachPoint;
  readonly sections: readonly SectionPlan[];
}

const HOOKS: readonly Hook[] = [
  Hook.PRE_ROUTING,
  Hook.LOCAL_IN,
  Hook.FORWARD,
  Hook.LOCAL_OUT,
  Hook.POST_ROUTING,
];
/** In the order in which iptables runs them at one hook. */
const TABLE_ORDER: readonly TableName[] = ['raw', 'mangle', 'filter', 'security'];

export function planPrograms(tables: readonly PlacedTable[], hooks: readonly HookName[]): ProgramPlan[] {
  const plans: ProgramPlan[] = [];
  for (const hook of hooks) {
    switch (hook) {
      case 'netfilter':
        plans.push(...planNetfilter(tables));
        break;
      case 'xdp':
        plans.push({ point: { flavour: 'xdp' }, sections: ingressSections(tables) });
        break;
      case 'tcx-ingress':
        plans.push({ point: { flavour: 'tcx', direction: 'ingress' }, sections: ingressSections(tables) });
        break;
      case 'tcx-egress':
      case 'cgroup-egress':
        plans.push({
          point: pointOf(hook, 'egress'),
          sections: plainSections(tables, ['OUTPUT', 'POSTROUTING']),
        });
        break;
      case 'cgroup-ingress':
        plans.push({ point: pointOf(hook, 'ingress'), sections: plainSections(tables, ['INPUT']) });
        break;
    }
  }
  return plans;
}

function pointOf(hook: 'tcx-egress' | 'cgroup-egress' | 'cgroup-ingress', direction: Direction): AttachPoint {
  return hook === 'tcx-egress' ? { flavour: 'tcx', direction } : { flavour: 'cgroup', direction };
}

/** A program for each table group, family and hook that has anything to say; filter's chains always count their packets. */
function planNetfilter(tables: readonly PlacedTable[]): ProgramPlan[] {
  const plans: ProgramPlan[] = [];
  for (const group of TABLE_GROUPS) {
    for (const family of ['ipv4', 'ipv6'] as const) {
      for (const hook of HOOKS) {
        const chain = HOOK_CHAINS[hook]!;
        const own = tables.filter(
          ({ ir }) => ir.family === family && GROUP_TABLES[group].includes(ir.table as TableName),
        );
        const runs = runsOf(own, family, [chain]);
        if (runs.length === 0) continue;
        if (group !== 'filter' && !runs.some(hasEffect)) continue;
        plans.push({
          point: { flavour: 'netfilter', group, family, hook },
          sections: [{ family, before: [], local: runs }],
        });
      }
    }
  }
  return plans;
}

function hasEffect({ table, chain }: ChainRun): boolean {
  const built = table.chains.get(chain)!;
  return built.rules.length > 0 || built.policy?.verdict === 'drop';
}

/** xdp and tcx ingress: PREROUTING, then INPUT for packets to this host and FORWARD for the others. */
function ingressSections(tables: readonly PlacedTable[]): SectionPlan[] {
  return familiesOf(tables).map((family) => ({
    family,
    before: runsOf(tables, family, ['PREROUTING']),
    local: runsOf(tables, family, ['INPUT']),
    forward: runsOf(tables, family, ['FORWARD']),
  }));
}

function plainSections(tables: readonly PlacedTable[], chains: readonly string[]): SectionPlan[] {
  return familiesOf(tables).map((family) => ({ family, before: [], local: runsOf(tables, family, chains) }));
}

function familiesOf(tables: readonly PlacedTable[]): Family[] {
  return (['ipv4', 'ipv6'] as const).filter((family) => tables.some(({ ir }) => ir.family === family));
}

/** The built-in chains of these names, in the order in which a packet meets them. */
function runsOf(tables: readonly PlacedTable[], family: Family, chains: readonly string[]): ChainRun[] {
  const runs: ChainRun[] = [];
  for (const chain of chains) {
    for (const name of TABLE_ORDER) {
      const placed = tables.find(({ ir }) => ir.family === family && ir.table === name);
      if (placed?.ir.chains.get(chain)?.policy === undefined) continue;
      runs.push({ table: placed.ir, chain, firstCounter: placed.firstCounter });
    }
  }
  return runs;
}
