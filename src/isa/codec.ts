/** Bytes <-> slots: 8 bytes each, little endian (RFC 9669 §3: the basic encoding on a little-endian host). */
import { IsaError } from './error.ts';
import type { Instruction } from './instruction.ts';
import { LD_IMM64 } from './opcode.ts';

/** Bytes of one slot. */
export const SLOT_BYTES = 8;

/**
 * Reads bytecode into slots. Only the framing is checked here; see `checkProgram` for the rest.
 *
 * @throws IsaError `ISA_TRUNCATED`
 */
export function decodeProgram(bytes: Uint8Array): Instruction[] {
  if (bytes.length % SLOT_BYTES !== 0) {
    throw new IsaError(
      'ISA_TRUNCATED',
      `${bytes.length} bytes are not a whole number of 8-byte instructions`,
      {
        hint: 'bytecode is a sequence of 8-byte instructions; the last one is cut off',
      },
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const program: Instruction[] = [];
  for (let at = 0; at < bytes.length; at += SLOT_BYTES) {
    const registers = view.getUint8(at + 1);
    program.push({
      opcode: view.getUint8(at),
      dst: registers & 0x0f,
      src: registers >> 4,
      off: view.getInt16(at + 2, true),
      imm: view.getInt32(at + 4, true),
    });
  }
  const last = lastOwnSlot(program);
  if (last !== undefined && program[last]!.opcode === LD_IMM64 && last === program.length - 1) {
    throw new IsaError('ISA_TRUNCATED', 'ld_imm64 lacks its second half', { index: last });
  }
  return program;
}

function lastOwnSlot(program: readonly Instruction[]): number | undefined {
  let last: number | undefined;
  for (let index = 0; index < program.length; index += slotsOf(program[index]!)) last = index;
  return last;
}

/** Slots that the instruction takes: 2 for `ld_imm64`, else 1. */
export function slotsOf(slot: Instruction): 1 | 2 {
  return slot.opcode === LD_IMM64 ? 2 : 1;
}

function inRange(value: number, low: number, high: number): boolean {
  return Number.isInteger(value) && value >= low && value <= high;
}

/**
 * Writes slots as bytecode.
 *
 * @throws IsaError `ISA_FIELD_RANGE` when a field does not fit its width
 */
export function encodeProgram(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, slot] of program.entries()) {
    const fits =
      inRange(slot.opcode, 0, 0xff) &&
      inRange(slot.dst, 0, 15) &&
      inRange(slot.src, 0, 15) &&
      inRange(slot.off, -0x8000, 0x7fff) &&
      inRange(slot.imm, -0x80000000, 0x7fffffff);
    if (!fits) {
      throw new IsaError('ISA_FIELD_RANGE', `a field does not fit its width: ${JSON.stringify(slot)}`, {
        index,
      });
    }
    const at = index * SLOT_BYTES;
    view.setUint8(at, slot.opcode);
    view.setUint8(at + 1, slot.dst | (slot.src << 4));
    view.setInt16(at + 2, slot.off, true);
    view.setInt32(at + 4, slot.imm, true);
  }
  return bytes;
}
