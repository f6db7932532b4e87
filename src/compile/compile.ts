/** From rulesets to programs: lowers, refuses what cannot be done, plans, and writes code. Needs no kernel. */

import type { IrRule, IrTable, Predicate } from '../ir/index.ts';
import { Assembler } from '../isa/index.ts';
import type { Family } from '../net/index.ts';
import type { Ruleset, SetPlace, Span, TableName } from '../rules/index.ts';
import { ACTIONS_MAP, ACTIONS_SIZE } from './actions/handed.ts';
import { LOGS_BYTES, LOGS_MAP } from './actions/log.ts';
import type { TableImage } from './arena/image.ts';
import { SYSTEM_COUNTERS, SystemCounter } from './arena/layout.ts';
import {
  type AttachPoint,
  entryIndex,
  formatAttachPoint,
  PROGRAM_ARRAY_SIZE,
  programArrayName,
  sharedPlace,
} from './attach.ts';
import { emitTick } from './emit/counter.ts';
import { HandedActions, type MarkChanges, NO_MARK_CHANGES } from './emit/emission.ts';
import { Frame } from './emit/frame.ts';
import { type LogPoint, LogPoints } from './emit/logpoint.ts';
import { StateWords } from './emit/state.ts';
import { CompileError, type Refusal } from './error.ts';
import { FRAGMENTS_KEY_SIZE, FRAGMENTS_MAP, FRAGMENTS_SIZE, type FragmentStrategy } from './fragments.ts';
import { hookEmitter, sharedEmitter } from './hooks/index.ts';
import { type LoweredTable, lowerTable } from './lower/table.ts';
import { type Bounds, dependsOnHistory, type Replacement, replaceRules, weakenRule } from './partial.ts';
import { type PlacedTable, type ProgramPlan, planPrograms } from './plan.ts';
import type { CompiledProgram, MapDescription, RuleTag } from './program.ts';
import { emitTakeOver } from './prologue/handover.ts';
import { emitSection, type GenerationParts } from './section.ts';
import {
  chooseStrategy,
  MAX_INLINE_RULES,
  type StrategyChoice,
  type StrategyName,
} from './strategies/choose.ts';
import {
  buildTables,
  type ChainReport,
  type ClassifierTables,
  emitClassifierSection,
  keyOf,
  plannedSetUse,
  type SetUse,
} from './strategies/classifier/index.ts';
import { planCalls } from './strategies/inline/calls.ts';
import type { ChainRun } from './strategies/inline/chain.ts';
import { boundsOf, type HookName, hookName, hooksFor, obstacles, predicateObstacles } from './support.ts';

const DEFAULT_HZ = 250;

export interface CompileOptions {
  readonly hooks: readonly HookName[];
  /** Tables to compile; default: all that the rulesets have. */
  readonly tables?: readonly TableName[];
  /** Fragments at hooks where the kernel has not put them together; default `drop` at xdp and tcx, `rules` elsewhere. */
  readonly fragments?: FragmentStrategy;
  /** CONFIG_HZ of the machine that will run it; default 250. */
  readonly hz?: number;
  /**
   * Replace rules that cannot be compiled by what is at least as strict (see partial.ts) instead of refusing the ruleset.
   * Chains that are too long and the nat table are refused all the same.
   */
  readonly allowPartial?: boolean;
  /** The IP sets that rules may name, and the numbers of their records. */
  readonly sets?: ReadonlyMap<string, SetPlace>;
  /** `auto`: code for few rules, tables for many. */
  readonly strategy?: 'auto' | StrategyName;
  /** What the policy's action chain can do to marks already. */
  readonly marks?: MarkChanges;
}

export interface CompiledPolicy {
  readonly programs: readonly CompiledProgram[];
  readonly maps: readonly MapDescription[];
  /** The tables as compiled: which counter is whose. Counter c of a table is `SYSTEM_COUNTERS + firstCounter + c`. */
  readonly tables: readonly PlacedTable[];
  /** Counters of the generation, the system's included. */
  readonly counters: number;
  /** Initial state words. */
  readonly state: readonly bigint[];
  readonly logs: readonly LogPoint[];
  /** What the action chain must do, where any program hands actions on. */
  readonly marks: MarkChanges;
  readonly rejects: Readonly<Record<Family, readonly number[]>>;
  /** Rules that were replaced, why, and by what; to be shown loudly. Empty unless `allowPartial`. */
  readonly weakened: readonly (Refusal & { readonly became: Replacement })[];
  /** Bytes that {@link generationImage} puts into the generation where rules are data. */
  readonly classifier: TableImage | undefined;
  /** The chains in the tables. */
  readonly chains: readonly ChainReport[];
  readonly choices: readonly StrategyChoice[];
  /** Chains that some attach point runs as code, by family, table and name with blanks between. */
  readonly coded: readonly string[];
  /** Things to tell the user: families that pass unfiltered, and the like. */
  readonly notices: readonly string[];
}

/**
 * Compiles rulesets (one a family at most) for the hooks.
 * @throws {CompileError} with every rule that cannot be compiled
 */
export function compilePolicy(rulesets: readonly Ruleset[], options: CompileOptions): CompiledPolicy {
  const lowered: LoweredTable[] = [];
  for (const ruleset of rulesets) {
    for (const table of ruleset.tables) {
      if (options.tables !== undefined && !options.tables.includes(table.name)) continue;
      lowered.push(lowerTable(table, ruleset.family, options.sets));
    }
  }
  const refusals = lowered.flatMap((table) => table.refusals);
  const tables: PlacedTable[] = [];
  let counters = 0;
  for (const table of lowered) {
    if (table.ir.table === 'nat') {
      refusals.push(...refuseNat(table));
      continue;
    }
    tables.push({ ir: table.ir, firstCounter: counters });
    counters += table.ir.counters;
  }
  const plans = planPrograms(tables, options.hooks);
  const choices = plans.map((plan) => chooseStrategy(plan, options.strategy ?? 'auto'));
  const spans = new Map(lowered.map((table) => [`${table.ir.family} ${table.ir.table}`, table.spans]));
  refusals.push(...refuseAtHooks(plans, choices, (table) => spans.get(`${table.family} ${table.table}`)));
  const all = withoutRepeats(refusals);
  const final = options.allowPartial === true ? all.filter(isFinal) : all;
  if (final.length > 0) throw new CompileError(final);
  if (all.length === 0) return writePolicy(tables, counters, plans, choices, options);
  const { plans: partial, became } = weakenPlans(plans, lowered);
  const policy = writePolicy(
    tables,
    counters,
    partial,
    partial.map((plan) => chooseStrategy(plan, options.strategy ?? 'auto')),
    options,
  );
  const weakened = all.map((refusal) => ({
    ...refusal,
    became: became.get(`${refusal.table} ${refusal.chain} ${refusal.rule}`) ?? 'drop',
  }));
  return { ...policy, weakened };
}

/** Of the forms that a rule takes at several attach points the strongest is told. */
const STRENGTH: Readonly<Record<Replacement, number>> = { narrow: 0, continue: 1, drop: 2 };

/** A rule that was replaced, in one line: which, why, and by what. */
export function formatWeakened({
  table,
  chain,
  rule,
  what,
  reason,
  became,
}: CompiledPolicy['weakened'][number]): string {
  return `${table} ${chain} rule ${rule}: ${what}: ${reason}; became ${became}`;
}

/** Refusals that no replacement of rules helps. */
function isFinal({ code, table }: Refusal): boolean {
  return code === 'TOO_LONG' || table === 'nat';
}

/** The plans with every rule replaced that its attach point cannot run, or whose answer would depend on such rules. */
function weakenPlans(
  plans: readonly ProgramPlan[],
  lowered: readonly LoweredTable[],
): { plans: ProgramPlan[]; became: Map<string, Replacement> } {
  const became = new Map<string, Replacement>();
  const weakenRun = (run: ChainRun, point: AttachPoint): ChainRun => {
    const source = lowered.find(({ ir }) => ir === run.table)!;
    const { family, table } = run.table;
    const unread = new Set(source.refusals.map(({ chain, rule }) => `${chain} ${rule}`));
    const replace = (rule: IrRule): IrRule => {
      const place = `${rule.source.chain} ${rule.source.rule}`;
      const incomplete = unread.has(place) || obstacles(rule, point, family).length > 0;
      if (!incomplete && !dependsOnHistory(rule)) return rule;
      const keep = (predicate: Predicate): boolean =>
        predicateObstacles(predicate, rule, point, family).length === 0;
      const bounds = (predicate: Predicate): Bounds => boundsOf(predicate, point);
      const stand = weakenRule(rule, keep, bounds, !source.unknownTargets.has(place));
      const key = `${table} ${place}`;
      const before = became.get(key);
      if (before === undefined || STRENGTH[stand.became] > STRENGTH[before]) became.set(key, stand.became);
      return stand.rule;
    };
    return { ...run, table: replaceRules(run.table, replace) };
  };
  const weakened = plans.map(({ point, sections }) => ({
    point,
    sections: sections.map(({ family, before, local, forward }) => ({
      family,
      before: before.map((run) => weakenRun(run, point)),
      local: local.map((run) => weakenRun(run, point)),
      ...(forward === undefined ? {} : { forward: forward.map((run) => weakenRun(run, point)) }),
    })),
  }));
  return { plans: weakened, became };
}

/** Writes the programs of lowered, checked tables. */
function writePolicy(
  tables: readonly PlacedTable[],
  ruleCounters: number,
  plans: readonly ProgramPlan[],
  choices: readonly StrategyChoice[],
  options: CompileOptions,
): CompiledPolicy {
  const state = new StateWords();
  const logs = new LogPoints();
  const hz = options.hz ?? DEFAULT_HZ;
  const programs: CompiledProgram[] = [];
  const rejects: Record<Family, Set<number>> = { ipv4: new Set(), ipv6: new Set() };
  let marks = options.marks ?? NO_MARK_CHANGES;
  const note = (handed: HandedActions): void => {
    marks = handed.marks;
    for (const family of ['ipv4', 'ipv6'] as const) {
      for (const reject of handed.rejects(family)) rejects[family].add(reject);
    }
  };
  let classifier: ClassifierTables | undefined;
  const classified = plans.filter((_, index) => choices[index]!.strategy === 'classifier');
  if (classified.length > 0) {
    const handed = new HandedActions(marks);
    classifier = buildTables(classified, { state, logs, hz, handed });
    note(handed);
  }
  const walking = new Map<number, CompiledProgram>();
  for (const [index, plan] of plans.entries()) {
    const { point } = plan;
    const tables = choices[index]!.strategy === 'classifier';
    const known = tables ? walking.get(sharedPlace(point)) : undefined;
    if (known !== undefined) {
      programs.push({ ...known, point });
      continue;
    }
    const fragments = fragmentsAt(point, options.fragments);
    const parts = { state, logs, hz, fragments };
    const sets = tables ? plannedSetUse(classified, point) : undefined;
    const { program, handed } = writeProgram(plan, sets, parts, marks);
    programs.push(program);
    if (tables) walking.set(sharedPlace(point), program);
    note(handed);
  }
  return {
    programs,
    maps: mapsOf(programs),
    tables,
    counters: SYSTEM_COUNTERS + ruleCounters,
    state: state.initial,
    logs: logs.list,
    classifier: classifier?.image,
    chains: classifier?.chains ?? [],
    choices,
    coded: codedChains(plans.filter((_, index) => choices[index]!.strategy === 'inline')),
    marks,
    rejects: { ipv4: [...rejects.ipv4].sort(), ipv6: [...rejects.ipv6].sort() },
    weakened: [],
    notices: [...noticesOf(tables), ...lookupNotices(plans), ...routeNotices(plans)],
  };
}

function codedChains(plans: readonly ProgramPlan[]): string[] {
  const keys = plans.flatMap(({ sections }) =>
    sections.flatMap(({ family, before, local, forward = [] }) =>
      [...before, ...local, ...forward].flatMap(({ table, chain }) =>
        planCalls(table.chains, chain).named.map(({ name }) => keyOf(family, table.table, name)),
      ),
    ),
  );
  return [...new Set(keys)];
}

/** `sets`: what rules do with sets where they are tables; absent: they are code. */
function writeProgram(
  plan: ProgramPlan,
  sets: SetUse | undefined,
  parts: GenerationParts,
  marks: MarkChanges,
): { program: CompiledProgram; handed: HandedActions } {
  const { point } = plan;
  const asm = new Assembler<RuleTag>();
  const hook = sets === undefined ? hookEmitter(point) : sharedEmitter(point);
  const lost = asm.label('lost');
  const other = asm.label('other');
  const otherFamily = asm.label('other_family');
  const malformed = asm.label('malformed');
  const sections = new Map(plan.sections.map((section) => [section.family, asm.label(section.family)]));
  const handed = new HandedActions(marks);

  hook.begin(asm);
  emitTakeOver(asm, hook, lost);
  hook.sort(asm, new Frame(), {
    ipv4: sections.get('ipv4') ?? otherFamily,
    ipv6: sections.get('ipv6') ?? otherFamily,
    other,
    malformed,
  });
  for (const section of plan.sections) {
    asm.place(sections.get(section.family)!);
    if (sets === undefined) emitSection(asm, hook, section, parts, handed);
    else {
      const routed = section.forward !== undefined;
      emitClassifierSection(asm, hook, section.family, routed, sets, parts, handed);
    }
  }
  asm.at(undefined);
  asm.place(other).note('neither IPv4 nor IPv6, or a VLAN of its own: counted, passes');
  emitTick({ asm, hook }, SystemCounter.notIp);
  asm.return(hook.accept);
  asm.place(otherFamily).note('a family without rules: counted, passes');
  emitTick({ asm, hook }, SystemCounter.otherFamily);
  asm.return(hook.accept);
  asm.place(malformed).note('malformed: counted, dropped');
  emitTick({ asm, hook }, SystemCounter.malformed);
  asm.place(lost).note('no way back to the dispatcher: dropped').return(hook.drop);
  const program: CompiledProgram = {
    name: `slc_p${sets === undefined ? entryIndex(point) : sharedPlace(point)}`,
    point,
    type: hook.type,
    attachType: hook.attachType,
    code: asm.finish({ prune: true }),
  };
  return { program, handed };
}

function fragmentsAt(point: AttachPoint, wanted: FragmentStrategy | undefined): FragmentStrategy {
  if (point.flavour === 'netfilter' || point.flavour === 'cgroup') return 'rules';
  return wanted ?? 'drop';
}

function refuseNat({ ir, spans }: LoweredTable): Refusal[] {
  const refusals: Refusal[] = [];
  for (const chain of ir.chains.values()) {
    for (const rule of chain.rules) {
      refusals.push({
        code: 'NOT_COMPILED',
        table: 'nat',
        chain: chain.name,
        rule: rule.source.rule,
        span: spans.get(chain.name)?.[rule.source.rule - 1],
        what: 'table nat',
        reason:
          'address translation stays with the kernel: load this table with iptables-restore, and the others here',
        hooks: [],
      });
    }
  }
  return refusals;
}

function refuseAtHooks(
  plans: readonly ProgramPlan[],
  choices: readonly StrategyChoice[],
  spansOf: (table: IrTable) => ReadonlyMap<string, readonly Span[]> | undefined,
): Refusal[] {
  const refusals: Refusal[] = [];
  for (const [index, { point, sections }] of plans.entries()) {
    const choice = choices[index]!;
    for (const { before, local, forward } of sections) {
      const runs = [...before, ...local, ...(forward ?? [])];
      let rules = 0;
      for (const run of runs) {
        const plan = planCalls(run.table.chains, run.chain);
        rules += plan.rules;
        for (const chain of plan.named) {
          for (const rule of chain.rules) {
            const found = obstacles(rule, point, run.table.family);
            if (found.length === 0) continue;
            const span = spansOf(run.table)?.get(chain.name)?.[rule.source.rule - 1];
            const hooks = hooksFor(rule, run.table.family);
            for (const { what, reason } of found) {
              const { table, chain: name, rule: number } = rule.source;
              refusals.push({
                code: 'NOT_AT_HOOK',
                table,
                chain: name,
                rule: number,
                span,
                what,
                reason,
                hooks,
              });
            }
          }
        }
      }
      if (choice.strategy === 'inline' && rules > MAX_INLINE_RULES && runs[0] !== undefined) {
        refusals.push({
          code: 'TOO_LONG',
          table: runs[0].table.table,
          chain: runs[0].chain,
          rule: 0,
          span: undefined,
          what: `${rules} rules at ${formatAttachPoint(point)}`,
          reason: `the strategy "inline" (${choice.reason}) takes ${MAX_INLINE_RULES} rules in a program`,
          hooks: [],
        });
      }
    }
  }
  return refusals;
}

/** A rule that several hooks refuse for the same reason is told once. */
function withoutRepeats(refusals: readonly Refusal[]): Refusal[] {
  const seen = new Set<string>();
  return refusals.filter((refusal) => {
    const { table, chain, rule, what, reason } = refusal;
    const key = JSON.stringify([refusal.span?.file, table, chain, rule, what, reason]);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

function mapsOf(programs: readonly CompiledProgram[]): MapDescription[] {
  const used = new Set<string>();
  for (const { code } of programs) {
    for (const reference of code.references.values()) if (reference.kind === 'map') used.add(reference.name);
  }
  const maps: MapDescription[] = [];
  for (const name of new Set(programs.map(({ point }) => programArrayName(point)))) {
    maps.push({
      name,
      type: 'BPF_MAP_TYPE_PROG_ARRAY',
      keySize: 4,
      valueSize: 4,
      maxEntries: PROGRAM_ARRAY_SIZE,
    });
  }
  if (used.has(LOGS_MAP)) {
    maps.push({
      name: LOGS_MAP,
      type: 'BPF_MAP_TYPE_RINGBUF',
      keySize: 0,
      valueSize: 0,
      maxEntries: LOGS_BYTES,
    });
  }
  if (used.has(FRAGMENTS_MAP)) {
    maps.push({
      name: FRAGMENTS_MAP,
      type: 'BPF_MAP_TYPE_LRU_HASH',
      keySize: FRAGMENTS_KEY_SIZE,
      valueSize: 8,
      maxEntries: FRAGMENTS_SIZE,
    });
  }
  if (used.has(ACTIONS_MAP)) {
    maps.push({
      name: ACTIONS_MAP,
      type: 'BPF_MAP_TYPE_HASH',
      keySize: 8,
      valueSize: 8,
      maxEntries: ACTIONS_SIZE,
    });
  }
  return maps;
}

/** Where connections are looked up, state is what the entry says: see connectionstate.ts and docs/decisions/0016-connection-state.md. */
function lookupNotices(plans: readonly ProgramPlan[]): string[] {
  const hooks = plans
    .filter((plan) => hookEmitter(plan.point).lookupNeeds !== undefined && asksForState(plan))
    .map(({ point }) => hookName(point));
  if (hooks.length === 0) return [];
  return [
    `at ${hooks.join(' and ')} connections are looked up: TCP segments outside the window and wrong checksums count as their connection's, where iptables calls them INVALID`,
  ];
}

/** What the routing decision does not say where nothing is forwarded (hooks/route.ts). */
function routeNotices(plans: readonly ProgramPlan[]): string[] {
  const hooks = plans
    .filter(({ sections }) => sections.some(({ forward = [] }) => forward.length > 0))
    .map(({ point }) => hookName(point));
  if (hooks.length === 0) return [];
  return [
    `at ${hooks.join(' and ')}, where a host does not forward, packets for other hosts' addresses are counted by INPUT before the kernel drops them; iptables does not see them`,
  ];
}

function asksForState({ sections }: ProgramPlan): boolean {
  const asks = (predicate: Predicate): boolean =>
    predicate.kind === 'all' || predicate.kind === 'any'
      ? predicate.of.some(asks)
      : predicate.kind === 'not'
        ? asks(predicate.of)
        : predicate.kind === 'scalar' && predicate.field === 'ct.state';
  const runs = sections.flatMap(({ before, local, forward = [] }) => [...before, ...local, ...forward]);
  return runs.some(({ table, chain }) =>
    planCalls(table.chains, chain).named.some(({ rules }) =>
      rules.some((rule) => rule.predicates.some(asks)),
    ),
  );
}

function noticesOf(tables: readonly PlacedTable[]): string[] {
  const has = (family: Family): boolean => tables.some(({ ir }) => ir.family === family);
  if (has('ipv4') && !has('ipv6')) return ['the policy has no IPv6 rules: IPv6 packets pass'];
  if (has('ipv6') && !has('ipv4')) return ['the policy has no IPv4 rules: IPv4 packets pass'];
  return [];
}
