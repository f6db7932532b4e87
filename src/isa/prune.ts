/**
 * Which emitted items are worth a slot, and where their jumps go: what control cannot reach is left out, a jump to a jump goes to
 * where that one goes, a branch around a jump becomes the opposite branch, and nothing jumps to what follows anyway.
 *
 * The kernel refuses programs with instructions that no path reaches ("unreachable insn", kernel/bpf/verifier.c check_cfg).
 * Producers that write rules as they come leave such code behind: what stands after a rule that always ends the walk.
 */
import type { Item, LabelState } from './layout.ts';
import {
  BPF_JMP,
  BPF_JMP32,
  classOf,
  EXIT,
  GOTOL,
  JA,
  JUMP_CONDITIONS,
  type JumpCondition,
  operationOf,
} from './opcode.ts';

/** An item that is kept, with its place among those emitted. */
export interface KeptItem {
  readonly index: number;
  readonly item: Item;
}

const OPPOSITE: Partial<Record<JumpCondition, JumpCondition>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>',
  's<': 's>=',
  's>=': 's<',
  's>': 's<=',
  's<=': 's>',
};
const OPPOSITE_CODE: ReadonlyMap<number, number> = new Map(
  Object.entries(OPPOSITE).map(([condition, opposite]) => [
    JUMP_CONDITIONS[condition as JumpCondition],
    JUMP_CONDITIONS[opposite],
  ]),
);

/**
 * The items to keep, in order. Functions are kept from their labels on.
 * Labels that are used but not placed are left for the layout to complain about.
 */
export function prunedItems(
  items: readonly Item[],
  labels: readonly LabelState[],
  functions: readonly number[],
): KeptItem[] {
  const placeOf = ({ target }: Item): number | undefined =>
    target === undefined ? undefined : labels[target.id]?.item;
  const final = items.map((item) => withFinalTarget(item, items, placeOf));
  const kept = reached(final, placeOf, functions);
  turnBranches(final, kept, placeOf, functions);
  dropIdleJumps(final, kept, placeOf);
  return final.map((item, index) => ({ index, item })).filter(({ index }) => kept[index] === 1);
}

type PlaceOf = (item: Item) => number | undefined;

/** A conditional jump, which tests and does nothing else (`may_goto` counts). */
function isBranch({ opcode, target }: Item): boolean {
  const jumpClass = classOf(opcode);
  return target !== undefined && (jumpClass === BPF_JMP || jumpClass === BPF_JMP32) && isCondition(opcode);
}

function isCondition(opcode: number): boolean {
  return CONDITION_CODES.has(operationOf(opcode));
}

const CONDITION_CODES: ReadonlySet<number> = new Set(Object.values(JUMP_CONDITIONS));

function withFinalTarget(item: Item, items: readonly Item[], placeOf: PlaceOf): Item {
  if (item.opcode !== JA && !isBranch(item)) return item;
  let { target } = item;
  // A circle of jumps goes nowhere else; it stays as it is.
  for (let steps = 0; steps < items.length; steps++) {
    const place = placeOf({ ...item, target });
    const next = place === undefined ? undefined : items[place];
    if (next?.opcode !== JA || next.target === undefined) return { ...item, target };
    target = next.target;
  }
  return item;
}

function reached(items: readonly Item[], placeOf: PlaceOf, functions: readonly number[]): Uint8Array {
  const seen = new Uint8Array(items.length);
  const open = [...functions];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (let index = at; index < items.length && seen[index] === 0; index++) {
      seen[index] = 1;
      const item = items[index]!;
      const target = placeOf(item);
      if (target !== undefined) open.push(target);
      if (item.opcode === EXIT || item.opcode === JA || item.opcode === GOTOL) break;
    }
  }
  return seen;
}

/** `if a goto next; goto far; next:` becomes `if not a goto far`. */
function turnBranches(items: Item[], kept: Uint8Array, placeOf: PlaceOf, functions: readonly number[]): void {
  const entered = new Set(functions);
  for (const [index, item] of items.entries()) {
    const place = kept[index] === 1 ? placeOf(item) : undefined;
    if (place !== undefined) entered.add(nextKept(kept, place));
  }
  for (const [index, item] of items.entries()) {
    if (kept[index] === 0 || !isBranch(item)) continue;
    const opposite = OPPOSITE_CODE.get(operationOf(item.opcode));
    const jump = nextKept(kept, index + 1);
    const place = placeOf(item)!;
    if (opposite === undefined || items[jump]?.opcode !== JA || entered.has(jump) || place <= jump) continue;
    if (nextKept(kept, place) !== nextKept(kept, jump + 1)) continue;
    const opcode = (item.opcode & ~0xf0) | opposite;
    items[index] = { ...item, opcode, target: items[jump]!.target };
    kept[jump] = 0;
  }
}

/** A jump to the next item that stays; taking one away can make another one such, so from the end to the front. */
function dropIdleJumps(items: readonly Item[], kept: Uint8Array, placeOf: PlaceOf): void {
  let following = items.length;
  for (let index = items.length - 1; index >= 0; index--) {
    if (kept[index] === 0) continue;
    const item = items[index]!;
    const target = item.opcode === JA || isBranch(item) ? placeOf(item) : undefined;
    if (target !== undefined && target > index && nextKept(kept, target) === following) kept[index] = 0;
    else following = index;
  }
}

function nextKept(kept: Uint8Array, from: number): number {
  let index = from;
  while (index < kept.length && kept[index] === 0) index++;
  return index;
}
