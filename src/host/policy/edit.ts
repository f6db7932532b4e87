/**
 * Replacing rules that differ from the live ones, where those are tables: the tables are edited (liveedit.ts), nothing is
 * compiled or loaded again, and every counter stays where it is. Anything else is told a reason and left to `applyPolicy`.
 */
import { type HookName, INLINE_PAYS_RULES, keyOf, lowerRule } from '../../compile/index.ts';
import { findBpffs, withNetns } from '../../kernel/index.ts';
import { needsConntrack, printRuleset, type Ruleset } from '../../rules/index.ts';
import type { ApplyReport, ApplyRequest } from './apply.ts';
import { diffChains } from './chaindiff.ts';
import type { StepListener } from './commit.ts';
import { countPrograms, type GenerationDocument } from './document.ts';
import { changedRules, type EditPlan, LoadWhole } from './editplan.ts';
import { buildId } from './identity.ts';
import { checkPlace, type EditPlace, editLive } from './liveedit.ts';
import { policyNames, withPolicyLock } from './place.ts';
import { removeStrayGenerations, repairAll } from './repair.ts';
import { ruleLines } from './rulelines.ts';
import { placesOf } from './sets.ts';
import { PolicyStore } from './store.ts';
import { closeTargets, openTargets, type Target } from './target.ts';

/** Nothing was changed. `reason` where tables are live and could not be edited. */
export interface NotEditedPolicy {
  readonly reason?: string;
}

/** Edits the tables of a live policy, if that makes them what is asked for. */
export async function editPolicy(
  request: ApplyRequest,
  hz: number,
  started: number,
  step: StepListener,
): Promise<ApplyReport | NotEditedPolicy> {
  const bpffs = findBpffs();
  if (bpffs === undefined || !isLive(request.policy)) return {};
  const targets = openTargets(request.namespaces ?? [], request.devices ?? []);
  try {
    return await withPolicyLock(() => {
      const repaired = repairAll().done;
      const store = PolicyStore.open(bpffs, request.policy);
      if (store === undefined) return {};
      try {
        const done = editTo(store, request, hz, targets, step);
        const totalMs = performance.now() - started;
        return { ...done, repaired, times: { compileMs: 0, ...done.times, totalMs } };
      } catch (error) {
        if (!(error instanceof LoadWhole)) throw error;
        return error.message === '' ? {} : { reason: error.message };
      } finally {
        store.close();
      }
    });
  } finally {
    closeTargets(targets);
  }
}

/** Who may not look at pins is told so when rules have been compiled. */
function isLive(policy: string): boolean {
  try {
    return policyNames().includes(policy);
  } catch {
    return false;
  }
}

/** @throws {LoadWhole} when nothing has been changed */
function editTo(
  store: PolicyStore,
  request: ApplyRequest,
  hz: number,
  targets: readonly Target[],
  step: StepListener,
): Omit<ApplyReport, 'repaired' | 'times'> & { times: { loadMs: number; commitUs: number } } {
  const { rulesets, confirmSeconds } = request;
  const root = store.records.find(targets[0]!.cookie)?.running;
  const loaded = root === undefined ? undefined : store.loadedAt(root);
  if (loaded === undefined || !loaded.chains.some(({ number }) => number > 0)) throw new LoadWhole('');
  checkManner(store, request, loaded, hz);
  // See WatchedPolicy.settle: a command changes them now, or was killed.
  if (loaded.strategy !== request.strategy)
    throw new LoadWhole('they were tables for the many changes of a command');
  if (request.strategy === undefined && countRules(rulesets) <= INLINE_PAYS_RULES)
    throw new LoadWhole(`up to ${INLINE_PAYS_RULES} rules are code`);
  if (loaded.members.length !== targets.length) throw new LoadWhole('it is live in other namespaces');
  const state = store.rulesAt(root!)!;
  const places = targets.map((target): EditPlace => {
    const record = store.records.find(target.cookie);
    if (record === undefined) throw new LoadWhole('it is live in other namespaces');
    return { target, record, inside: (use) => withNetns(target.netns, use) };
  });
  for (const place of places) checkPlace(store, place, state);

  const texts = rulesets.map((ruleset) => ({ family: ruleset.family, text: printRuleset(ruleset) }));
  const differences = diffChains(state.chains, ruleLines(texts));
  if (typeof differences === 'string') throw new LoadWhole(differences);
  const plan: EditPlan = {
    renamed: [],
    ...differences,
    rule: ruleReader(rulesets, loaded),
    asksConntrack: rulesets.some(needsConntrack),
  };
  const report = editAndTell(store, places, loaded, state, plan, { confirmSeconds, step });
  step('clean up');
  removeStrayGenerations(store);
  return report;
}

/** Edits, and reports it as an apply. @throws {LoadWhole} */
export function editAndTell(
  ...[store, places, loaded, state, plan, options]: Parameters<typeof editLive>
): Omit<ApplyReport, 'repaired' | 'times'> & { times: { loadMs: number; commitUs: number } } {
  const before = (key: string): number => state.chains.get(key)?.lines.length ?? 0;
  const editedRules = plan.chains.reduce(
    (sum, chain) => sum + changedRules(chain, before(keyOf(chain.family, chain.table, chain.chain))),
    plan.removed.reduce((sum, key) => sum + before(key), 0),
  );
  const { confirmSeconds } = options;
  const { generations, loadMs, commitUs } = editLive(store, places, loaded, state, plan, options);
  return {
    policy: store.name,
    namespaces: generations.map(({ target, number }) => ({
      name: target.name,
      cookie: String(target.cookie),
      generation: number,
    })),
    programs: { loaded: 0, shared: countPrograms(loaded.programs) },
    linksMade: 0,
    editedRules,
    ...(confirmSeconds === undefined ? {} : { confirmBeforeMs: Date.now() + confirmSeconds * 1000 }),
    notices: loaded.notices,
    weakened: [],
    times: { loadMs, commitUs },
  };
}

/** The rules of these rulesets, compiled when they are asked for. */
export function ruleReader(rulesets: readonly Ruleset[], loaded: GenerationDocument): EditPlan['rule'] {
  const sets = placesOf(loaded.sets ?? []);
  return (family, table, name, index) => {
    const found = rulesets
      .find((ruleset) => ruleset.family === family)
      ?.tables.find((one) => one.name === table);
    const chain = found?.chains.find((one) => one.name === name);
    const rule =
      found === undefined || chain === undefined ? undefined : lowerRule(found, chain, index, family, sets);
    if (rule === undefined) throw new LoadWhole(`rule ${index + 1} of chain ${name} is not compiled`);
    return rule;
  };
}

function countRules(rulesets: readonly Ruleset[]): number {
  return rulesets
    .flatMap(({ tables }) => tables.flatMap(({ chains }) => chains))
    .reduce((sum, { rules }) => sum + rules.length, 0);
}

/** What runs was made of the same request but for the rules. @throws {LoadWhole} */
export function checkManner(
  store: PolicyStore,
  request: ApplyRequest,
  loaded: GenerationDocument,
  hz: number,
): void {
  const same = (a: readonly string[], b: readonly string[]): boolean =>
    a.length === b.length && a.every((one) => b.includes(one));
  const fragments = request.fragments === 'reassemble' ? undefined : request.fragments;
  if (
    loaded.build !== buildId() ||
    loaded.hz !== hz ||
    !same(loaded.hooks, request.hooks satisfies readonly HookName[]) ||
    !same(loaded.devices, request.devices ?? []) ||
    loaded.cgroup !== request.cgroup ||
    loaded.fragments !== fragments ||
    request.xdpMode !== undefined ||
    request.tcxPosition !== undefined ||
    (request.order !== undefined && request.order !== store.about.order)
  )
    throw new LoadWhole('more than rules changes');
  if (loaded.allowPartial || request.allowPartial === true) throw new LoadWhole('rules may be weakened');
  if (request.ownCounters === true) throw new LoadWhole('counters are given');
  if (request.sets !== undefined) throw new LoadWhole('sets are given');
}
