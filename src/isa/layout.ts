/**
 * From emitted items to slots: places labels and makes every jump reach its target.
 *
 * A 16-bit jump reaches 32,767 slots. An unconditional one that is too far becomes `gotol` (32 bits, Linux 6.6);
 * a conditional one becomes `if cond goto +1; goto +1; gotol target`. Lengthening a jump can push others out of range,
 * so the lengths are found by iterating to a fixed point (they only grow).
 */
import { IsaError } from './error.ts';
import type { Instruction } from './instruction.ts';
import { BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, CALL, GOTOL, JA, LD_IMM64 } from './opcode.ts';
import type { Reference } from './reference.ts';

/** A place in a program; made by `Assembler.label`. */
export interface Label {
  readonly id: number;
  readonly name: string;
}

/** A label and the item it stands before, once it is placed. */
export interface LabelState {
  readonly label: Label;
  item: number | undefined;
}

/** One emitted instruction, its jump or call still symbolic. */
export interface Item extends Instruction {
  /** Second immediate of `ld_imm64`. */
  readonly high: number;
  readonly reference: Reference | undefined;
  readonly target: Label | undefined;
}

/** The slots, and how they relate to the items. */
export interface Layout {
  readonly instructions: readonly Instruction[];
  readonly references: ReadonlyMap<number, Reference>;
  /** First slot of each item. */
  readonly starts: readonly number[];
  /** Item of each slot. */
  readonly origins: readonly number[];
}

export function makeLabel(id: number, name: string): Label {
  return { id, name };
}

/** @throws IsaError `ISA_LABEL` when a used label is not placed */
export function layOut(items: readonly Item[], labels: readonly LabelState[]): Layout {
  const far = new Uint8Array(items.length);
  const starts = new Array<number>(items.length + 1).fill(0);
  for (let changed = true; changed; ) {
    changed = false;
    let slot = 0;
    for (const [index, item] of items.entries()) {
      starts[index] = slot;
      slot += widthOf(item, far[index] === 1);
    }
    starts[items.length] = slot;
    for (const [index, item] of items.entries()) {
      if (item.target === undefined || far[index] === 1 || !isShortJump(item)) continue;
      const distance = targetSlot(item.target, index, labels, starts) - starts[index]! - 1;
      if (distance >= -0x8000 && distance <= 0x7fff) continue;
      far[index] = 1;
      changed = true;
    }
  }

  const instructions: Instruction[] = [];
  const references = new Map<number, Reference>();
  const origins: number[] = [];
  for (const [index, item] of items.entries()) {
    if (item.reference !== undefined) references.set(instructions.length, item.reference);
    emit(instructions, item, far[index] === 1, (at) =>
      item.target === undefined ? 0 : targetSlot(item.target, index, labels, starts) - at - 1,
    );
    while (origins.length < instructions.length) origins.push(index);
  }
  return { instructions, references, starts, origins };
}

function targetSlot(
  target: Label,
  index: number,
  labels: readonly LabelState[],
  starts: readonly number[],
): number {
  const state = labels[target.id];
  if (state?.label !== target) {
    throw new IsaError('ISA_LABEL', `label ${target.name} belongs to another assembler`, { index });
  }
  if (state.item === undefined) {
    throw new IsaError('ISA_LABEL', `label ${target.name} is used and never placed`, {
      index: starts[index]!,
    });
  }
  return starts[state.item]!;
}

/** Whether the item's distance goes into the 16-bit offset (calls and function addresses use the immediate). */
function isShortJump(item: Item): boolean {
  return !isCall(item) && item.opcode !== LD_IMM64;
}

function isCall(item: Item): boolean {
  return item.opcode === CALL && item.src === BPF_PSEUDO_CALL;
}

function widthOf(item: Item, far: boolean): number {
  if (item.opcode === LD_IMM64) return 2;
  return far && item.opcode !== JA ? 3 : 1;
}

function emit(out: Instruction[], item: Item, far: boolean, distanceFrom: (slot: number) => number): void {
  const { opcode, dst, src, off, imm } = item;
  const here = out.length;
  if (opcode === LD_IMM64) {
    const distance = src === BPF_PSEUDO_FUNC ? distanceFrom(here) : imm;
    out.push({ opcode, dst, src, off, imm: distance }, { opcode: 0, dst: 0, src: 0, off: 0, imm: item.high });
  } else if (item.target === undefined) {
    out.push({ opcode, dst, src, off, imm });
  } else if (isCall(item)) {
    out.push({ opcode, dst, src, off, imm: distanceFrom(here) });
  } else if (!far) {
    out.push({ opcode, dst, src, off: distanceFrom(here), imm });
  } else if (opcode === JA) {
    out.push({ opcode: GOTOL, dst: 0, src: 0, off: 0, imm: distanceFrom(here) });
  } else {
    out.push(
      { opcode, dst, src, off: 1, imm },
      { opcode: JA, dst: 0, src: 0, off: 1, imm: 0 },
      { opcode: GOTOL, dst: 0, src: 0, off: 0, imm: distanceFrom(here + 2) },
    );
  }
}
