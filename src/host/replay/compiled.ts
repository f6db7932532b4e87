/** Tables run by the programs that they were compiled to, wherever the programs run. */
import {
  type CompiledPolicy,
  entryIndex,
  GROUP_TABLES,
  MARK_BITS_SHIFT,
  MARK_RESET_BIT,
  type PlacedTable,
  SYSTEM_COUNTERS,
  SystemCounter,
  TABLE_GROUPS,
  type TableGroup,
} from '../../compile/index.ts';
import { HOOK_CHAINS, type IrRule } from '../../ir/index.ts';
import {
  baseChain,
  type EvaluatedChain,
  type EvaluatedCounters,
  type EvaluatedRule,
  type EvaluatedTable,
  type EvaluationPacket,
  evaluateTable,
  matchRule,
  type RunTable,
  type TableOutcome,
  type WalkObserver,
} from '../../rules/index.ts';
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
  /** Packets and bytes of every counter of the generation, one after the other, summed over the CPUs. */
  readCounters(into: BigUint64Array): void;
}

/**
 * Runs tables by their programs. One program runs a group of tables (filter and security); what it did is read from its
 * counters. Chains without rules whose policy accepts have no program, nor has nat: their packets are only counted.
 */
export class CompiledTables {
  readonly #runner: PolicyRunner;
  /** Counters before and after the program that ran last. */
  #before: BigUint64Array;
  #after: BigUint64Array;
  #accepted = true;

  constructor(runner: PolicyRunner) {
    this.#runner = runner;
    this.#before = new BigUint64Array(runner.policy.counters * 2);
    this.#after = new BigUint64Array(runner.policy.counters * 2);
    runner.readCounters(this.#after);
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
    [this.#before, this.#after] = [this.#after, this.#before];
    this.#runner.readCounters(this.#after);
    this.#accepted = run.accepted;
    if (run.accepted) packet.mark = handedMark(run.handed, packet.mark);
    return true;
  }

  /** By how many packets a counter of the generation has moved. */
  #moved(counter: number): number {
    return Number(this.#after[counter * 2]! - this.#before[counter * 2]!);
  }

  /** Carries what the program did in a table over to the table's own counters, and tells the observer. */
  #tell(
    table: EvaluatedTable,
    packet: EvaluationPacket,
    { ir, firstCounter }: PlacedTable,
    observer: WalkObserver,
  ): TableOutcome {
    const base = baseChain(table, packet.hook)!;
    const first = SYSTEM_COUNTERS + firstCounter;
    const unread = this.#moved(SystemCounter.hotdrops) + this.#moved(SystemCounter.malformed) > 0;
    const { matched, ending, verdict } = explainMovement(ir, ir.chains.get(base.name)!, {
      moved: (counter) => this.#moved(first + counter),
      unread: unread && !this.#accepted,
      cannotRead: (rule) => matchRule(ruleOf(table, rule)[1], ruleOf(table, rule)[0], packet).hotdrop,
    });
    for (const rule of matched) {
      const [chain, own] = ruleOf(table, rule);
      this.#count(own.counters, first + rule.counter);
      observer.matched?.(chain, own);
    }
    if (ending.kind !== 'policy') {
      const { chain, rule } = ending.rule.source;
      return { verdict, decision: { kind: ending.kind, chain, rule } };
    }
    this.#count(base.policyCounters, first + ending.chain.policy!.counter);
    observer.policy?.(base);
    return { verdict, decision: { kind: 'policy', chain: base.name } };
  }

  #count(counters: EvaluatedCounters, counter: number): void {
    counters.packets = this.#after[counter * 2]!;
    counters.bytes = this.#after[counter * 2 + 1]!;
  }
}

function ruleOf(table: EvaluatedTable, { source }: IrRule): readonly [EvaluatedChain, EvaluatedRule] {
  const chain = table.chains.get(source.chain)!;
  return [chain, chain.rules[source.rule - 1]!];
}

/** The mark that the action chain leaves, by the word that the program handed on. */
export function handedMark(handed: bigint, mark: number): number {
  const reset = ((handed >> BigInt(MARK_RESET_BIT)) & 1n) === 1n;
  const turned = Number((handed >> BigInt(MARK_BITS_SHIFT)) & 0xffffffffn);
  return ((reset ? 0 : mark) ^ turned) >>> 0;
}
