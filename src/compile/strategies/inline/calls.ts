/**
 * Where chains return to. Rules that packets come to cannot make a loop of chains, so a chain is active at most once at a
 * time, and its level, the longest way to it from a built-in chain, grows along every way: one word a level holds all
 * return sites. Behind a verdict without conditions chains may call each other in a circle (mark_source_chains,
 * net/ipv4/netfilter/ip_tables.c).
 */
import type { IrChain, IrRule } from '../../../ir/index.ts';

/** A place that a chain returns to: behind a jump, or the policy of a built-in chain that was left by goto. */
export interface ReturnSite {
  /** Number of the site within the program section, from 1. */
  readonly id: number;
  readonly chain: string;
  /** Index of the rule that jumped; `undefined`: the chain's policy. */
  readonly rule: number | undefined;
}

export interface CallPlan {
  /** Chains that packets can come to, the built-in one first, callers before the chains they call. */
  readonly order: readonly IrChain[];
  /** These and what is called only behind a verdict without conditions: a change of rules may bring it to light. */
  readonly named: readonly IrChain[];
  readonly level: ReadonlyMap<string, number>;
  /** Sites of each user chain. */
  readonly sites: ReadonlyMap<string, readonly ReturnSite[]>;
  /** Rules of all named chains. */
  readonly rules: number;
}

/** The rules of a chain that packets can come to: up to a verdict without conditions. */
export function walkedRules({ rules }: IrChain): readonly IrRule[] {
  const end = rules.findIndex(
    ({ predicates, action: { kind } }) =>
      predicates.length === 0 && (kind === 'accept' || kind === 'drop' || kind === 'return'),
  );
  return end < 0 ? rules : rules.slice(0, end + 1);
}

/** Plans that were made, by the chains that they are of: lowered chains do not change, and many parts ask for the same plan. */
const plansOf = new WeakMap<ReadonlyMap<string, IrChain>, Map<string, CallPlan>>();

/** @throws RangeError when chains call each other in a circle, or a chain is missing: a checked ruleset has neither */
export function planCalls(chains: ReadonlyMap<string, IrChain>, base: string): CallPlan {
  const plans = plansOf.get(chains) ?? new Map<string, CallPlan>();
  plansOf.set(chains, plans);
  const plan = plans.get(base) ?? makePlan(chains, base);
  plans.set(base, plan);
  return plan;
}

function makePlan(chains: ReadonlyMap<string, IrChain>, base: string): CallPlan {
  const order = topologicalOrder(chains, base);
  const named = withUnwalked(chains, order);
  const level = new Map<string, number>([[base, 0]]);
  const sites = new Map<string, ReturnSite[]>();
  const policy: ReturnSite = { id: 1, chain: base, rule: undefined };
  sites.set(base, [policy]);
  let lastId = policy.id;
  for (const chain of order) {
    const own = level.get(chain.name)!;
    for (const [index, rule] of walkedRules(chain).entries()) {
      const { action } = rule;
      if (action.kind !== 'jump' && action.kind !== 'goto') continue;
      level.set(action.chain, Math.max(level.get(action.chain) ?? 0, own + 1));
      const known = sites.get(action.chain) ?? [];
      sites.set(action.chain, known);
      if (action.kind === 'jump') {
        lastId += 1;
        known.push({ id: lastId, chain: chain.name, rule: index });
      } else {
        for (const site of sites.get(chain.name)!) if (!known.includes(site)) known.push(site);
      }
    }
  }
  for (const all of sites.values()) all.sort((a, b) => a.id - b.id);
  const rules = named.reduce((sum, chain) => sum + chain.rules.length, 0);
  return { order, named, level, sites, rules };
}

function withUnwalked(chains: ReadonlyMap<string, IrChain>, order: readonly IrChain[]): IrChain[] {
  const named = new Set(order);
  for (const chain of named) {
    for (const { action } of chain.rules) {
      if (action.kind === 'jump' || action.kind === 'goto') named.add(chainOf(chains, action.chain));
    }
  }
  return [...named];
}

function chainOf(chains: ReadonlyMap<string, IrChain>, name: string): IrChain {
  const chain = chains.get(name);
  if (chain === undefined) throw new RangeError(`chain ${name} does not exist`);
  return chain;
}

function topologicalOrder(chains: ReadonlyMap<string, IrChain>, base: string): IrChain[] {
  const finished: IrChain[] = [];
  const state = new Map<string, 'open' | 'done'>();
  // An explicit stack: real rulesets have thousands of chains, one behind the other in generated ones.
  const stack: { chain: IrChain; rules: readonly IrRule[]; next: number }[] = [];
  const enter = (name: string): void => {
    const chain = chainOf(chains, name);
    if (state.get(name) === 'open') throw new RangeError(`chain ${name} calls itself`);
    if (state.get(name) === 'done') return;
    state.set(name, 'open');
    stack.push({ chain, rules: walkedRules(chain), next: 0 });
  };
  enter(base);
  while (stack.length > 0) {
    const top = stack[stack.length - 1]!;
    const rule = top.rules[top.next];
    if (rule === undefined) {
      state.set(top.chain.name, 'done');
      finished.push(top.chain);
      stack.pop();
      continue;
    }
    top.next += 1;
    if (rule.action.kind === 'jump' || rule.action.kind === 'goto') enter(rule.action.chain);
  }
  return finished.reverse();
}
