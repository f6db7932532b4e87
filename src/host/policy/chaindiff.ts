/** What changes from one list of rules to another, as the carrying of counters sees it: the n-th rule of a text stays that. */
import type { ChainLines } from './rulelines.ts';

/** Rules that one change may put in or take out; more are loaded whole. */
const MAX_CHANGED = 256;

/** How one chain changes. */
export interface ChainDifference {
  readonly live: ChainLines;
  readonly wanted: ChainLines;
  /** Rules at the front and at the end that stay as they are. */
  readonly front: number;
  readonly back: number;
  /** Those between, as they shall be: the place that each has in the live chain, or none. */
  readonly between: readonly (number | undefined)[];
}

/** Chains that differ, or why they are not compared further. */
export function diffChains(
  live: ReadonlyMap<string, ChainLines>,
  wanted: ReadonlyMap<string, ChainLines>,
): readonly ChainDifference[] | string {
  if (live.size !== wanted.size || [...live.keys()].some((key) => !wanted.has(key)))
    return 'chains come or go';
  const differences: ChainDifference[] = [];
  let changed = 0;
  for (const [key, before] of live) {
    const after = wanted.get(key)!;
    const difference = diffChain(before, after);
    if (typeof difference === 'string') return difference;
    if (difference === undefined) continue;
    changed += changedRules(difference);
    if (changed > MAX_CHANGED) return `more than ${MAX_CHANGED} rules change`;
    differences.push(difference);
  }
  return differences;
}

/** Rules put in and taken out. */
export function changedRules({ live, front, back, between }: ChainDifference): number {
  const kept = between.filter((place) => place !== undefined).length;
  return between.length - kept + (live.lines.length - front - back - kept);
}

function diffChain(live: ChainLines, wanted: ChainLines): ChainDifference | string | undefined {
  const old = live.lines;
  const fresh = wanted.lines;
  const shorter = Math.min(old.length, fresh.length);
  let front = 0;
  while (front < shorter && old[front] === fresh[front]) front += 1;
  let back = 0;
  while (back < shorter - front && old.at(-1 - back) === fresh.at(-1 - back)) back += 1;
  if (front === old.length && old.length === fresh.length && live.policy === wanted.policy) return undefined;
  const oldBetween = old.slice(front, old.length - back);
  const freshBetween = fresh.slice(front, fresh.length - back);
  const places = new Map<string, number[]>();
  for (const [index, line] of oldBetween.entries()) {
    const known = places.get(line);
    if (known === undefined) places.set(line, [front + index]);
    else known.push(front + index);
  }
  const turns = new Map<string, number>();
  const between = freshBetween.map((line) => {
    const turn = turns.get(line) ?? 0;
    turns.set(line, turn + 1);
    return places.get(line)?.[turn];
  });
  // Where the same rule stands further behind, it would be another turn of its text.
  const shifted = new Set(
    [...oldBetween, ...freshBetween].filter(
      (line) => (places.get(line)?.length ?? 0) !== (turns.get(line) ?? 0),
    ),
  );
  if (shifted.size > 0 && old.slice(old.length - back).some((line) => shifted.has(line)))
    return 'a rule comes or goes before one that says the same';
  return { live, wanted, front, back, between };
}
