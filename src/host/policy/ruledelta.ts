/**
 * What becomes of rules that somebody holds as objects and changes: the same object is the same rule. So nothing is printed
 * but what is new, and long chains are only walked along.
 */
import { keyOf } from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';
import { type Chain, printRule, type Rule, type Ruleset } from '../../rules/index.ts';
import { diffLines } from './chaindiff.ts';
import { type ChainPlan, type EditPlan, LoadWhole, type PlannedPiece, unchanged } from './editplan.ts';
import { afterRename, type ChainRename } from './note.ts';

interface PlacedChain {
  readonly family: Family;
  readonly table: string;
  readonly chain: Chain;
}

/** What changes, and the rules that are new. */
export interface RuleDelta extends Pick<EditPlan, 'chains' | 'removed' | 'renamed'> {
  readonly fresh: readonly (readonly Rule[])[];
}

/** @param linesOf the lines of a live chain, by key @throws {LoadWhole} when tables come or go */
export function diffRules(
  live: readonly Ruleset[],
  wanted: readonly Ruleset[],
  linesOf: (key: string) => readonly string[],
): RuleDelta {
  const before = placed(live);
  const after = placed(wanted);
  const gone = [...before.keys()].filter((key) => !after.has(key));
  const come = [...after.keys()].filter((key) => !before.has(key));
  if ([...gone.map((key) => before.get(key)!), ...come.map((key) => after.get(key)!)].some(isBuiltIn))
    throw new LoadWhole('tables come or go');
  const renamed: ChainRename[] = [];
  const named = new Map<string, string>();
  for (const key of come) {
    const { family, table, chain } = after.get(key)!;
    const from = gone.find((one) => !named.has(one) && isSame(before.get(one)!, after.get(key)!));
    if (from === undefined) continue;
    named.set(from, key);
    renamed.push({ family, table, chain: before.get(from)!.chain.name, to: chain.name });
  }
  const formerly = new Map([...named].map(([from, key]) => [key, from]));
  const chains: ChainPlan[] = [];
  const fresh: Rule[][] = [];
  for (const [key, { family, table, chain }] of after) {
    const from = formerly.get(key) ?? key;
    const old = before.get(from)?.chain;
    const added: Rule[] = [];
    const renames = renamed.filter((one) => one.family === family && one.table === table);
    const lines = (first: number, end: number): readonly string[] =>
      linesOf(from)
        .slice(first, end)
        .map((line) => renames.reduce((text, rename) => afterRename(text, rename), line));
    const pieces = piecesOf(old?.rules ?? [], chain.rules, lines, (rule) => {
      added.push(rule);
      return printRule(rule, chain.name, family);
    });
    const changesPolicy = old !== undefined && old.policy !== chain.policy;
    if (old !== undefined && pieces === undefined && !changesPolicy) continue;
    chains.push({
      family,
      table,
      chain: chain.name,
      added: old === undefined,
      pieces: pieces ?? unchanged(chain.rules.length),
      ...(changesPolicy ? { policy: chain.policy === 'DROP' ? 'DROP' : 'ACCEPT' } : {}),
    });
    fresh.push(added);
  }
  return { chains, removed: gone.filter((key) => !named.has(key)), renamed, fresh };
}

function placed(rulesets: readonly Ruleset[]): Map<string, PlacedChain> {
  const chains = new Map<string, PlacedChain>();
  for (const { family, tables } of rulesets) {
    for (const { name: table, chains: own } of tables)
      for (const chain of own) chains.set(keyOf(family, table, chain.name), { family, table, chain });
  }
  return chains;
}

function isBuiltIn({ chain: { policy } }: PlacedChain): boolean {
  return policy !== undefined;
}

/** The same chain under another name. */
function isSame(a: PlacedChain, b: PlacedChain): boolean {
  const { rules } = b.chain;
  return (
    a.family === b.family &&
    a.table === b.table &&
    rules.length > 0 &&
    a.chain.rules.length === rules.length &&
    a.chain.rules.every((rule, index) => rule === rules[index])
  );
}

/** How many of the first rules, `most` at most, are the same. By itself, so that it stays fast whatever its callers do. */
export function sameInFront(a: readonly Rule[], b: readonly Rule[], most: number): number {
  for (let index = 0; index < most; index++) if (a[index] !== b[index]) return index;
  return most;
}

/** How many of the last rules, `most` at most, are the same. */
function sameBehind(a: readonly Rule[], b: readonly Rule[], most: number): number {
  for (let count = 0, of = a.length - 1, to = b.length - 1; count < most; count++, of--, to--)
    if (a[of] !== b[to]) return count;
  return most;
}

/** `undefined`: nothing changes. Rules between the first and the last that differ are compared by their lines. */
function piecesOf(
  old: readonly Rule[],
  fresh: readonly Rule[],
  oldLines: (first: number, end: number) => readonly string[],
  print: (rule: Rule) => string,
): PlannedPiece[] | undefined {
  const shorter = Math.min(old.length, fresh.length);
  const front = sameInFront(old, fresh, shorter);
  if (front === old.length && old.length === fresh.length) return undefined;
  const back = sameBehind(old, fresh, shorter - front);
  const pieces: PlannedPiece[] = front > 0 ? [{ from: 0, to: front }] : [];
  const between = fresh.slice(front, fresh.length - back).map(print);
  const end = old.length - back;
  const changed =
    end === front || between.length === 0
      ? between.map((line) => ({ line }))
      : diffLines(oldLines(front, end), between);
  for (const piece of changed ?? unchanged(between.length)) {
    if ('line' in piece) pieces.push(piece);
    else pieces.push({ from: piece.from + front, to: piece.to + front });
  }
  if (back > 0) pieces.push({ from: end, to: old.length });
  return pieces;
}
