/** Which counter of a new generation goes on from which of the old one: the same rule at the same turn in the same chain. */
import type { GenerationDocument } from './document.ts';
import type { LiveGeneration } from './generation.ts';

/** Counter indexes of every rule and policy, by what makes them the same over a replacement. */
function counterKeys(document: GenerationDocument): Map<string, number> {
  const keys = new Map<string, number>();
  const rules = rulesOf(document);
  for (const { family, table, chain, first, policy } of document.chains) {
    const seen = new Map<string, number>();
    for (const [index, text] of (rules.get(`${family} ${table} ${chain}`) ?? []).entries()) {
      const turn = (seen.get(text) ?? 0) + 1;
      seen.set(text, turn);
      keys.set(`${family} ${table} ${text} ${turn}`, first + index);
    }
    if (policy !== undefined)
      keys.set(`${family} ${table} :${chain} ${policyOf(document, family, table, chain)}`, policy);
  }
  return keys;
}

/** Canonical rule lines of each chain, in order. */
function rulesOf(document: GenerationDocument): Map<string, string[]> {
  const chains = new Map<string, string[]>();
  for (const { family, text } of document.rulesets) {
    let table = '';
    for (const line of text.split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      const chain = /^-A (\S+)/.exec(line)?.[1];
      if (chain === undefined) continue;
      const key = `${family} ${table} ${chain}`;
      const known = chains.get(key);
      if (known === undefined) chains.set(key, [line]);
      else known.push(line);
    }
  }
  return chains;
}

function policyOf({ rulesets }: GenerationDocument, family: string, table: string, chain: string): string {
  const text = rulesets.find((one) => one.family === family)?.text ?? '';
  const start = text.indexOf(`*${table}\n`);
  const line = text.indexOf(`\n:${chain} `, start);
  return line < 0 ? '' : (text.slice(line + 1).split(' ', 2)[1] ?? '');
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
