/** Which counter of a new generation goes on from which of the old one: the same rule at the same turn in the same chain. */
import { type GenerationDocument, ruleCounters } from './document.ts';
import type { LiveGeneration } from './generation.ts';
import { ruleLines } from './rulelines.ts';

/** Counter indexes of every rule and policy, by what makes them the same over a replacement. */
function counterKeys(document: GenerationDocument): Map<string, number> {
  const keys = new Map<string, number>();
  const rules = ruleLines(document.rulesets);
  for (const place of document.chains) {
    const { family, table, chain, policy } = place;
    const counters = ruleCounters(place);
    const known = rules.get(`${family} ${table} ${chain}`);
    const seen = new Map<string, number>();
    for (const [index, text] of (known?.lines ?? []).entries()) {
      const turn = (seen.get(text) ?? 0) + 1;
      seen.set(text, turn);
      keys.set(`${family} ${table} ${text} ${turn}`, counters[index]!);
    }
    if (policy !== undefined) keys.set(`${family} ${table} :${chain} ${known?.policy}`, policy);
  }
  return keys;
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
  const before = counterKeys(old.document);
  for (const [key, index] of counterKeys(fresh.document)) {
    const from = before.get(key);
    if (from !== undefined) fresh.generation.startCounter(index, old.generation.counter(from));
  }
}
