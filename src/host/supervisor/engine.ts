/** What a table store hands committed tables to: whatever lets packets meet the rules. */
import type { Family } from '../../net/index.ts';
import {
  AbiErrno,
  AbiError,
  type Counters,
  type Ruleset,
  type Table,
  type TableName,
  unsupportedRules,
} from '../../rules/index.ts';

/** Packets and bytes of each entry since the table was committed, in the order of its entries. */
export type LiveCounters = readonly Counters[];

export interface TableEngine {
  /** Tables that can be asked for here; every other one does not exist. */
  readonly tables: readonly TableName[];
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

/** Keeps the policy in this process: packets meet it when a capture is replayed. */
export class MemoryEngine implements TableEngine {
  readonly tables: readonly TableName[] = ['raw', 'mangle', 'filter', 'security'];

  /** Refuses, before anything changes, what the reference semantics cannot run. */
  replace({ family }: Ruleset, table: Table): Promise<undefined> {
    const [first, ...more] = unsupportedRules({ family, tables: [table] });
    if (first !== undefined) {
      const others = more.length === 0 ? '' : `, and ${more.length} more`;
      throw new AbiError(
        AbiErrno.ENOENT,
        `${first.what} cannot be run (${first.table} ${first.chain} rule ${first.number}${others})`,
      );
    }
    return Promise.resolve(undefined);
  }

  counters(): undefined {
    return undefined;
  }
}
