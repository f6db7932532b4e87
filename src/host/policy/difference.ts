/** What replacing rules would change: rules added, removed and moved, chain policies, by canonical text. */
import { type Chain, printRule, type Ruleset } from '../../rules/index.ts';

export interface Change {
  readonly kind: 'added' | 'removed' | 'moved' | 'policy' | 'chain-added' | 'chain-removed';
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** Place in the live chain, from 1. */
  readonly before?: number;
  /** Place in the new chain, from 1. */
  readonly after?: number;
  /** The rule, or the policies before and after. */
  readonly text: string;
}

/** Changes in the order of the new rules, removals where they were. */
export function diffRulesets(live: readonly Ruleset[], wanted: readonly Ruleset[]): Change[] {
  const changes: Change[] = [];
  const keys = new Map<string, { live?: Chain; wanted?: Chain; family: Ruleset['family']; table: string }>();
  for (const [side, rulesets] of [
    ['live', live],
    ['wanted', wanted],
  ] as const) {
    for (const { family, tables } of rulesets) {
      for (const { name: table, chains } of tables) {
        for (const chain of chains) {
          const key = `${family} ${table} ${chain.name}`;
          keys.set(key, { ...keys.get(key), family, table, [side]: chain });
        }
      }
    }
  }
  for (const { live: before, wanted: after, family, table } of keys.values()) {
    const place = { family, table, chain: (after ?? before)!.name };
    if (before === undefined) changes.push({ kind: 'chain-added', ...place, text: after!.policy ?? '-' });
    if (after === undefined) changes.push({ kind: 'chain-removed', ...place, text: before!.policy ?? '-' });
    if (before !== undefined && after !== undefined && before.policy !== after.policy)
      changes.push({ kind: 'policy', ...place, text: `${before.policy ?? '-'} -> ${after.policy ?? '-'}` });
    changes.push(...diffRules(linesOf(before, family), linesOf(after, family), place));
  }
  return changes;
}

function linesOf(chain: Chain | undefined, family: Ruleset['family']): string[] {
  return chain?.rules.map((rule) => printRule(rule, chain.name, family)) ?? [];
}

function diffRules(
  before: readonly string[],
  after: readonly string[],
  place: Pick<Change, 'family' | 'table' | 'chain'>,
): Change[] {
  const pairs = pairUp(before, after);
  const kept = increasing(pairs);
  const changes: Change[] = [];
  const paired = new Set(pairs.map(([old]) => old));
  for (const [index, text] of before.entries())
    if (!paired.has(index)) changes.push({ kind: 'removed', ...place, before: index + 1, text });
  const oldOf = new Map(pairs.map(([old, fresh]) => [fresh, old]));
  for (const [index, text] of after.entries()) {
    const old = oldOf.get(index);
    if (old === undefined) changes.push({ kind: 'added', ...place, after: index + 1, text });
    else if (!kept.has(index))
      changes.push({ kind: 'moved', ...place, before: old + 1, after: index + 1, text });
  }
  return changes;
}

/** The n-th rule of a text stays the n-th rule of that text. Pairs [before, after], by `after`. */
function pairUp(before: readonly string[], after: readonly string[]): [number, number][] {
  const places = new Map<string, number[]>();
  for (const [index, text] of before.entries()) places.set(text, [...(places.get(text) ?? []), index]);
  const turns = new Map<string, number>();
  const pairs: [number, number][] = [];
  for (const [index, text] of after.entries()) {
    const turn = turns.get(text) ?? 0;
    const old = places.get(text)?.[turn];
    if (old === undefined) continue;
    turns.set(text, turn + 1);
    pairs.push([old, index]);
  }
  return pairs;
}

/** New places of a longest run of pairs whose order is the same before and after: the rules that did not move. */
function increasing(pairs: readonly (readonly [number, number])[]): Set<number> {
  const tails: number[] = [];
  const from: number[] = [];
  for (const [index, [old]] of pairs.entries()) {
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[tails[middle]!]![0] < old) low = middle + 1;
      else high = middle;
    }
    from[index] = low > 0 ? tails[low - 1]! : -1;
    tails[low] = index;
  }
  const kept = new Set<number>();
  for (let at = tails.at(-1) ?? -1; at >= 0; at = from[at]!) kept.add(pairs[at]![1]);
  return kept;
}
