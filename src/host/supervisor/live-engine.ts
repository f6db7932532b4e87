/** Tables as a live policy: each commit is a generation of the policy, put in force by one store. */
import { CompileError, formatRefusal, type HookName } from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';
import {
  AbiErrno,
  AbiError,
  type Counters,
  countedEntries,
  printRule,
  type Ruleset,
  type Table,
  type TableName,
} from '../../rules/index.ts';
import {
  addToCounters,
  applyPolicy,
  type ChainCounts,
  chainCounts,
  type LivePlace,
  livePolicies,
} from '../policy/index.ts';
import type { LiveCounters, TableEngine } from './engine.ts';

export interface LiveEngineOptions {
  readonly policy: string;
  readonly hooks: readonly HookName[];
  readonly devices: readonly string[];
  /** Name, path or pid; absent: the namespace of this process. */
  readonly netns: string | undefined;
  readonly netnsCookie: bigint;
}

export class LiveEngine implements TableEngine {
  readonly tables: readonly TableName[] = ['raw', 'mangle', 'filter', 'security'];
  readonly #options: LiveEngineOptions;
  readonly #place: LivePlace;
  readonly #rulesets = new Map<Family, Ruleset>();

  constructor(options: LiveEngineOptions) {
    this.#options = options;
    this.#place = { policy: options.policy, cookie: options.netnsCookie };
    for (const { rulesets } of livePolicies(this.#place))
      for (const ruleset of rulesets) this.#rulesets.set(ruleset.family, ruleset);
  }

  /** What is live when the engine is made. */
  get rulesets(): readonly Ruleset[] {
    return [...this.#rulesets.values()];
  }

  /**
   * Counters of rules that stay go on without a gap (they are carried at the commit), while the caller expects a new
   * table to count from zero and adds the old counters itself: what it is told is taken off first.
   */
  async replace(ruleset: Ruleset, table: Table): Promise<LiveCounters | undefined> {
    const { family } = ruleset;
    const before = this.#rulesets.get(family)?.tables.find(({ name }) => name === table.name);
    const counts = this.#chainCounts(family, table.name);
    await this.#apply(ruleset);
    this.#rulesets.set(family, ruleset);
    if (before === undefined) return undefined;
    await addToCounters(this.#place, takenOff(before, table, counts, family));
    return inOrder(before, counts);
  }

  async #apply(ruleset: Ruleset): Promise<void> {
    const others = this.rulesets.filter(({ family }) => family !== ruleset.family);
    const { policy, hooks, devices, netns } = this.#options;
    try {
      await applyPolicy({
        policy,
        hooks,
        devices,
        rulesets: [ruleset, ...others],
        ...(netns === undefined ? {} : { namespaces: [netns] }),
      });
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      const reasons = error.refusals.map((refusal) => {
        const chain = ruleset.tables
          .find(({ name }) => name === refusal.table)
          ?.chains.find(({ name }) => name === refusal.chain);
        const rule = chain?.rules[refusal.rule - 1];
        const text = rule === undefined ? '' : `: ${printRule(rule, refusal.chain, ruleset.family)}`;
        return formatRefusal({ ...refusal, span: undefined }) + text;
      });
      throw new AbiError(AbiErrno.ENOENT, reasons.join('; '), error.hint);
    }
  }

  counters(family: Family, name: TableName): LiveCounters | undefined {
    const table = this.#rulesets.get(family)?.tables.find((one) => one.name === name);
    return table === undefined ? undefined : inOrder(table, this.#chainCounts(family, name));
  }

  async addCounters(family: Family, table: Table, added: LiveCounters): Promise<void> {
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
    await addToCounters(this.#place, chains);
  }

  #chainCounts(family: Family, table: TableName): readonly ChainCounts[] {
    return chainCounts(this.#place).filter((one) => one.family === family && one.table === table);
  }
}

/** Counters by entry, as {@link countedEntries} orders them. */
function inOrder(table: Table, counts: readonly ChainCounts[]): LiveCounters {
  const places = new Map<Counters, Counters | undefined>();
  for (const chain of table.chains) {
    const live = counts.find((one) => one.chain === chain.name);
    places.set(chain.counters, live?.policy);
    for (const [index, { counters }] of chain.rules.entries()) places.set(counters, live?.rules[index]);
  }
  return countedEntries(table).map(
    (counted) => (counted === undefined ? undefined : places.get(counted)) ?? { packets: 0n, bytes: 0n },
  );
}

/** Minus the old counters of every rule and policy that a replacement carries on: same text, same turn in its chain. */
function takenOff(
  before: Table,
  after: Table,
  counts: readonly ChainCounts[],
  family: Family,
): readonly ChainCounts[] {
  return after.chains.map((chain) => {
    const old = before.chains.find(({ name }) => name === chain.name);
    const live = counts.find((one) => one.chain === chain.name);
    const byText = new Map<string, Counters[]>();
    for (const [index, rule] of (old?.rules ?? []).entries()) {
      const text = printRule(rule, chain.name, family);
      const turns = byText.get(text) ?? [];
      turns.push(live?.rules[index] ?? { packets: 0n, bytes: 0n });
      byText.set(text, turns);
    }
    const rules = chain.rules.map((rule) =>
      negated(byText.get(printRule(rule, chain.name, family))?.shift()),
    );
    const same = chain.policy !== undefined && old?.policy === chain.policy;
    const own = same ? { policy: negated(live?.policy) } : {};
    return { family, table: after.name, chain: chain.name, rules, ...own };
  });
}

function negated(counters: Counters | undefined): Counters {
  return { packets: -(counters?.packets ?? 0n), bytes: -(counters?.bytes ?? 0n) };
}
