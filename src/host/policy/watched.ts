/**
 * One policy in one namespace, kept open by what asks for it often: whether others have changed its rules is seen from
 * memory and two stat(2), its counters are read and moved without parsing rules, and rules that change by a few are edited
 * into the live tables without printing, parsing or comparing the others.
 */
import { statSync } from 'node:fs';
import { type CallsCache, keyOf, NO_MARK_CHANGES } from '../../compile/index.ts';
import { findBpffs, requireKernel, withNetns } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import {
  type AskableSets,
  type Counters,
  needsConntrack,
  parseRuleset,
  type Rule,
  type Ruleset,
  type TableName,
} from '../../rules/index.ts';
import { type ApplyReport, type ApplyRequest, applyPolicy, compileRequest } from './apply.ts';
import type { StepListener } from './commit.ts';
import type { GenerationDocument, PlacedSet } from './document.ts';
import { checkManner, editAndTell, ruleReader } from './edit.ts';
import { LoadWhole } from './editplan.ts';
import { type LiveGeneration, OPEN_ROOT } from './generation.ts';
import { checkPlace, type EditPlace } from './liveedit.ts';
import { withPolicyLock } from './place.ts';
import { diffRules, sameInFront } from './ruledelta.ts';
import type { ChainState, RuleState } from './rulestate.ts';
import { definitionOf, placesOf } from './sets.ts';
import { PolicyStore } from './store.ts';
import { kernelHz } from './surroundings.ts';
import { closeTargets, openTargets } from './target.ts';

/**
 * Changes of rules that are code, each of which is compiled, loaded and verified: when more come, the rules are tables until
 * {@link WatchedPolicy.settle}. Tables for the first time cost as much as some four of them.
 */
const CHANGES_AS_CODE = 4;

/** One policy in one namespace. */
export interface LivePlace {
  readonly policy: string;
  readonly cookie: bigint;
}

export interface ChainCounts {
  readonly family: Family;
  readonly table: TableName;
  readonly chain: string;
  /** In the order of the rules. */
  readonly rules: readonly Counters[];
  /** Of built-in chains. */
  readonly policy?: Counters;
}

/** The generation that runs now. */
interface Running {
  /** Names the rules: no other rules have the same, for no pin gets an inode number again. */
  readonly mark: string;
  /** As it was pinned. */
  readonly loaded: GenerationDocument;
  /** Of the namespace. */
  readonly name: string;
  readonly state: RuleState;
  readonly generation: LiveGeneration;
}

export class WatchedPolicy {
  readonly #place: LivePlace;
  #open: { readonly store: PolicyStore; readonly directory: number } | undefined;
  #running: Running | undefined;
  /** Rules that were made live here, while they are: the next ones are compared with them object by object. */
  #held: { readonly mark: string; readonly rulesets: readonly Ruleset[] } | undefined;
  /** How often rules were loaded whole here. */
  #loads = 0;
  /** What was asked for last. */
  #request: ApplyRequest | undefined;
  readonly #calls: CallsCache = new Map();
  readonly #hz = kernelHz();

  constructor(place: LivePlace) {
    requireKernel();
    this.#place = place;
  }

  /** Equal while the rules are the same; empty when the policy is not live in the namespace. */
  get mark(): string {
    return this.#now()?.mark ?? '';
  }

  /** The rules that run, without counters. */
  rulesets(): readonly Ruleset[] {
    const running = this.#now();
    return running === undefined ? [] : parsed(running);
  }

  /**
   * Makes rules live, as `applyPolicy`. Where nothing but rules changes since the last time, tables are edited, in a time
   * that does not depend on how many rules there are: a rule that is the same object as then is the same rule. Edits do not
   * look after the namespace otherwise; every other command does. Of few rules, which are code, tables are made when they
   * keep changing: say when that is over, by {@link settle}.
   * @throws {CompileError} {PolicyError} {KernelError} as `applyPolicy`
   */
  async apply(request: ApplyRequest, step: StepListener = () => {}): Promise<ApplyReport> {
    const started = performance.now();
    return await withPolicyLock(async () => {
      const report = this.#edit(request, started, step) ?? (await this.#load(request, step));
      this.#request = request;
      this.#held = { mark: this.mark, rulesets: heldOf(request.rulesets, this.#held?.rulesets) };
      return report;
    });
  }

  async #load(request: ApplyRequest, step: StepListener): Promise<ApplyReport> {
    const asTables = this.#loads >= CHANGES_AS_CODE && request.strategy === undefined;
    const report = await applyPolicy(asTables ? { ...request, strategy: 'classifier' } : request, step);
    this.#loads++;
    return report;
  }

  /**
   * After the last change: rules that are tables only because somebody kept changing them, here or in a command that was
   * killed, become code where that is cheaper for packets. What waits for confirmation is left alone.
   */
  async settle(): Promise<void> {
    const request = this.#request;
    this.#request = undefined;
    if (request === undefined || request.strategy !== undefined) return;
    await withPolicyLock(async () => {
      const running = this.#now();
      if (running?.loaded.strategy === undefined) return;
      if (this.#open!.store.records.find(this.#place.cookie)?.isWaiting() !== false) return;
      const { confirmSeconds: _, ...settled } = { ...request, rulesets: parsed(running), whole: true };
      const places = placesOf(running.loaded.sets ?? []);
      const { coded } = compileRequest(settled, this.#hz, NO_MARK_CHANGES, places);
      if (coded.some((chain) => !running.loaded.coded.includes(chain))) await applyPolicy(settled);
    });
  }

  /** `undefined`: nothing has been done. */
  #edit(request: ApplyRequest, started: number, step: StepListener): ApplyReport | undefined {
    const running = this.#now();
    if (running === undefined || running.loaded.members.length !== 1) return undefined;
    const { store } = this.#open!;
    const { loaded, state, name } = running;
    const record = store.records.find(this.#place.cookie)!;
    try {
      checkManner(store, request, loaded, this.#hz);
      const place: EditPlace = {
        target: { cookie: record.cookie, name, inode: 0 },
        record,
        inside: (use) => {
          const targets = openTargets(request.namespaces ?? [], []);
          try {
            for (const { netns } of targets) withNetns(netns, use);
          } finally {
            closeTargets(targets);
          }
        },
      };
      checkPlace(store, place, state);
      const held = this.#held?.mark === running.mark ? this.#held.rulesets : parsed(running);
      const { fresh, ...changes } = diffRules(
        held,
        request.rulesets,
        (key) => state.chains.get(key)?.lines ?? [],
      );
      const asksConntrack = fresh.some((rules) => needsConntrack({ tables: [{ chains: [{ rules }] }] }));
      const plan = { ...changes, rule: ruleReader(request.rulesets, loaded), asksConntrack };
      const { confirmSeconds } = request;
      const cache = this.#calls;
      const done = editAndTell(store, [place], loaded, state, plan, { confirmSeconds, cache, step });
      const mark = this.#look();
      this.#running =
        mark === undefined
          ? undefined
          : { mark, loaded, name, state, generation: store.generation(record.running) };
      const totalMs = performance.now() - started;
      return { ...done, repaired: [], times: { compileMs: 0, ...done.times, totalMs } };
    } catch (error) {
      if (!(error instanceof LoadWhole)) throw error;
      return undefined;
    }
  }

  /** The sets of the policy, by the numbers of their records. */
  readonly sets: AskableSets = {
    numberOf: (name) => this.#sets().find((set) => set.name === name)?.slot,
    nameOf: (number) => this.#sets().find(({ slot }) => slot === number)?.name,
    familyOf: (name) => {
      const found = this.#sets().find((set) => set.name === name);
      return found && definitionOf(found).family;
    },
  };

  #sets(): readonly PlacedSet[] {
    return this.#now()?.loaded.sets ?? [];
  }

  /** The chains of a table as they are now: they change with the rules. */
  chains(family: Family, table: TableName): readonly ChainState[] {
    return [...(this.#now()?.state.chains.values() ?? [])].filter(
      (one) => one.family === family && one.table === table,
    );
  }

  /** Counters now of the chains of a table. */
  counts(family: Family, table: TableName): readonly ChainCounts[] {
    const running = this.#now();
    if (running === undefined) return [];
    const { generation } = running;
    return this.chains(family, table).map(({ chain, counters, policyCounter }) => ({
      family,
      table,
      chain,
      rules: counters.map((counter) => generation.counter(counter)),
      ...(policyCounter === undefined ? {} : { policy: generation.counter(policyCounter) }),
    }));
  }

  /** Adds to counters, which may go on counting meanwhile; chains that are not there are passed over. */
  async add(added: readonly ChainCounts[]): Promise<void> {
    await withPolicyLock(() => {
      const running = this.#now();
      if (running === undefined) return;
      const { state, generation } = running;
      for (const { family, table, chain, rules, policy } of added) {
        const place = state.chains.get(keyOf(family, table, chain));
        if (place === undefined) continue;
        for (const [index, counter] of place.counters.entries()) {
          const value = rules[index];
          if (value !== undefined && (value.packets !== 0n || value.bytes !== 0n))
            generation.addCounter(counter, value);
        }
        if (policy !== undefined && place.policyCounter !== undefined)
          generation.addCounter(place.policyCounter, policy);
      }
    });
  }

  close(): void {
    this.#open?.store.close();
    this.#open = undefined;
    this.#running = undefined;
  }

  #now(): Running | undefined {
    const known = this.#running;
    const mark = this.#look();
    if (mark !== undefined && mark === known?.mark) return known;
    // A store remembers the documents it has read: another generation is looked at with a new one.
    this.close();
    const bpffs = findBpffs();
    const store = bpffs === undefined ? undefined : PolicyStore.open(bpffs, this.#place.policy);
    if (store === undefined) return undefined;
    const directory = inodeOf(store.place.directory);
    if (directory !== undefined) this.#open = { store, directory };
    const now = this.#look();
    const root = store.records.find(this.#place.cookie)?.running;
    const loaded = root === undefined ? undefined : store.loadedAt(root);
    if (now === undefined || root === undefined || loaded === undefined) {
      this.close();
      return undefined;
    }
    this.#calls.clear();
    this.#running = {
      mark: now,
      loaded,
      name: store.netns(this.#place.cookie)?.name ?? '',
      state: store.rulesAt(root)!,
      generation: store.generation(root),
    };
    return this.#running;
  }

  /** The mark of what runs now, by the store that is open; `undefined` when that is of no use any more. */
  #look(): string | undefined {
    if (this.#open === undefined) return undefined;
    const { store, directory } = this.#open;
    const root = store.records.find(this.#place.cookie)?.running;
    if (root === undefined || root === 0 || root === OPEN_ROOT) return undefined;
    const inode = inodeOf(store.place.generation(store.loadedNumber(root)));
    if (inode === undefined || inodeOf(store.place.directory) !== directory) return undefined;
    // No place in an extent is used twice.
    return `${directory} ${inode} ${root}`;
  }
}

/** Rules that run, from their text. */
function parsed({ loaded, state }: Running): readonly Ruleset[] {
  return state
    .document(loaded)
    .rulesets.map(({ family, text }) => parseRuleset(text, { file: 'live rules', family }).ruleset);
}

/** The rules in lists of our own, those from before where they are the same: what the caller does to its lists is seen the next time. */
function heldOf(rulesets: readonly Ruleset[], before: readonly Ruleset[] = []): readonly Ruleset[] {
  return rulesets.map(({ family, tables }) => {
    const known = before.find((ruleset) => ruleset.family === family)?.tables ?? [];
    return {
      family,
      tables: tables.map((table) => {
        const chains = known.find(({ name }) => name === table.name)?.chains ?? [];
        const byName = new Map(chains.map((chain) => [chain.name, chain.rules]));
        return {
          ...table,
          chains: table.chains.map((chain) => {
            const own = byName.get(chain.name);
            return {
              ...chain,
              rules: own !== undefined && sameRules(own, chain.rules) ? own : chain.rules.slice(),
            };
          }),
        };
      }),
    };
  });
}

function sameRules(a: readonly Rule[], b: readonly Rule[]): boolean {
  return a.length === b.length && sameInFront(a, b, a.length) === a.length;
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
