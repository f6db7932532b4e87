/** What the evaluator and a compiled program say of the same packets, side by side. */
import { type CompiledPolicy, SYSTEM_COUNTERS } from '../../src/compile/index.ts';
import type { Hook } from '../../src/ir/index.ts';
import {
  createHost,
  type EvaluatedRule,
  type EvaluationHost,
  evaluateHook,
  type LogEntry,
  type PathObserver,
  type Routing,
  type Ruleset,
  type TableName,
} from '../../src/rules/index.ts';

/** Counters by "table chain rule", rule 0 for the policy: only those that moved. */
export type Counts = Readonly<Record<string, string>>;

/** The ruleset with one table alone. */
export function onlyTable(ruleset: Ruleset, table: TableName): Ruleset {
  return { ...ruleset, tables: ruleset.tables.filter(({ name }) => name === table) };
}

export interface Judged {
  readonly verdict: 'ACCEPT' | 'DROP' | 'REJECT';
  readonly mark: number;
  /** enum ipt_reject_with or ip6t_reject_with, with REJECT. */
  readonly reject?: number;
  /** A rule's match could not read the packet. */
  readonly hotdrop: boolean;
  readonly logs: readonly LogEntry[];
}

/** One packet at one hook, as the reference semantics have it. REJECT is told apart from DROP. */
export function judge(
  host: EvaluationHost,
  ruleset: Ruleset,
  input: {
    readonly bytes: Uint8Array;
    readonly hook: Hook;
    readonly inDevice: string;
    readonly outDevice: string;
    readonly packetType?: number;
    readonly mark?: number;
    readonly ethernet?: Uint8Array;
  },
  observer: PathObserver = {},
): Judged | undefined {
  let last: EvaluatedRule | undefined;
  const matched: PathObserver['matched'] = (_table, _chain, rule) => {
    last = rule;
  };
  const { verdict, decision, mark, logs } = evaluateHook(host, input, { ...observer, matched });
  // What the stack drops before any rule is not the program's affair here.
  if (decision.kind === 'stack') return undefined;
  if (verdict === 'DROP' && (decision.kind === 'rule' || decision.kind === 'hotdrop')) {
    const table = ruleset.tables.find(({ name }) => name === decision.table)!;
    const chain = table.chains.find(({ name }) => name === decision.chain)!;
    const rule = chain.rules[decision.rule - 1]!;
    // A packet whose chunks cannot be read may still be counted and answered.
    const answered = decision.kind === 'rule' || last?.rule === rule;
    if (answered && rule.target?.kind === 'extension' && rule.target.name === 'REJECT') {
      const { state } = rule.target as { readonly state: { readonly kind: { readonly number: number } } };
      return { verdict: 'REJECT', mark, logs, hotdrop: false, reject: state.kind.number };
    }
  }
  return { verdict, mark, logs, hotdrop: decision.kind === 'hotdrop' };
}

export function hostFor(
  ruleset: Ruleset,
  routing: Routing,
  clock: { ms: number } = { ms: 0 },
): EvaluationHost {
  return createHost({ ruleset, routing, nowMs: () => clock.ms, random32: () => 0 });
}

export function evaluatorCounts(host: EvaluationHost): Counts {
  const counts: Record<string, string> = {};
  for (const [name, table] of host.tables) {
    for (const chain of table.chains.values()) {
      for (const rule of chain.rules) put(counts, `${name} ${chain.name} ${rule.number}`, rule.counters);
      if (chain.policy !== undefined) put(counts, `${name} ${chain.name} 0`, chain.policyCounters);
    }
  }
  return counts;
}

export function programCounts(
  policy: CompiledPolicy,
  counter: (index: number) => { readonly packets: bigint; readonly bytes: bigint },
): Counts {
  const counts: Record<string, string> = {};
  for (const { ir, firstCounter } of policy.tables) {
    for (const chain of ir.chains.values()) {
      const first = SYSTEM_COUNTERS + firstCounter;
      for (const rule of chain.rules) {
        put(counts, `${ir.table} ${chain.name} ${rule.source.rule}`, counter(first + rule.counter));
      }
      if (chain.policy !== undefined) {
        put(counts, `${ir.table} ${chain.name} 0`, counter(first + chain.policy.counter));
      }
    }
  }
  return counts;
}

function put(
  counts: Record<string, string>,
  key: string,
  value: { readonly packets: bigint; readonly bytes: bigint },
): void {
  if (value.packets !== 0n || value.bytes !== 0n) counts[key] = `${value.packets}:${value.bytes}`;
}
