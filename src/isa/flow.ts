/** Control flow of a program: basic blocks, edges, dominators, what can never run. */
import { endsFlow, functionStarts, jumpDistance } from './check.ts';
import { slotsOf } from './codec.ts';
import type { Instruction } from './instruction.ts';
import { EXIT, GOTOL, JA } from './opcode.ts';

/** A maximal run of instructions entered only at its first and left only at its last. Indexes are slots. */
export interface BasicBlock {
  readonly id: number;
  /** First slot. */
  readonly start: number;
  /** Slot after the last. */
  readonly end: number;
  /** Blocks that may run next: the fall-through first, then the jump's target. */
  readonly successors: readonly number[];
  readonly predecessors: readonly number[];
  /** Block of the function that is entered from outside. */
  readonly entry: number;
}

export interface ControlFlow {
  readonly blocks: readonly BasicBlock[];
  /** Block of each slot. */
  readonly blockAt: Int32Array;
  /** Entry block of each function, by ascending start. */
  readonly entries: readonly number[];
  /** Immediate dominator of each block within its function; -1 for entries and for what cannot be reached. */
  readonly dominators: Int32Array;
  /** 1 for blocks that control can reach from their function's entry. */
  readonly reachable: Uint8Array;
}

/** Slots where the instruction may pass control, fall-through first. The program must have passed `checkProgram`. */
export function successorsOf(program: readonly Instruction[], index: number): number[] {
  const slot = program[index]!;
  if (slot.opcode === EXIT) return [];
  const distance = jumpDistance(slot);
  const next = index + slotsOf(slot);
  if (distance === undefined) return [next];
  const target = index + distance + 1;
  return slot.opcode === JA || slot.opcode === GOTOL ? [target] : [next, target];
}

/** Analyses a program that has passed `checkProgram`. Functions are analysed one by one: a call is an ordinary instruction. */
export function analyseFlow(program: readonly Instruction[]): ControlFlow {
  const functions = functionStarts(program);
  const isFunction = new Set(functions);
  const leader = new Uint8Array(program.length + 1);
  for (const start of functions) leader[start] = 1;
  for (let index = 0; index < program.length; index += slotsOf(program[index]!)) {
    const slot = program[index]!;
    if (jumpDistance(slot) !== undefined)
      for (const target of successorsOf(program, index)) leader[target] = 1;
    if (endsFlow(slot)) leader[index + 1] = 1;
  }

  const blockAt = new Int32Array(program.length).fill(-1);
  const bounds: { start: number; end: number; last: number; entry: number }[] = [];
  let entry = 0;
  for (let index = 0; index < program.length; ) {
    const start = index;
    const id = bounds.length;
    if (isFunction.has(start)) entry = id;
    let last = index;
    do {
      last = index;
      index += slotsOf(program[index]!);
    } while (index < program.length && leader[index] === 0);
    blockAt.fill(id, start, index);
    bounds.push({ start, end: index, last, entry });
  }

  const successors = bounds.map(({ last }) => [
    ...new Set(successorsOf(program, last).map((slot) => blockAt[slot]!)),
  ]);
  const predecessors: number[][] = bounds.map(() => []);
  for (const [id, targets] of successors.entries())
    for (const target of targets) predecessors[target]!.push(id);
  const blocks = bounds.map((bound, id) => ({
    id,
    start: bound.start,
    end: bound.end,
    entry: bound.entry,
    successors: successors[id]!,
    predecessors: predecessors[id]!,
  }));
  const entries = functions.map((start) => blockAt[start]!);
  const order = reversePostOrder(blocks, entries);
  const reachable = new Uint8Array(blocks.length);
  for (const id of order) reachable[id] = 1;
  return { blocks, blockAt, entries, dominators: findDominators(blocks, entries, order), reachable };
}

/** Depth first from each entry; iterative, because programs can be a million instructions long. */
function reversePostOrder(blocks: readonly BasicBlock[], entries: readonly number[]): number[] {
  const seen = new Uint8Array(blocks.length);
  const order: number[] = [];
  for (const entry of entries) {
    const finished: number[] = [];
    const stack = [{ id: entry, next: 0 }];
    seen[entry] = 1;
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const target = blocks[top.id]!.successors[top.next++];
      if (target === undefined) {
        finished.push(top.id);
        stack.pop();
      } else if (seen[target] === 0) {
        seen[target] = 1;
        stack.push({ id: target, next: 0 });
      }
    }
    for (const id of finished.reverse()) order.push(id);
  }
  return order;
}

/** Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm". */
function findDominators(
  blocks: readonly BasicBlock[],
  entries: readonly number[],
  order: readonly number[],
): Int32Array {
  const isEntry = new Set(entries);
  const rank = new Int32Array(blocks.length).fill(-1);
  for (const [position, id] of order.entries()) rank[id] = position;
  const immediate = new Int32Array(blocks.length).fill(-1);
  for (const entry of entries) immediate[entry] = entry;
  const meet = (a: number, b: number): number => {
    let left = a;
    let right = b;
    while (left !== right) {
      while (rank[left]! > rank[right]!) left = immediate[left]!;
      while (rank[right]! > rank[left]!) right = immediate[right]!;
    }
    return left;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const id of order) {
      if (isEntry.has(id)) continue;
      let dominator = -1;
      for (const from of blocks[id]!.predecessors) {
        if (immediate[from] === -1) continue;
        dominator = dominator === -1 ? from : meet(dominator, from);
      }
      if (immediate[id] !== dominator) {
        immediate[id] = dominator;
        changed = true;
      }
    }
  }
  for (const entry of entries) immediate[entry] = -1;
  return immediate;
}

/** Slots of all instructions that control cannot reach. */
export function unreachableSlots(program: readonly Instruction[], flow: ControlFlow): number[] {
  const slots: number[] = [];
  for (const block of flow.blocks) {
    if (flow.reachable[block.id] === 1) continue;
    for (let index = block.start; index < block.end; index += slotsOf(program[index]!)) slots.push(index);
  }
  return slots;
}
