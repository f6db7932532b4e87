/**
 * The rules as the programs that the kernel would run, in the user-space machine. The way through the host (routing,
 * conntrack, reassembly) is the reference's; what the tables say comes from the programs and their counters alone.
 */
import { compilePolicy } from '../../compile/index.ts';
import { type EvaluationPacket, placesInOrder, type TableName } from '../../rules/index.ts';
import type { ReplayPacket } from './capture.ts';
import { ReplayClock } from './clock.ts';
import { CompiledTables } from './compiled.ts';
import type { CounterReport, Decision, ReplayEngine, ReplayOptions } from './engine.ts';
import { EvaluationEngine } from './evaluation.ts';
import { generationAddresses } from './host.ts';
import { MACHINE_HZ, PolicyMachine } from './machine.ts';

/** Tables that become programs. The others are walked by the reference: nat's first packets, where nothing is translated. */
export const COMPILED_TABLES: readonly TableName[] = ['raw', 'mangle', 'filter', 'security'];

/** The evaluator's jiffies are those of HZ=250; a finer clock here would refill buckets earlier. */
const JIFFY_MS = 4;

export class InterpreterEngine implements ReplayEngine {
  readonly name = 'interpreter';
  readonly #way: EvaluationEngine;

  /**
   * @throws {CompileError} when rules have no program
   * @throws {UnsupportedRulesError} when rules of the nat table cannot be evaluated
   */
  constructor(options: ReplayOptions) {
    const policy = compilePolicy(options.rulesets, {
      hooks: ['netfilter'],
      tables: COMPILED_TABLES,
      hz: MACHINE_HZ,
      sets: placesInOrder(options.sets),
    });
    const clock = new ReplayClock();
    const monotonicNs = (): bigint => BigInt(Math.floor(clock.nowMs() / JIFFY_MS) * JIFFY_MS) * 1_000_000n;
    const machine = new PolicyMachine(policy, {
      clock: { monotonicNs },
      random: options.random32,
      ...(options.sets === undefined ? {} : { sets: options.sets }),
      surroundings: { addresses: generationAddresses(options) },
    });
    const tables = new CompiledTables({
      policy,
      run: (place, packet: EvaluationPacket) => machine.run(place, packet),
      readCounters: (into) => machine.readCounters(into),
    });
    this.#way = new EvaluationEngine(options, { clock, runTable: tables.run });
  }

  decide(packet: ReplayPacket): Decision {
    return this.#way.decide(packet);
  }

  counters(): readonly CounterReport[] {
    return this.#way.counters();
  }

  close(): void {}
}
