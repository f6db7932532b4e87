/**
 * `--allow-partial`: what takes the place of a rule that cannot be compiled, so that nothing is accepted that the whole
 * ruleset would drop.
 *
 * The conditions that can be compiled are kept, the others left out: the rule then matches at least the packets that it
 * should. Stateful conditions (limit, statistic) are left out too, and in all rules that decide anything: as soon as one rule
 * is replaced, other packets than before get to them, and they would answer otherwise.
 *
 * - ACCEPT on a condition of which it is certain for some packets that it holds (the connection state of TCP and UDP, where it
 *   is looked up) accepts those.
 * - Other ACCEPTs and rules that only look (LOG, no target) become "count and go on": the packets meet the rules behind, which may
 *   accept or drop them; what those accept, the whole ruleset would have accepted here or there. Conditions are still
 *   asked, for their hotdrops.
 *   A condition that is left out and could itself drop a packet (hotdrop) makes the rule DROP as well.
 * - Anything else (DROP, REJECT, RETURN, a jump, MARK, an unknown target) becomes DROP: skipping a chain, a RETURN or a mark
 *   could lead past a drop.
 */
import type { Action, IrChain, IrRule, IrTable, Predicate } from '../ir/index.ts';

/** What became of a rule: `narrow` accepts fewer packets than it should. */
export type Replacement = 'drop' | 'continue' | 'narrow';

/** Conditions that hold at most, and at least, when one holds that cannot be compiled; none where nothing is known. */
export interface Bounds {
  readonly certainly?: Predicate | undefined;
  readonly possibly?: Predicate | undefined;
}

export interface WeakenedRule {
  readonly rule: IrRule;
  readonly became: Replacement;
}

/**
 * The rule's stand-in. `keep` says which conditions can be compiled, `bounds` what can stand for the others; `known` is
 * false for a target without meaning here.
 */
export function weakenRule(
  rule: IrRule,
  keep: (predicate: Predicate) => boolean,
  bounds: (predicate: Predicate) => Bounds,
  known: boolean,
): WeakenedRule {
  // Conditions behind one that could have dropped the packet were not asked about then.
  const dropping = rule.predicates.findIndex((predicate) => !keep(predicate) && canHotdrop(predicate));
  const asked = dropping < 0 ? rule.predicates : rule.predicates.slice(0, dropping);
  if (known && rule.action.kind === 'accept' && dropping < 0 && !asked.some(isStateful)) {
    const certain = asked.flatMap((predicate) =>
      keep(predicate) ? predicate : (bounds(predicate).certainly ?? []),
    );
    if (certain.length === asked.length) return { rule: { ...rule, predicates: certain }, became: 'narrow' };
  }
  const predicates = asked.flatMap((predicate) => {
    if (!keep(predicate)) return bounds(predicate).possibly ?? [];
    return isStateful(predicate) ? [] : predicate;
  });
  const became: Replacement = known && isHarmless(rule.action) && dropping < 0 ? 'continue' : 'drop';
  return { rule: { ...rule, predicates, action: { kind: became } }, became };
}

/** The table with rules replaced where `replace` gives another; counters and numbers stay. */
export function replaceRules(table: IrTable, replace: (rule: IrRule) => IrRule): IrTable {
  const chains = new Map<string, IrChain>();
  for (const [name, chain] of table.chains) chains.set(name, { ...chain, rules: chain.rules.map(replace) });
  return { ...table, chains };
}

function isHarmless(action: Action): boolean {
  return action.kind === 'accept' || action.kind === 'continue' || action.kind === 'log';
}

/** True for rules that must be replaced when any other is: their answer depends on which packets were asked about before. */
export function dependsOnHistory(rule: IrRule): boolean {
  return rule.action.kind !== 'continue' && rule.action.kind !== 'log' && rule.predicates.some(isStateful);
}

function isStateful(predicate: Predicate): boolean {
  switch (predicate.kind) {
    case 'limit':
    case 'statistic':
    case 'set':
      return true;
    case 'all':
    case 'any':
      return predicate.of.some(isStateful);
    case 'not':
      return isStateful(predicate.of);
    default:
      return false;
  }
}

/** The sources of hotdrop: see the head of src/ir/predicate.ts. An IPv6 protocol is one, too. */
function canHotdrop(predicate: Predicate): boolean {
  switch (predicate.kind) {
    case 'transport':
    case 'tcp-option':
    case 'sctp-chunks':
    case 'extension-header':
      return true;
    case 'scalar':
      return predicate.field === 'ip.protocol';
    case 'all':
    case 'any':
      return predicate.of.some(canHotdrop);
    case 'not':
      return canHotdrop(predicate.of);
    default:
      return false;
  }
}
