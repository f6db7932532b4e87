/**
 * ipt_do_table() and ip6t_do_table() (net/ipv4/netfilter/ip_tables.c, net/ipv6/netfilter/ip6_tables.c): one table
 * at one hook, slow and obvious. Everything else in the project that decides packets must agree with this file.
 */
import type { QueueOutcome, TargetOutcome } from '../extension.ts';
import { type BaseFailure, failingBase } from './base.ts';
import type { EvaluationPacket } from './packet.ts';
import {
  baseChain,
  type EvaluatedChain,
  type EvaluatedCounters,
  type EvaluatedRule,
  type EvaluatedTable,
} from './prepared.ts';

/** Why a table ended: the rule or policy whose verdict it is, or a packet no rule may see. */
export type TableDecision =
  | { readonly kind: 'rule'; readonly chain: string; readonly rule: number }
  | { readonly kind: 'policy'; readonly chain: string }
  /** A match could not read what it had to (struct xt_action_param hotdrop); the rule was not counted. */
  | { readonly kind: 'hotdrop'; readonly chain: string; readonly rule: number };

export interface TableOutcome {
  /** QUEUE has no listener here; callers treat it as the kernel does then: DROP. */
  readonly verdict: 'ACCEPT' | 'DROP' | 'QUEUE';
  /** Which queue; absent: number 0, without bypass. */
  readonly queue?: QueueOutcome;
  readonly decision: TableDecision;
}

/** Why a rule did not match: a base condition, or the match at this index. */
export type RuleFailure =
  | { readonly kind: 'base'; readonly failure: BaseFailure }
  | { readonly kind: 'match'; readonly index: number; readonly hotdrop: boolean };

/** Told of everything the walk does, in order. */
export interface WalkObserver {
  matched?(chain: EvaluatedChain, rule: EvaluatedRule): void;
  missed?(chain: EvaluatedChain, rule: EvaluatedRule, failure: RuleFailure): void;
  policy?(chain: EvaluatedChain): void;
}

/** Thrown when a walk meets a rule that has no semantics: only where the ruleset was not refused up front. */
export class UnsupportedReachedError extends Error {
  readonly code = 'RULE_NOT_EVALUABLE';
  readonly chain: string;
  readonly rule: EvaluatedRule;
  readonly what: string;
  constructor(chain: string, rule: EvaluatedRule, what: string) {
    super(`${what} in ${chain} rule ${rule.number} cannot be evaluated`);
    this.name = 'UnsupportedReachedError';
    this.chain = chain;
    this.rule = rule;
    this.what = what;
  }
}

/** Runs the table's chain at the packet's hook. A table without a chain there accepts, counting nothing. */
export function evaluateTable(
  table: EvaluatedTable,
  packet: EvaluationPacket,
  observer: WalkObserver = {},
): TableOutcome | undefined {
  const base = baseChain(table, packet.hook);
  if (base === undefined) return undefined;
  const stack: { readonly chain: EvaluatedChain; readonly next: number }[] = [];
  let chain = base;
  let next = 0;

  for (;;) {
    const rule = chain.rules[next];
    // The end of a user chain is a RETURN, the end of a base chain its policy.
    if (rule === undefined && chain === base) return atPolicy(base, packet, observer);
    if (rule === undefined) {
      const caller = stack.pop();
      if (caller === undefined) return atPolicy(base, packet, observer);
      ({ chain, next } = caller);
      continue;
    }

    next++;
    const result = matchRule(rule, chain, packet);
    if (result.failure !== undefined) {
      observer.missed?.(chain, rule, result.failure);
      if (result.hotdrop) return dropped(chain, rule);
      continue;
    }
    count(rule.counters, packet);
    observer.matched?.(chain, rule);

    const decision = { kind: 'rule', chain: chain.name, rule: rule.number } as const;
    const { target } = rule.rule;
    if (result.hotdrop) {
      // The kernel looks at hotdrop only after the target: a LOG or MARK has its effect.
      if (target?.kind === 'extension') runTarget(rule, chain, packet);
      return dropped(chain, rule);
    }
    if (target === undefined) continue;
    if (target.kind === 'chain') {
      if (!target.goto) {
        if (stack.length >= table.stackSize) return { verdict: 'DROP', decision };
        stack.push({ chain, next });
      }
      chain = table.chains.get(target.chain)!;
      next = 0;
      continue;
    }
    const effect = target.kind === 'verdict' ? target.verdict : runTarget(rule, chain, packet);
    if (typeof effect === 'object') return { verdict: 'QUEUE', queue: effect, decision };
    if (effect === 'CONTINUE') continue;
    if (effect !== 'RETURN') return { verdict: effect, decision };
    const caller = stack.pop();
    if (caller === undefined) return atPolicy(base, packet, observer);
    ({ chain, next } = caller);
  }
}

function dropped(chain: EvaluatedChain, rule: EvaluatedRule): TableOutcome {
  return { verdict: 'DROP', decision: { kind: 'hotdrop', chain: chain.name, rule: rule.number } };
}

function runTarget(
  rule: EvaluatedRule,
  chain: EvaluatedChain,
  packet: EvaluationPacket,
): 'ACCEPT' | 'DROP' | 'RETURN' | 'CONTINUE' | QueueOutcome {
  const { target } = rule.rule;
  if (target?.kind !== 'extension') return 'CONTINUE';
  const { semantics, effect } = target.extension;
  if (effect !== undefined && packet.host !== undefined) {
    return inCapitals(effect(target.state, packet, packet.host));
  }
  if (semantics === undefined) throw new UnsupportedReachedError(chain.name, rule, `-j ${target.name}`);
  return inCapitals(semantics.evaluate(target.state, packet, undefined));
}

function inCapitals(outcome: TargetOutcome): 'ACCEPT' | 'DROP' | 'RETURN' | 'CONTINUE' | QueueOutcome {
  return typeof outcome === 'object' ? outcome : (outcome.toUpperCase() as Uppercase<typeof outcome>);
}

export interface RuleResult {
  /** The first condition that does not hold; `undefined` when the rule matches. */
  readonly failure: RuleFailure | undefined;
  /** The packet is to be dropped, whether the rule matched or not. */
  readonly hotdrop: boolean;
}

/** Base conditions, then matches in their order, until one does not hold. */
export function matchRule(rule: EvaluatedRule, chain: EvaluatedChain, packet: EvaluationPacket): RuleResult {
  const failure = failingBase(rule.rule.base, packet);
  if (failure !== undefined) return { failure: { kind: 'base', failure }, hotdrop: failure === 'hotdrop' };
  let hotdrop = false;
  const { matches } = rule.rule;
  for (let index = 0; index < matches.length; index++) {
    const use = matches[index]!;
    const { semantics } = use.extension;
    if (semantics === undefined) throw new UnsupportedReachedError(chain.name, rule, `-m ${use.name}`);
    const outcome = semantics.evaluate(use.state, packet, rule.memories[index]);
    if (outcome === 'hotdrop' || outcome === 'counted-hotdrop') hotdrop = true;
    if (outcome === false || outcome === 'hotdrop') {
      return { failure: { kind: 'match', index, hotdrop: outcome === 'hotdrop' }, hotdrop };
    }
  }
  return { failure: undefined, hotdrop };
}

function atPolicy(base: EvaluatedChain, packet: EvaluationPacket, observer: WalkObserver): TableOutcome {
  count(base.policyCounters, packet);
  observer.policy?.(base);
  return { verdict: base.policy ?? 'ACCEPT', decision: { kind: 'policy', chain: base.name } };
}

/** Before the target runs, with the length the packet has now. */
function count(counters: EvaluatedCounters, packet: EvaluationPacket): void {
  counters.packets += 1n;
  counters.bytes += BigInt(packet.length);
}
