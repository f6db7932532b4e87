/** Tables run by the programs that they were compiled to, wherever the programs run. */
import {
  type CompiledPolicy,
  entryIndex,
  GROUP_TABLES,
  MARK_BITS_SHIFT,
  MARK_RESET_BIT,
  type PlacedTable,
  TABLE_GROUPS,
  type TableGroup,
} from '../../compile/index.ts';
import { HOOK_CHAINS } from '../../ir/index.ts';
import {
  baseChain,
  type EvaluatedTable,
  type EvaluationPacket,
  evaluateTable,
  matchRule,
  type RunTable,
  type TableOutcome,
  type WalkObserver,
} from '../../rules/index.ts';
import { Account, type ReadCounters, ruleOf } from './account.ts';
import { explainMovement } from './movement.ts';

/** What a program said of a packet. */
export interface ProgramRun {
  readonly accepted: boolean;
  /** The word that it handed on to the action chain (docs/arena.md); 0: nothing. */
  readonly handed: bigint;
}

/** A compiled policy where it can run. */
export interface PolicyRunner {
  readonly policy: CompiledPolicy;
  /** Runs what the policy has at a netfilter place (`entryIndex`); `undefined` when that is nothing. */
  run(place: number, packet: EvaluationPacket): ProgramRun | undefined;
  readonly readCounters: ReadCounters;
}

/**
 * Runs tables by their programs. One program runs a group of tables (filter and security); what it did is read from its
 * counters. Chains without rules whose policy accepts have no program, nor has nat: their packets are only counted.
 */
export class CompiledTables {
  readonly #runner: PolicyRunner;
  readonly #account: Account;
  #accepted = true;

  constructor(runner: PolicyRunner) {
    this.#runner = runner;
    this.#account = new Account(runner.policy, (into) => runner.readCounters(into));
  }

  readonly run: RunTable = (table, packet, observer) => {
    if (baseChain(table, packet.hook) === undefined) return undefined;
    const group = TABLE_GROUPS.find((one) => GROUP_TABLES[one].includes(table.name));
    if (group === undefined) return evaluateTable(table, packet, observer);
    const placed = this.#tablesAt(group, packet);
    const isFirst = placed[0]?.ir.table === table.name;
    if (isFirst && !this.#runGroup(group, packet)) return evaluateTable(table, packet, observer);
    return this.#tell(table, packet, placed.find(({ ir }) => ir.table === table.name)!, observer);
  };

  /** The group's tables that have a chain at the packet's hook, in the order in which a packet meets them. */
  #tablesAt(group: TableGroup, packet: EvaluationPacket): readonly PlacedTable[] {
    const chain = HOOK_CHAINS[packet.hook]!;
    return GROUP_TABLES[group].flatMap((name) =>
      this.#runner.policy.tables.filter(
        ({ ir }) => ir.family === packet.family && ir.table === name && ir.chains.has(chain),
      ),
    );
  }

  /** False when there is no program. */
  #runGroup(group: TableGroup, packet: EvaluationPacket): boolean {
    const { family, hook } = packet;
    const run = this.#runner.run(entryIndex({ flavour: 'netfilter', group, family, hook }), packet);
    if (run === undefined) return false;
    this.#account.read();
    this.#accepted = run.accepted;
    if (run.accepted) packet.mark = handedMark(this.#runner.policy, run.handed, packet.mark);
    return true;
  }

  /** Carries what the program did in a table over to the table's own counters, and tells the observer. */
  #tell(
    table: EvaluatedTable,
    packet: EvaluationPacket,
    placed: PlacedTable,
    observer: WalkObserver,
  ): TableOutcome {
    const base = baseChain(table, packet.hook)!;
    const account = this.#account;
    const [walk] = explainMovement(placed.ir, [placed.ir.chains.get(base.name)!], {
      moved: (counter) => account.movedIn(placed, counter),
      unread: account.unread && !this.#accepted,
      cannotRead: (rule) => matchRule(ruleOf(table, rule)[1], ruleOf(table, rule)[0], packet).hotdrop,
    });
    return account.carry(table, placed, base, walk!, observer);
  }
}

/** The mark that the action chain leaves, by the word that the program handed on. */
export function handedMark({ marks }: CompiledPolicy, handed: bigint, mark: number): number {
  const reset = marks.whole && ((handed >> BigInt(MARK_RESET_BIT)) & 1n) === 1n;
  const turned = Number((handed >> BigInt(MARK_BITS_SHIFT)) & 0xffffffffn) & marks.bits;
  return ((reset ? 0 : mark) ^ turned) >>> 0;
}
