/**
 * Reads program text in the kernel's notation: what `formatProgram` prints, the verifier's log, and old listings.
 *
 * A line is `[slot:] [(opcode)] instruction`. Slot numbers and opcodes are optional and checked where given.
 * Besides `pc+N`, jumps and calls may name a label (`name:` on a line of its own). `;` and `//` begin a remark.
 */
import { checkProgram } from './check.ts';
import { IsaError } from './error.ts';
import { matchInstruction, type ParsedInstruction } from './grammar.ts';
import { helperId, isHelperName } from './helper.ts';
import type { Instruction } from './instruction.ts';
import * as op from './opcode.ts';
import type { AssembledProgram, ProgramFunction, Reference } from './reference.ts';

const PREFIX = /^(?:(\d+):)?\s*(?:\(([0-9a-f]{2})\))?\s*(.*)$/;

/**
 * Parses and checks a program.
 *
 * @throws IsaError `ISA_SYNTAX` with the line; `ISA_LABEL` for unknown labels; what `checkProgram` throws
 */
export function parseProgram(text: string): AssembledProgram<undefined> {
  const parsed: { slot: ParsedInstruction; index: number; line: number }[] = [];
  const labels = new Map<string, number>();
  let length = 0;
  for (const [number, raw] of text.split('\n').entries()) {
    const line = number + 1;
    const source = raw.replace(/(;|\/\/).*$/, '').trim();
    if (source === '') continue;
    const label = /^([A-Za-z_.][\w.]*):$/.exec(source)?.[1];
    if (label !== undefined) {
      if (labels.has(label)) throw new IsaError('ISA_LABEL', `label ${label} is placed twice`, { line });
      labels.set(label, length);
      continue;
    }
    const [, slotNumber, opcode, body] = PREFIX.exec(source)!;
    if (slotNumber !== undefined && Number(slotNumber) !== length) {
      throw new IsaError('ISA_SYNTAX', `this is instruction ${length}, the text says ${slotNumber}`, {
        line,
      });
    }
    const slot = matchInstruction(body ?? '', opcode === undefined ? undefined : Number.parseInt(opcode, 16));
    if (slot === undefined) {
      throw new IsaError('ISA_SYNTAX', `not an instruction: ${body === '' ? source : body}`, {
        line,
        hint: 'the notation is that of the kernel\'s log, for example "r1 = *(u32 *)(r2 +4)"',
      });
    }
    if (opcode !== undefined && slot.opcode !== Number.parseInt(opcode, 16)) {
      const found = slot.opcode.toString(16).padStart(2, '0');
      throw new IsaError('ISA_SYNTAX', `the text says opcode ${opcode}, the instruction is ${found}`, {
        line,
      });
    }
    parsed.push({ slot, index: length, line });
    length += slot.opcode === op.LD_IMM64 ? 2 : 1;
  }
  return resolveLabels(parsed, labels);
}

function resolveLabels(
  parsed: readonly { slot: ParsedInstruction; index: number; line: number }[],
  labels: ReadonlyMap<string, number>,
): AssembledProgram<undefined> {
  const instructions: Instruction[] = [];
  const references = new Map<number, Reference>();
  const starts = new Set([0]);
  for (const { slot, index, line } of parsed) {
    const distanceTo = (name: string): number => {
      const target = labels.get(name);
      if (target === undefined) throw new IsaError('ISA_LABEL', `label ${name} is not placed`, { line });
      return target - index - 1;
    };
    let { src, off, imm } = slot;
    let reference = slot.reference;
    if (slot.callee !== undefined) {
      if (labels.has(slot.callee)) {
        src = op.BPF_PSEUDO_CALL;
        imm = distanceTo(slot.callee);
      } else if (isHelperName(slot.callee)) {
        imm = helperId(slot.callee);
      } else {
        src = op.BPF_PSEUDO_KFUNC_CALL;
        reference = { kind: 'kfunc', name: slot.callee };
      }
    } else if (slot.target !== undefined) {
      const distance = distanceTo(slot.target);
      if (slot.opcode === op.GOTOL || slot.opcode === op.LD_IMM64) imm = distance;
      else off = distance;
      if (off < -0x8000 || off > 0x7fff) {
        throw new IsaError('ISA_JUMP_RANGE', `label ${slot.target} is too far away`, {
          line,
          hint: 'use gotol',
        });
      }
    }
    const addressesFunction = slot.opcode === op.LD_IMM64 && src === op.BPF_PSEUDO_FUNC;
    const callsFunction = slot.opcode === op.CALL && src === op.BPF_PSEUDO_CALL;
    if (addressesFunction || callsFunction) starts.add(index + imm + 1);
    if (reference !== undefined) references.set(index, reference);
    instructions.push({ opcode: slot.opcode, dst: slot.dst, src, off, imm });
    if (slot.opcode === op.LD_IMM64) {
      instructions.push({ opcode: 0, dst: 0, src: 0, off: 0, imm: slot.high ?? 0 });
    }
  }
  const names = new Map([...labels].map(([name, start]) => [start, name]));
  const functions: ProgramFunction[] = [...starts]
    .sort((a, b) => a - b)
    .map((start) => ({ name: names.get(start) ?? (start === 0 ? 'main' : `function_${start}`), start }));
  checkProgram(instructions, { functions });
  return {
    instructions,
    references,
    tags: new Array<undefined>(instructions.length).fill(undefined),
    notes: new Map(),
    functions,
  };
}
