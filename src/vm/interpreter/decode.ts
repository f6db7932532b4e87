/** Writes a program's slots as the records that the interpreter walks. Slot i is record i. */

import * as op from '../../isa/index.ts';
import {
  BPF_PSEUDO_FUNC,
  classOf,
  functionStarts,
  type Instruction,
  jumpDistance,
  LD_IMM64,
  operationOf,
} from '../../isa/index.ts';
import * as layout from '../layout.ts';
import type { LinearMemory } from '../memory.ts';
import { handlerOf } from './handlers.ts';

/** Bytes of a decoded program, with the record behind it that catches control. */
export function decodedBytes(program: readonly Instruction[]): number {
  return (program.length + 1) * layout.RECORD_BYTES;
}

/** Writes the records at `address`. The program must have passed `checkProgram` and have no pseudo constants but functions. */
export function writeRecords(memory: LinearMemory, address: number, program: readonly Instruction[]): void {
  const { view } = memory;
  for (let index = 0; index < program.length; index++) {
    const slot = program[index]!;
    const at = address + index * layout.RECORD_BYTES;
    view.setUint16(at, handlerOf(slot), true);
    view.setUint8(at + layout.RECORD_DST, slot.dst * 8);
    view.setUint8(at + layout.RECORD_SRC, slot.src * 8);
    view.setInt32(at + layout.RECORD_OFF, offsetOf(slot), true);
    view.setInt32(at + layout.RECORD_IMM, slot.imm, true);
    view.setInt32(
      at + layout.RECORD_REGION,
      accessesMemory(slot) ? layout.EMPTY_REGION : slot.imm >> 31,
      true,
    );
    if (slot.opcode !== LD_IMM64) continue;
    const isFunction = slot.src === BPF_PSEUDO_FUNC;
    const low = isFunction ? at + (slot.imm + 1) * layout.RECORD_BYTES : slot.imm;
    view.setInt32(at + layout.RECORD_IMM, low, true);
    view.setInt32(at + layout.RECORD_IMM + 4, isFunction ? 0 : program[index + 1]!.imm, true);
    index++;
  }
}

/** Addresses of the records that begin functions. */
export function functionAddresses(program: readonly Instruction[], address: number): Set<number> {
  return new Set(functionStarts(program).map((start) => address + start * layout.RECORD_BYTES));
}

/** Jumps and calls of functions: distance in bytes of records. Else the slot's own offset. */
function offsetOf(slot: Instruction): number {
  const distance = slot.opcode === op.CALL && slot.src === op.BPF_PSEUDO_CALL ? slot.imm : jumpDistance(slot);
  return distance === undefined ? slot.off : (distance + 1) * layout.RECORD_BYTES;
}

function accessesMemory(slot: Instruction): boolean {
  const cls = classOf(slot.opcode);
  return cls === op.BPF_LDX || cls === op.BPF_ST || cls === op.BPF_STX;
}

export const isKfuncCall = (slot: Instruction): boolean =>
  slot.opcode === op.CALL &&
  operationOf(slot.opcode) === op.BPF_CALL &&
  slot.src === op.BPF_PSEUDO_KFUNC_CALL;
