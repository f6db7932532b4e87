/** Tables as a live policy: each commit is a generation of the policy, put in force by one store. */
import { CompileError, formatRefusal, type HookName } from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';
import {
  AbiErrno,
  AbiError,
  type AskableSets,
  type Counters,
  countedEntries,
  printRule,
  type Ruleset,
  type Table,
  type TableName,
} from '../../rules/index.ts';
import {
  type ApplyReport,
  type ChainCounts,
  type StepListener,
  WatchedPolicy,
  withPolicyLock,
} from '../policy/index.ts';
import type { LiveCounters, TableEngine } from './engine.ts';
import { ToldCounts } from './toldcounts.ts';

export interface LiveEngineOptions {
  readonly policy: string;
  readonly hooks: readonly HookName[];
  readonly devices: readonly string[];
  /** Name, path or pid; absent: the namespace of this process. */
  readonly netns: string | undefined;
  readonly netnsCookie: bigint;
  /** Told each step of a change; tests end processes there. */
  readonly step?: StepListener;
}

export class LiveEngine implements TableEngine {
  readonly tables: readonly TableName[] = ['raw', 'mangle', 'filter', 'security'];
  readonly sets: AskableSets;
  readonly #options: LiveEngineOptions;
  readonly #watched: WatchedPolicy;
  /** What runs as far as this engine has told, and the mark of it. */
  #rulesets: readonly Ruleset[] = [];
  #mark = '';

  constructor(options: LiveEngineOptions) {
    this.#options = options;
    this.#watched = new WatchedPolicy({ policy: options.policy, cookie: options.netnsCookie });
    this.sets = this.#watched.sets;
  }

  async exclusively<T>(use: () => Promise<T>): Promise<T> {
    return await withPolicyLock(use);
  }

  changed(): readonly Ruleset[] | undefined {
    const { mark } = this.#watched;
    if (mark === this.#mark) return undefined;
    this.#rulesets = this.#watched.rulesets();
    this.#mark = mark;
    return this.#rulesets;
  }

  /**
   * Counters of rules that stay go on without a gap, while the caller expects a new table to count from zero and adds the
   * old counters itself: what it is told is taken off first.
   */
  async replace(ruleset: Ruleset, table: Table): Promise<LiveCounters | undefined> {
    const { family } = ruleset;
    const before = this.#table(family, table.name);
    const counts = this.#watched.counts(family, table.name);
    const told = new ToldCounts(this.#watched.chains(family, table.name), counts);
    const rulesets = [ruleset, ...this.#rulesets.filter((other) => other.family !== family)];
    const { editedRules } = await this.#apply(ruleset, rulesets);
    this.#rulesets = rulesets;
    this.#mark = this.#watched.mark;
    if (before === undefined) return undefined;
    this.#options.step?.('take counters off');
    const after = this.#watched.chains(family, table.name);
    await this.#watched.add(told.takenOff(after, editedRules !== undefined));
    return inOrder(before, counts);
  }

  /** @throws {AbiError} with the text of each rule of `changed` that cannot run */
  async #apply(changed: Ruleset, rulesets: readonly Ruleset[]): Promise<ApplyReport> {
    const { policy, hooks, devices, netns, step } = this.#options;
    try {
      return await this.#watched.apply(
        { policy, hooks, devices, rulesets, ...(netns === undefined ? {} : { namespaces: [netns] }) },
        step,
      );
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      const reasons = error.refusals.map((refusal) => {
        const chain = changed.tables
          .find(({ name }) => name === refusal.table)
          ?.chains.find(({ name }) => name === refusal.chain);
        const rule = chain?.rules[refusal.rule - 1];
        const text = rule === undefined ? '' : `: ${printRule(rule, refusal.chain, changed.family)}`;
        return formatRefusal({ ...refusal, span: undefined }) + text;
      });
      throw new AbiError(AbiErrno.ENOENT, reasons.join('; '), error.hint);
    }
  }

  /** No more changes come: see `WatchedPolicy.settle`. */
  async settle(): Promise<void> {
    await this.#watched.settle();
  }

  counters(family: Family, name: TableName): LiveCounters | undefined {
    const table = this.#table(family, name);
    return table === undefined ? undefined : inOrder(table, this.#watched.counts(family, name));
  }

  async addCounters(family: Family, table: Table, added: LiveCounters): Promise<void> {
    this.#options.step?.('add counters');
    const chains: ChainCounts[] = [];
    let entry = 0;
    for (const chain of table.chains) {
      if (chain.policy === undefined) entry++;
      const rules = added.slice(entry, entry + chain.rules.length);
      entry += chain.rules.length;
      const last = added[entry++]!;
      const own = chain.policy === undefined ? {} : { policy: last };
      chains.push({ family, table: table.name, chain: chain.name, rules, ...own });
    }
    await this.#watched.add(chains);
  }

  #table(family: Family, name: TableName): Table | undefined {
    return this.#rulesets
      .find((ruleset) => ruleset.family === family)
      ?.tables.find((one) => one.name === name);
  }
}

/** Counters by entry, as {@link countedEntries} orders them. */
function inOrder(table: Table, counts: readonly ChainCounts[]): LiveCounters {
  const byChain = new Map(counts.map((one) => [one.chain, one]));
  const places = new Map<Counters, Counters | undefined>();
  for (const chain of table.chains) {
    const live = byChain.get(chain.name);
    places.set(chain.counters, live?.policy);
    for (const [index, { counters }] of chain.rules.entries()) places.set(counters, live?.rules[index]);
  }
  return countedEntries(table).map(
    (counted) => (counted === undefined ? undefined : places.get(counted)) ?? { packets: 0n, bytes: 0n },
  );
}
