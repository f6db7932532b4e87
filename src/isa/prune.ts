/**
 * Which emitted items are worth a slot: those that control can reach, less jumps to what follows anyway.
 *
 * The kernel refuses programs with instructions that no path reaches ("unreachable insn", kernel/bpf/verifier.c check_cfg).
 * Producers that write rules as they come leave such code behind: what stands after a rule that always ends the walk.
 */
import type { Item, LabelState } from './layout.ts';
import { EXIT, GOTOL, JA } from './opcode.ts';

/**
 * Indexes of the items to keep, ascending. Functions are kept from their labels on.
 * Labels that are used but not placed are left for the layout to complain about.
 */
export function reachableItems(
  items: readonly Item[],
  labels: readonly LabelState[],
  functions: readonly number[],
): number[] {
  const reached = new Uint8Array(items.length);
  const open = [...functions];
  const targetOf = (item: Item): number | undefined =>
    item.target === undefined ? undefined : labels[item.target.id]?.item;
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (let index = at; index < items.length && reached[index] === 0; index++) {
      reached[index] = 1;
      const item = items[index]!;
      const target = targetOf(item);
      if (target !== undefined) open.push(target);
      if (item.opcode === EXIT || item.opcode === JA || item.opcode === GOTOL) break;
    }
  }
  // A jump to the next item that stays; taking one away can make another one such, so from the end to the front.
  let following = items.length;
  for (let index = items.length - 1; index >= 0; index--) {
    if (reached[index] === 0) continue;
    const item = items[index]!;
    const target = item.opcode === JA ? targetOf(item) : undefined;
    if (target !== undefined && target > index && nextKept(reached, target) === following) reached[index] = 0;
    else following = index;
  }
  const kept: number[] = [];
  for (let index = 0; index < items.length; index++) if (reached[index] === 1) kept.push(index);
  return kept;
}

function nextKept(reached: Uint8Array, from: number): number {
  let index = from;
  while (index < reached.length && reached[index] === 0) index++;
  return index;
}
