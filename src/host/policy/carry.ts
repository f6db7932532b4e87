/** Which counter of a new generation goes on from which of the old one: the same rule at the same turn in the same chain. */
import type { GenerationDocument } from './document.ts';
import type { LiveGeneration } from './generation.ts';
import { type ChainState, RuleState } from './rulestate.ts';

/** Counter indexes of every rule and policy, by what makes them the same over a replacement. */
export function counterKeys(chains: Iterable<ChainState>): Map<string, number> {
  const keys = new Map<string, number>();
  for (const { family, table, chain, policy, lines, counters, policyCounter } of chains) {
    const seen = new Map<string, number>();
    for (const [index, text] of lines.entries()) {
      const turn = (seen.get(text) ?? 0) + 1;
      seen.set(text, turn);
      keys.set(`${family} ${table} ${text} ${turn}`, counters[index]!);
    }
    if (policyCounter !== undefined) keys.set(`${family} ${table} :${chain} ${policy}`, policyCounter);
  }
  return keys;
}

function keysOf(document: GenerationDocument): Map<string, number> {
  return counterKeys(new RuleState(document).chains.values());
}

/**
 * Lets the counters of rules that stay go on from the old generation's, which must have stopped counting. Doing it again
 * changes nothing.
 */
export function carryCounters(
  old: { readonly document: GenerationDocument; readonly generation: LiveGeneration },
  fresh: { readonly document: GenerationDocument; readonly generation: LiveGeneration },
): void {
  if (fresh.document.ownCounters) return;
  const before = keysOf(old.document);
  for (const [key, index] of keysOf(fresh.document)) {
    const from = before.get(key);
    if (from !== undefined) fresh.generation.startCounter(index, old.generation.counter(from));
  }
}
