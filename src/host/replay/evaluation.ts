/** The reference engine: the evaluator, on a clock that follows the capture. */
import { HOOK_CHAINS, type Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import {
  type Chain,
  type EvaluatedTable,
  type EvaluationHost,
  type Explanation,
  evaluateHook,
  evaluatePacket,
  explainHook,
  explainPacket,
  type PacketInput,
  type PacketOutcome,
  plainSets,
  type Ruleset,
  type RunTable,
  type TableName,
} from '../../rules/index.ts';
import { arrivalOf, COMES_IN, destinationOf, GOES_OUT } from './arrival.ts';
import type { ReplayPacket } from './capture.ts';
import { ReplayClock } from './clock.ts';
import type { CounterReport, Decision, ReplayEngine, ReplayOptions } from './engine.ts';
import { outDevice, replayHost } from './host.ts';

interface FamilyHost {
  readonly ruleset: Ruleset;
  readonly host: EvaluationHost;
}

/** Other things that run the tables on the same way through a host, on a clock that both know. */
export interface TableRunner {
  readonly clock: ReplayClock;
  readonly runTable: RunTable;
}

/** Decides with the reference semantics of `ipt_do_table`. Rules of both families may be given, one ruleset each. */
export class EvaluationEngine implements ReplayEngine {
  readonly name = 'evaluate';
  readonly #options: ReplayOptions;
  readonly #clock: ReplayClock;
  readonly #hosts = new Map<Family, FamilyHost>();

  /** @throws {UnsupportedRulesError} when a ruleset has rules that cannot be evaluated */
  constructor(options: ReplayOptions, runner?: TableRunner) {
    this.#options = options;
    this.#clock = runner?.clock ?? new ReplayClock();
    const sets = plainSets(options.sets);
    for (const ruleset of options.rulesets) {
      const host = replayHost(ruleset, options, this.#clock, runner?.runTable, sets);
      this.#hosts.set(ruleset.family, { ruleset, host });
    }
  }

  decide(packet: ReplayPacket): Decision {
    const prepared = this.#prepare(packet);
    if (typeof prepared === 'string') return { verdict: 'ACCEPT', by: 'none', reason: prepared, matched: [] };
    const { host, input, hook } = prepared;
    const outcome =
      hook === undefined ? evaluatePacket(host, input) : evaluateHook(host, { ...input, ...hook });
    return decisionOf(outcome);
  }

  /** Decides the packet and tells every rule of its way; a word where no rule is asked. */
  explain(packet: ReplayPacket): Explanation | string {
    const prepared = this.#prepare(packet);
    if (typeof prepared === 'string') return prepared;
    const { host, input, hook } = prepared;
    return hook === undefined ? explainPacket(host, input) : explainHook(host, { ...input, ...hook });
  }

  counters(): readonly CounterReport[] {
    return [...this.#hosts.values()].map(({ ruleset, host }) => ({
      family: ruleset.family,
      ruleset: withCounters(ruleset, host.tables),
    }));
  }

  close(): void {}

  #prepare(packet: ReplayPacket) {
    this.#clock.take(packet);
    const arrival = arrivalOf(this.#options, packet);
    if (typeof arrival === 'string') return arrival;
    const { family, bytes, sent, inDevice, packetType } = arrival;
    const { host } = this.#hosts.get(family)!;
    const { vantage } = this.#options;
    const input: PacketInput = {
      bytes,
      inDevice: sent ? '' : inDevice,
      packetType,
      sender: this.#options.sender,
      ...(packet.ethernet === undefined ? {} : { ethernet: packet.ethernet }),
    };
    if (vantage.kind === 'host') return { host, input, hook: undefined };
    const { chain } = vantage;
    const hook = {
      hook: HOOK_CHAINS.indexOf(chain) as Hook,
      outDevice: GOES_OUT.has(chain) ? outDevice(this.#options, destinationOf(arrival), inDevice) : '',
    };
    return { host, input: { ...input, inDevice: COMES_IN.has(chain) ? inDevice : '' }, hook };
  }
}

/** The evaluator's outcome in the words that all engines share. */
export function decisionOf(outcome: PacketOutcome): Decision {
  const { decision } = outcome;
  const matched = outcome.matched.map(({ table, chain, rule }) => [table, chain, rule] as const);
  const { verdict } = outcome;
  switch (decision.kind) {
    case 'rule':
    case 'hotdrop':
      return {
        verdict,
        by: decision.kind,
        table: decision.table,
        chain: decision.chain,
        rule: decision.rule,
        matched,
      };
    case 'policy':
      return { verdict, by: 'policy', table: decision.table, chain: decision.chain, matched };
    case 'stack': {
      const held = decision.fault === 'fragment-held';
      return { verdict: held ? 'HELD' : verdict, by: 'stack', reason: decision.fault, matched };
    }
    case 'none':
      return { verdict, by: 'none', reason: 'no-chain', matched };
  }
}

/** The ruleset as it was read, with the counters that have moved in its tables. */
export function withCounters(ruleset: Ruleset, tables: ReadonlyMap<TableName, EvaluatedTable>): Ruleset {
  return {
    family: ruleset.family,
    tables: ruleset.tables.map((table) => {
      const evaluated = tables.get(table.name);
      const chains = table.chains.map((chain): Chain => {
        const moved = evaluated?.chains.get(chain.name);
        if (moved === undefined) return chain;
        return {
          ...chain,
          counters: moved.policyCounters,
          rules: chain.rules.map((rule, index) => ({ ...rule, counters: moved.rules[index]!.counters })),
        };
      });
      return { ...table, chains };
    }),
  };
}
