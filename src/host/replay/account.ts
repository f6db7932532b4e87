/** What the counters of a generation say of one packet, and the counters of tables that follow them. */
import {
  type CompiledPolicy,
  type PlacedTable,
  SYSTEM_COUNTERS,
  SystemCounter,
} from '../../compile/index.ts';
import type { IrRule } from '../../ir/index.ts';
import type {
  EvaluatedChain,
  EvaluatedCounters,
  EvaluatedRule,
  EvaluatedTable,
  TableOutcome,
  WalkObserver,
} from '../../rules/index.ts';
import type { ExplainedWalk } from './movement.ts';

/** Packets and bytes of every counter of a generation, one after the other, summed over the CPUs. */
export type ReadCounters = (into: BigUint64Array) => void;

/** Two readings: before a packet, and after it. */
export class Account {
  readonly #readCounters: ReadCounters;
  #before: BigUint64Array;
  #after: BigUint64Array;

  constructor({ counters }: CompiledPolicy, readCounters: ReadCounters) {
    this.#readCounters = readCounters;
    this.#before = new BigUint64Array(counters * 2);
    this.#after = new BigUint64Array(counters * 2);
    readCounters(this.#after);
  }

  /** Reads once more: what was after the packet before is before the packet now. */
  read(): void {
    [this.#before, this.#after] = [this.#after, this.#before];
    this.#readCounters(this.#after);
  }

  /** By how many packets a counter of the generation has moved. */
  moved(counter: number): number {
    return Number(this.#after[counter * 2]! - this.#before[counter * 2]!);
  }

  /** By how many packets a table's own counter has moved. */
  movedIn({ firstCounter }: PlacedTable, counter: number): number {
    return this.moved(SYSTEM_COUNTERS + firstCounter + counter);
  }

  /** A header could not be read: the packet was dropped for that, if it was dropped. */
  get unread(): boolean {
    return this.moved(SystemCounter.hotdrops) + this.moved(SystemCounter.malformed) > 0;
  }

  /** Carries one walk over to the counters of the table as it is evaluated, and tells the observer. */
  carry(
    table: EvaluatedTable,
    { firstCounter }: PlacedTable,
    base: EvaluatedChain,
    { matched, ending, verdict }: ExplainedWalk,
    observer: WalkObserver,
  ): TableOutcome {
    const first = SYSTEM_COUNTERS + firstCounter;
    for (const rule of matched) {
      const [chain, own] = ruleOf(table, rule);
      this.#copy(own.counters, first + rule.counter);
      observer.matched?.(chain, own);
    }
    if (ending.kind !== 'policy') {
      const { chain, rule } = ending.rule.source;
      return { verdict, decision: { kind: ending.kind, chain, rule } };
    }
    this.#copy(base.policyCounters, first + ending.chain.policy!.counter);
    observer.policy?.(base);
    return { verdict, decision: { kind: 'policy', chain: base.name } };
  }

  #copy(counters: EvaluatedCounters, counter: number): void {
    counters.packets = this.#after[counter * 2]!;
    counters.bytes = this.#after[counter * 2 + 1]!;
  }
}

export function ruleOf(table: EvaluatedTable, { source }: IrRule): readonly [EvaluatedChain, EvaluatedRule] {
  const chain = table.chains.get(source.chain)!;
  return [chain, chain.rules[source.rule - 1]!];
}
