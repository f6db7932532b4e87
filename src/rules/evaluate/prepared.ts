/** A ruleset made ready to be walked: per-rule memory and counters beside the rules, which stay untouched. */
import { HOOK_CHAINS, type Hook } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { MatchExtension, SharedMemories, TargetExtension } from '../extension.ts';
import type { Chain, Rule, Ruleset, Span, Table, TableName } from '../model.ts';
import { whySetFails } from '../sets/place.ts';
import type { SetDefinition } from '../sets/type.ts';
import { TABLE_HOOKS } from '../tables.ts';

export interface EvaluatedCounters {
  packets: bigint;
  bytes: bigint;
}

export interface EvaluatedRule {
  readonly rule: Rule;
  /** From 1, as iptables counts. */
  readonly number: number;
  readonly counters: EvaluatedCounters;
  /** Limit credit, nth counter, …: one for each match of the rule, `undefined` for stateless ones. */
  readonly memories: readonly unknown[];
}

export interface EvaluatedChain {
  readonly name: string;
  /** `undefined` for user chains: their end is RETURN. */
  readonly policy: 'ACCEPT' | 'DROP' | undefined;
  readonly policyCounters: EvaluatedCounters;
  readonly rules: readonly EvaluatedRule[];
}

export interface EvaluatedTable {
  readonly family: Family;
  readonly name: TableName;
  readonly chains: ReadonlyMap<string, EvaluatedChain>;
  /** How deep jumps may nest: more than there are user chains is a loop. */
  readonly stackSize: number;
}

/** A rule that parses and prints but has no semantics here, so nothing that contains it may run. */
export interface UnsupportedRule {
  readonly table: TableName;
  readonly chain: string;
  /** From 1. */
  readonly number: number;
  /** The match or target at fault, as written: "-m string", "-j DNAT". */
  readonly what: string;
  readonly span: Span;
}

/** Thrown before anything is evaluated; carries every such rule. */
export class UnsupportedRulesError extends Error {
  readonly code = 'RULE_NOT_EVALUABLE';
  readonly hint: string;
  readonly rules: readonly UnsupportedRule[];
  constructor(rules: readonly UnsupportedRule[]) {
    const first = rules[0]!;
    const more = rules.length === 1 ? '' : ` (and ${rules.length - 1} more)`;
    super(`${first.what} in ${first.table} ${first.chain} rule ${first.number} cannot be evaluated${more}`);
    this.name = 'UnsupportedRulesError';
    this.hint = 'remove or replace the rules listed; docs/reference/iptables.md says what can be evaluated';
    this.rules = rules;
  }
}

/**
 * Every rule that cannot be evaluated, in the order of the file.
 * @param withHost targets that need a host around the tables have one
 * @param sets the IP sets that rules may name
 */
export function unsupportedRules(
  ruleset: Ruleset,
  withHost = false,
  sets: KnownSets = NO_SETS,
): readonly UnsupportedRule[] {
  const found: UnsupportedRule[] = [];
  for (const table of ruleset.tables) {
    for (const chain of table.chains) {
      for (const [index, rule] of chain.rules.entries()) {
        for (const use of unsupportedUses(rule, withHost, sets)) {
          found.push({ table: table.name, chain: chain.name, number: index + 1, ...use });
        }
      }
    }
  }
  return found;
}

/** Sets by name; of those that are there more than the definition may be known. */
export type KnownSets = ReadonlyMap<string, { readonly definition: SetDefinition }>;
const NO_SETS: KnownSets = new Map();

function unsupportedUses(
  rule: Rule,
  withHost: boolean,
  sets: KnownSets,
): { readonly what: string; readonly span: Span }[] {
  const failing = (extension: MatchExtension | TargetExtension, state: unknown): string | undefined => {
    for (const reference of extension.sets?.(state) ?? []) {
      const why = whySetFails(reference, sets);
      if (why !== undefined) return why;
    }
    return undefined;
  };
  const uses: { readonly what: string; readonly span: Span }[] = [];
  for (const { extension, name, state, span } of rule.matches) {
    const why = failing(extension, state);
    if (extension.semantics === undefined) uses.push({ what: `-m ${name}`, span });
    else if (why !== undefined) uses.push({ what: `-m ${name} (${why})`, span });
  }
  const { target } = rule;
  const runs = (extension: TargetExtension): boolean =>
    extension.semantics !== undefined || (withHost && extension.effect !== undefined);
  if (target?.kind === 'extension' && !runs(target.extension)) {
    uses.push({ what: `-j ${target.name}`, span: target.span });
  } else if (target?.kind === 'extension') {
    const why = failing(target.extension, target.state);
    if (why !== undefined) uses.push({ what: `-j ${target.name} (${why})`, span: target.span });
  }
  return uses;
}

/**
 * Makes a table ready. Counters start at zero; stateful matches start as they do when the kernel loads the rule.
 * @param shared what rules share by name, one for all tables of a namespace
 */
export function prepareTable(
  table: Table,
  family: Family,
  nowMs: number,
  shared: SharedMemories = new Map(),
): EvaluatedTable {
  const chains = new Map(table.chains.map((chain) => [chain.name, prepareChain(chain, nowMs, shared)]));
  return {
    family,
    name: table.name,
    chains,
    stackSize: table.chains.filter((chain) => chain.policy === undefined).length,
  };
}

function prepareChain(chain: Chain, nowMs: number, shared: SharedMemories): EvaluatedChain {
  return {
    name: chain.name,
    policy: chain.policy,
    policyCounters: { packets: 0n, bytes: 0n },
    rules: chain.rules.map((rule, index) => ({
      rule,
      number: index + 1,
      counters: { packets: 0n, bytes: 0n },
      memories: rule.matches.map(({ extension, state }) =>
        extension.semantics?.memory?.(state, nowMs, shared),
      ),
    })),
  };
}

/** The built-in chain that a table runs at a hook; `undefined` when it has none there. */
export function baseChain(table: EvaluatedTable, hook: Hook): EvaluatedChain | undefined {
  return TABLE_HOOKS[table.name].includes(hook) ? table.chains.get(HOOK_CHAINS[hook]!) : undefined;
}
