/** What a table store hands committed tables to: whatever lets packets meet the rules. */
import type { Family } from '../../net/index.ts';
import {
  AbiErrno,
  AbiError,
  type AskableSets,
  type Counters,
  placesInOrder,
  printRule,
  type Rule,
  type Ruleset,
  type SetContents,
  type SetPlace,
  type Table,
  type TableName,
  unsupportedRules,
} from '../../rules/index.ts';

/** Packets and bytes of each entry since the table was committed, in the order of its entries. */
export type LiveCounters = readonly Counters[];

export interface TableEngine {
  /** Tables that can be asked for here; every other one does not exist. */
  readonly tables: readonly TableName[];
  /** IP sets that rules may name. */
  readonly sets: AskableSets;
  /** Runs `use` while nobody else changes the tables. Absent: nobody else can. */
  exclusively?<T>(use: () => Promise<T>): Promise<T>;
  /** All tables that run, when others have changed them since this was asked last or a table was replaced here. */
  changed?(): readonly Ruleset[] | undefined;
  /**
   * Makes `table` effective as part of `ruleset`, in one step, and gives the last counters of the table it replaces.
   * `undefined`: nothing was counted.
   * @throws {AbiError} with the errno for the caller and the reason in words; then nothing has changed
   */
  replace(ruleset: Ruleset, table: Table): Promise<LiveCounters | undefined>;
  /** Counters now; `undefined`: nothing was counted. */
  counters(family: Family, table: TableName): LiveCounters | undefined;
  /** Adds to counters for good. Absent: the store remembers what was added. */
  addCounters?(family: Family, table: Table, added: LiveCounters): Promise<void>;
}

/** Keeps the policy in this process: packets meet it when a capture is replayed in the netstack, where NAT is, too. */
export class MemoryEngine implements TableEngine {
  readonly tables: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter', 'security'];
  readonly sets: AskableSets;
  readonly #places: ReadonlyMap<string, SetPlace>;
  /** Rules that are known to run: tables have those again that they had before. */
  readonly #sound = new WeakSet<Rule>();

  /** @param sets those that rules may name; numbered as they stand */
  constructor(sets: readonly SetContents[] = []) {
    this.#places = placesInOrder(sets);
    this.sets = {
      numberOf: (name) => this.#places.get(name)?.slot,
      nameOf: (number) => [...this.#places].find(([, { slot }]) => slot === number)?.[0],
      familyOf: (name) => this.#places.get(name)?.definition.family,
    };
  }

  /** Refuses, before anything changes, what the reference semantics cannot run. */
  replace({ family }: Ruleset, table: Table): Promise<undefined> {
    const fresh = table.chains.map((chain) => ({
      ...chain,
      rules: chain.rules.filter((rule) => !this.#sound.has(rule)),
    }));
    const check = (chains: Table['chains']): ReturnType<typeof unsupportedRules> =>
      unsupportedRules({ family, tables: [{ ...table, chains }] }, true, this.#places);
    if (check(fresh).length === 0) {
      for (const { rules } of fresh) for (const rule of rules) this.#sound.add(rule);
      return Promise.resolve(undefined);
    }
    // Numbers of rules are those of the whole chain.
    const refused = check(table.chains);
    const reasons = refused.map(({ what, chain: name, number }) => {
      const rule = table.chains.find((chain) => chain.name === name)?.rules[number - 1];
      const text = rule === undefined ? '' : `: ${printRule(rule, name, family)}`;
      return `${what} cannot be run (${table.name} ${name} rule ${number})${text}`;
    });
    throw new AbiError(AbiErrno.ENOENT, reasons.join('; '));
  }

  counters(): undefined {
    return undefined;
  }
}
