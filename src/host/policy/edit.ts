/**
 * Replacing rules that differ from the live ones by a few, where those are tables: the tables are edited
 * (strategies/classifier/edit.ts), nothing is compiled or loaded again, and every counter stays where it is. Anything else
 * is told a reason and left to `applyPolicy`.
 */
import {
  type CallsCache,
  type ChainEdit,
  editTables,
  type HookName,
  keyOf,
  lowerRule,
  type Piece,
  takeCounters,
} from '../../compile/index.ts';
import type { IrRule } from '../../ir/index.ts';
import { findBpffs } from '../../kernel/index.ts';
import { type Chain, needsConntrack, printRuleset, type Ruleset, type Table } from '../../rules/index.ts';
import type { ApplyReport, ApplyRequest } from './apply.ts';
import { type ChainDifference, changedRules, diffChains } from './chaindiff.ts';
import { type Committed, commit, type StepListener } from './commit.ts';
import {
  type ChainCounters,
  type GenerationDocument,
  type Member,
  ruleCounters,
  writeDocument,
} from './document.ts';
import { buildId } from './identity.ts';
import { linkNames } from './links.ts';
import { policyNames, withPolicyLock } from './place.ts';
import type { NetnsRecord } from './record.ts';
import { removeStrayGenerations, repairAll } from './repair.ts';
import { ruleLines } from './rulelines.ts';
import { PolicyStore } from './store.ts';
import { closeTargets, openTargets, type Target } from './target.ts';

/** Nothing was changed. `reason` where tables are live and could not be edited. */
export interface NotEditedPolicy {
  readonly reason?: string;
}

/** Thrown within, when rules have to be loaded whole. */
class LoadWhole extends Error {}

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
        const done = new PolicyEdit(store, request, hz, targets, step).run();
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

/** A namespace's generation that is to be edited. */
interface Live {
  readonly target: Target;
  readonly record: NetnsRecord;
  readonly links: readonly string[];
}

class PolicyEdit {
  readonly #store: PolicyStore;
  readonly #request: ApplyRequest;
  readonly #targets: readonly Target[];
  readonly #step: StepListener;
  readonly #hz: number;

  constructor(
    store: PolicyStore,
    request: ApplyRequest,
    hz: number,
    targets: readonly Target[],
    step: StepListener,
  ) {
    this.#store = store;
    this.#request = request;
    this.#hz = hz;
    this.#targets = targets;
    this.#step = step;
  }

  /** @throws {LoadWhole} when nothing has been changed */
  run(): Omit<ApplyReport, 'repaired' | 'times'> & { times: { loadMs: number; commitUs: number } } {
    const started = performance.now();
    const { rulesets, confirmSeconds } = this.#request;
    const document = this.#document();
    const lives = this.#targets.map((target) => this.#live(target, document));
    const texts = rulesets.map((ruleset) => ({ family: ruleset.family, text: printRuleset(ruleset) }));
    const differences = diffChains(ruleLines(document.rulesets), ruleLines(texts));
    if (typeof differences === 'string') throw new LoadWhole(differences);
    if (!document.aids.conntrack && rulesets.some(needsConntrack))
      throw new LoadWhole('rules ask for connections, which nothing follows yet');

    this.#step('edit tables');
    const fresh = differences.flatMap(({ between }) => between).filter((place) => place === undefined).length;
    const policies = differences.filter(({ live, wanted }) => live.policy !== wanted.policy).length;
    const firstCounter = this.#takeCounters(lives, fresh + policies);
    let counter = firstCounter;
    const edits: ChainEdit[] = [];
    const chains = new Map(
      document.chains.map((chain) => [keyOf(chain.family, chain.table, chain.chain), chain]),
    );
    for (const difference of differences) {
      const built = buildEdit(difference, chains, document.coded, rulesets, counter);
      counter = built.counter;
      edits.push(built.edit);
      chains.set(built.key, built.chain);
    }
    let number = Math.max(0, ...this.#store.numbers);
    const points = new Set<string>();
    const plans = lives.map(({ target, record, links }): Committed & { links: readonly string[] } => {
      number += 1;
      const edit = editTables(
        { bytes: new Uint8Array(this.#store.arena.buffer), base: 0 },
        {
          root: record.root,
          number: BigInt(number),
          edits,
          numbers: new Map([...chains].flatMap(([key, { number: own }]) => (own === 0 ? [] : [[key, own]]))),
          points: document.programs.map(({ point }) => point),
          rejects: document.aids.rejects,
          hz: document.hz,
          ruleAt: (one, index) => ruleOf(rulesets, one, index),
        },
        this.#cache,
      );
      if ('reason' in edit) throw new LoadWhole(edit.reason);
      for (const point of edit.points) points.add(JSON.stringify(point));
      return { target, number, root: edit.root, links };
    });

    const edited: GenerationDocument = {
      ...document,
      appliedMs: Date.now(),
      rulesets: texts,
      chains: [...chains.values()],
      counters: Math.max(document.counters, counter),
      logs: document.logs.map((point) => movedLog(point, differences)),
      members: plans.map(
        (plan): Member => ({
          cookie: String(plan.target.cookie),
          number: plan.number,
          links: plan.links,
        }),
      ),
    };
    const loadMs = performance.now() - started;
    const map = writeDocument(edited);
    let commitUs: number;
    try {
      this.#step('pin documents');
      for (const plan of plans) this.#store.keepDocument(edited, map, plan.number);
      commitUs =
        plans.length === 1 && points.size <= 1 && confirmSeconds === undefined
          ? this.#storeRoot(lives[0]!.record, plans[0]!.root)
          : commit(this.#store, plans, { confirmSeconds, notes: true }, this.#step);
    } finally {
      map.close();
    }
    this.#step('clean up');
    removeStrayGenerations(this.#store);
    return {
      policy: this.#store.name,
      namespaces: plans.map(({ target, number: generation }) => ({
        name: target.name,
        cookie: String(target.cookie),
        generation,
      })),
      programs: { loaded: 0, shared: document.programs.length },
      linksMade: 0,
      editedRules: differences.reduce((sum, difference) => sum + changedRules(difference), 0),
      ...(confirmSeconds === undefined ? {} : { confirmBeforeMs: Date.now() + confirmSeconds * 1000 }),
      notices: document.notices,
      weakened: [],
      times: { loadMs, commitUs },
    };
  }
  readonly #cache: CallsCache = new Map();

  /**
   * A packet that meets the difference at one attach point only cannot see two generations: none has to be noted. The old
   * one keeps its memory until the extent is given up, so that nobody has to be waited for.
   */
  #storeRoot(record: NetnsRecord, root: number): number {
    this.#step('commit');
    const started = process.hrtime.bigint();
    record.commit(root);
    const commitUs = Number(process.hrtime.bigint() - started) / 1000;
    this.#step('committed');
    return commitUs;
  }

  /** The document of what runs, made of the same request but for the rules. */
  #document(): GenerationDocument {
    const { request, store } = { request: this.#request, store: this.#store };
    const record = store.records.find(this.#targets[0]!.cookie);
    const document = record === undefined ? undefined : store.documentAt(record.running);
    if (document === undefined || !document.chains.some(({ number }) => number > 0)) throw new LoadWhole('');
    const same = (a: readonly string[], b: readonly string[]): boolean =>
      a.length === b.length && a.every((one) => b.includes(one));
    const fragments = request.fragments === 'reassemble' ? undefined : request.fragments;
    if (
      document.build !== buildId() ||
      document.hz !== this.#hz ||
      !same(document.hooks, request.hooks satisfies readonly HookName[]) ||
      !same(document.devices, request.devices ?? []) ||
      document.cgroup !== request.cgroup ||
      document.fragments !== fragments ||
      request.xdpMode !== undefined ||
      request.tcxPosition !== undefined ||
      (request.order !== undefined && request.order !== store.about.order)
    )
      throw new LoadWhole('more than rules changes');
    if (document.allowPartial || request.allowPartial === true) throw new LoadWhole('rules may be weakened');
    if (request.ownCounters === true) throw new LoadWhole('counters are given');
    if (request.sets !== undefined) throw new LoadWhole('sets are given');
    return document;
  }

  #live(target: Target, document: GenerationDocument): Live {
    const record = this.#store.records.find(target.cookie);
    const { members } = document;
    const member = members.find(({ cookie }) => cookie === String(target.cookie));
    if (record === undefined || member === undefined || members.length !== this.#targets.length)
      throw new LoadWhole('it is live in other namespaces');
    if (record.gate !== 0 || record.previous !== 0 || record.inFlight !== 0)
      throw new LoadWhole('a commit waits for confirmation');
    if (this.#store.generation(record.root).number !== member.number)
      throw new LoadWhole('namespaces have different rules');
    const present = new Set(linkNames(this.#store, target.cookie));
    if (member.links.some((link) => !present.has(link))) throw new LoadWhole('links are missing');
    return { target, record, links: member.links };
  }

  /** Counters of the same numbers in every namespace. */
  #takeCounters(lives: readonly Live[], count: number): number {
    const memory = { bytes: new Uint8Array(this.#store.arena.buffer), base: 0 };
    const taken = new Set(lives.map(({ record }) => takeCounters(memory, record.root, count)));
    const [first] = taken;
    if (taken.size !== 1) throw new LoadWhole('namespaces have different counters');
    if (first === undefined) throw new LoadWhole('the spare counters are used up');
    return first;
  }
}

/** The chain's edit, its place among counters then, and the next counter that is free. */
function buildEdit(
  { live, wanted, front, back, between }: ChainDifference,
  chains: ReadonlyMap<string, ChainCounters>,
  coded: readonly string[],
  rulesets: readonly Ruleset[],
  firstCounter: number,
): { key: string; edit: ChainEdit; chain: ChainCounters; counter: number } {
  const { family, table, chain: name } = wanted;
  const key = keyOf(family, table, name);
  const known = chains.get(key);
  if (known === undefined) throw new LoadWhole(`chain ${name} is not known`);
  if (coded.includes(key)) throw new LoadWhole(`chain ${name} is code`);
  let counter = firstCounter;
  const old = ruleCounters(known);
  const behind = live.lines.length - back;
  const counters = old.slice(0, front);
  const pieces: Piece[] = [{ from: 0, to: front }];
  const place = { family, table, chain: name };
  for (const [index, from] of between.entries()) {
    const last = pieces.at(-1)!;
    counters.push(from === undefined ? counter : old[from]!);
    if (from === undefined) {
      pieces.push({ rule: ruleOf(rulesets, place, front + index), counter });
      counter += 1;
    } else if ('from' in last && last.to === from)
      pieces[pieces.length - 1] = { from: last.from, to: from + 1 };
    else pieces.push({ from, to: from + 1 });
  }
  pieces.push({ from: behind, to: live.lines.length });
  counters.push(...old.slice(behind));
  const builtIn = known.policy !== undefined;
  const changesPolicy = live.policy !== wanted.policy;
  const verdict = wanted.policy === 'DROP' ? 'drop' : 'accept';
  const edit: ChainEdit = {
    ...place,
    builtIn,
    pieces,
    ...(changesPolicy ? { policy: { verdict, counter } } : {}),
  };
  const chain: ChainCounters = {
    ...known,
    rules: runsOf(counters),
    ...(changesPolicy ? { policy: counter } : {}),
  };
  return { key, edit, chain, counter: changesPolicy ? counter + 1 : counter };
}

function runsOf(counters: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const counter of counters) {
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === counter) last[1] += 1;
    else runs.push([counter, 1]);
  }
  return runs;
}

function ruleOf(
  rulesets: readonly Ruleset[],
  place: { readonly family: Ruleset['family']; readonly table: string; readonly chain: string },
  index: number,
): IrRule {
  const table: Table | undefined = rulesets
    .find(({ family }) => family === place.family)
    ?.tables.find(({ name }) => name === place.table);
  const chain: Chain | undefined = table?.chains.find(({ name }) => name === place.chain);
  const rule =
    table === undefined || chain === undefined ? undefined : lowerRule(table, chain, index, place.family);
  if (rule === undefined) throw new LoadWhole(`rule ${index + 1} of chain ${place.chain} is not compiled`);
  return rule;
}

/** A LOG rule's number is the place that it has now. */
function movedLog(
  point: GenerationDocument['logs'][number],
  differences: readonly ChainDifference[],
): GenerationDocument['logs'][number] {
  const { rule } = point;
  const difference = differences.find(
    ({ live }) => live.family === rule.family && live.table === rule.table && live.chain === rule.chain,
  );
  if (difference === undefined || rule.rule <= difference.front) return point;
  const { live, wanted, front, back, between } = difference;
  const index = rule.rule - 1;
  const fromEnd = live.lines.length - index;
  const place = fromEnd <= back ? wanted.lines.length - fromEnd : front + between.indexOf(index);
  return place < front ? point : { ...point, rule: { ...rule, rule: place + 1 } };
}
