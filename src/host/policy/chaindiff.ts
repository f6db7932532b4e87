/** What changes from one list of rules to another, as the carrying of counters sees it: the n-th rule of a text stays that. */
import { type ChainPlan, type PlannedPiece, unchanged } from './editplan.ts';
import type { ChainLines } from './rulelines.ts';

/** What becomes of chains: those that differ or come, and the keys of those that go. */
export interface ChainsDifference {
  readonly chains: readonly ChainPlan[];
  readonly removed: readonly string[];
}

/** Chains that differ, or why they are not compared further. Keys are family, table and name with blanks between. */
export function diffChains(
  live: ReadonlyMap<string, Pick<ChainLines, 'policy' | 'lines'>>,
  wanted: ReadonlyMap<string, ChainLines>,
): ChainsDifference | string {
  const chains: ChainPlan[] = [];
  for (const [key, after] of wanted) {
    const { family, table, chain } = after;
    const before = live.get(key);
    if (before === undefined && after.policy !== '-') return `table ${table} comes`;
    const pieces = diffLines(before?.lines ?? [], after.lines);
    const changesPolicy = before !== undefined && before.policy !== after.policy;
    if (before !== undefined && pieces === undefined && !changesPolicy) continue;
    chains.push({
      family,
      table,
      chain,
      added: before === undefined,
      pieces: pieces ?? unchanged(after.lines.length),
      ...(changesPolicy ? { policy: after.policy === 'DROP' ? 'DROP' : 'ACCEPT' } : {}),
    });
  }
  const removed: string[] = [];
  for (const [key, { policy }] of live) {
    if (wanted.has(key)) continue;
    if (policy !== '-') return 'a table goes away';
    removed.push(key);
  }
  return { chains, removed };
}

/** The pieces of the new list; `undefined`: it is the old one. */
export function diffLines(old: readonly string[], fresh: readonly string[]): PlannedPiece[] | undefined {
  const shorter = Math.min(old.length, fresh.length);
  let front = 0;
  while (front < shorter && old[front] === fresh[front]) front += 1;
  if (front === old.length && old.length === fresh.length) return undefined;
  let back = 0;
  while (back < shorter - front && old.at(-1 - back) === fresh.at(-1 - back)) back += 1;
  const places = new Map<string, number[]>();
  for (let index = front; index < old.length - back; index++) {
    const known = places.get(old[index]!);
    if (known === undefined) places.set(old[index]!, [index]);
    else known.push(index);
  }
  // A rule that comes or goes before one that says the same is another turn of its text: those move, too.
  const shifted = new Set<string>(places.keys());
  for (let index = front; index < fresh.length - back; index++) shifted.add(fresh[index]!);
  const end = old.length - back;
  let last = old.length;
  while (last > end && !shifted.has(old[last - 1]!)) last -= 1;
  for (let index = end; index < last; index++) {
    const known = places.get(old[index]!);
    if (known === undefined) places.set(old[index]!, [index]);
    else known.push(index);
  }
  const turns = new Map<string, number>();
  const pieces: PlannedPiece[] = front > 0 ? [{ from: 0, to: front }] : [];
  for (let index = front; index < fresh.length - (old.length - last); index++) {
    const line = fresh[index]!;
    const turn = turns.get(line) ?? 0;
    turns.set(line, turn + 1);
    const from = places.get(line)?.[turn];
    const before = pieces.at(-1);
    if (from === undefined) pieces.push({ line });
    else if (before !== undefined && 'from' in before && before.to === from)
      pieces[pieces.length - 1] = { from: before.from, to: from + 1 };
    else pieces.push({ from, to: from + 1 });
  }
  if (last < old.length) pieces.push({ from: last, to: old.length });
  return pieces;
}
