/** A second implementation of eBPF arithmetic and comparison, in bigints straight from RFC 9669: the interpreter's oracle. */

import type { Instruction } from '../../src/isa/index.ts';
import * as op from '../../src/isa/index.ts';

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

/** Reverses the bytes of the low `bits`. */
function swap(value: bigint, bits: number): bigint {
  let out = 0n;
  for (let bit = 0; bit < bits; bit += 8) out = (out << 8n) | ((value >> BigInt(bit)) & 0xffn);
  return out;
}

function divide(a: bigint, b: bigint, width: 32 | 64, signed: boolean, remainder: boolean): bigint {
  if (b === 0n) return remainder ? a : 0n;
  if (!signed) return remainder ? a % b : a / b;
  const as = BigInt.asIntN(width, a);
  const bs = BigInt.asIntN(width, b);
  // Bigint division truncates towards zero, as the RFC wants; overflow wraps below.
  return remainder ? as % bs : as / bs;
}

/** New value of dst. `registers` are unsigned 64-bit values. */
export function calculate(slot: Instruction, registers: readonly bigint[]): bigint {
  const narrow = op.classOf(slot.opcode) === op.BPF_ALU;
  const width = narrow ? 32 : 64;
  const clip = narrow ? u32 : u64;
  const dst = clip(registers[slot.dst]!);
  const src = op.isRegisterSource(slot.opcode) ? clip(registers[slot.src]!) : clip(BigInt(slot.imm));
  const shift = src & BigInt(width - 1);
  const signed = slot.off === 1;
  switch (op.operationOf(slot.opcode)) {
    case op.BPF_ADD:
      return clip(dst + src);
    case op.BPF_SUB:
      return clip(dst - src);
    case op.BPF_MUL:
      return clip(dst * src);
    case op.BPF_DIV:
      return clip(divide(dst, src, width, signed, false));
    case op.BPF_MOD:
      return clip(divide(dst, src, width, signed, true));
    case op.BPF_OR:
      return dst | src;
    case op.BPF_AND:
      return dst & src;
    case op.BPF_XOR:
      return dst ^ src;
    case op.BPF_LSH:
      return clip(dst << shift);
    case op.BPF_RSH:
      return dst >> shift;
    case op.BPF_ARSH:
      return clip((narrow ? s32(dst) : s64(dst)) >> shift);
    case op.BPF_NEG:
      return clip(-dst);
    case op.BPF_MOV:
      return slot.off === 0 ? src : clip(BigInt.asIntN(slot.off, src));
    case op.BPF_END: {
      const low = BigInt.asUintN(slot.imm, registers[slot.dst]!);
      const toLittle = narrow && !op.isRegisterSource(slot.opcode);
      return toLittle ? low : swap(low, slot.imm);
    }
    default:
      throw new Error(`not arithmetic: ${slot.opcode}`);
  }
}

/** Whether a conditional jump is taken. */
export function holds(slot: Instruction, registers: readonly bigint[]): boolean {
  const narrow = op.classOf(slot.opcode) === op.BPF_JMP32;
  const clip = narrow ? u32 : u64;
  const sign = narrow ? s32 : s64;
  const a = clip(registers[slot.dst]!);
  const b = op.isRegisterSource(slot.opcode) ? clip(registers[slot.src]!) : clip(BigInt(slot.imm));
  switch (op.operationOf(slot.opcode)) {
    case op.BPF_JEQ:
      return a === b;
    case op.BPF_JNE:
      return a !== b;
    case op.BPF_JGT:
      return a > b;
    case op.BPF_JGE:
      return a >= b;
    case op.BPF_JLT:
      return a < b;
    case op.BPF_JLE:
      return a <= b;
    case op.BPF_JSET:
      return (a & b) !== 0n;
    case op.BPF_JSGT:
      return sign(a) > sign(b);
    case op.BPF_JSGE:
      return sign(a) >= sign(b);
    case op.BPF_JSLT:
      return sign(a) < sign(b);
    case op.BPF_JSLE:
      return sign(a) <= sign(b);
    default:
      throw new Error(`not a condition: ${slot.opcode}`);
  }
}
