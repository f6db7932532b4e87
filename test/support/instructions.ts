/** Random instructions and programs for property tests. */
import * as fc from 'fast-check';
import { type Instruction, instruction } from '../../src/isa/index.ts';
import * as op from '../../src/isa/opcode.ts';

const register = fc.integer({ min: 0, max: 10 });
/** Registers that may be written. */
const general = fc.integer({ min: 0, max: 9 });
export const imm32: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
  fc.constantFrom(0, 1, -1, 2, 31, 32, 63, 64, -0x80000000, 0x7fffffff),
);
const off16 = fc.integer({ min: -0x8000, max: 0x7fff });
const aluClass = fc.constantFrom(op.BPF_ALU, op.BPF_ALU64);
const jumpClass = fc.constantFrom(op.BPF_JMP, op.BPF_JMP32);

const plainOperation = fc.constantFrom(...Object.values(op.ALU_OPERATIONS));
const condition = fc.constantFrom(...Object.values(op.JUMP_CONDITIONS));

/** Arithmetic of every kind on r0..r9. */
export const arithmetic: fc.Arbitrary<Instruction> = fc.oneof(
  fc
    .tuple(aluClass, plainOperation, general, general)
    .map(([cls, { operation, off }, dst, src]) => instruction(cls | operation | op.BPF_X, dst, src, off)),
  fc
    .tuple(aluClass, plainOperation, general, imm32)
    .map(([cls, { operation, off }, dst, imm]) => instruction(cls | operation, dst, 0, off, imm)),
  fc.tuple(aluClass, general).map(([cls, dst]) => instruction(cls | op.BPF_NEG, dst)),
  fc
    .tuple(
      fc.constantFrom(op.BPF_ALU | op.BPF_END, op.BPF_ALU | op.BPF_END | op.BPF_X, op.BPF_ALU64 | op.BPF_END),
      general,
      fc.constantFrom(16, 32, 64),
    )
    .map(([code, dst, bits]) => instruction(code, dst, 0, 0, bits)),
  fc
    .tuple(general, general, fc.constantFrom(8, 16, 32))
    .map(([dst, src, bits]) => instruction(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst, src, bits)),
  fc
    .tuple(general, general, fc.constantFrom(8, 16))
    .map(([dst, src, bits]) => instruction(op.BPF_ALU | op.BPF_MOV | op.BPF_X, dst, src, bits)),
);

const size = fc.constantFrom(op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW);
const access: fc.Arbitrary<Instruction> = fc.oneof(
  fc
    .tuple(size, general, register, off16)
    .map(([width, dst, src, off]) => instruction(op.BPF_LDX | op.BPF_MEM | width, dst, src, off)),
  fc
    .tuple(fc.constantFrom(op.BPF_B, op.BPF_H, op.BPF_W), general, register, off16)
    .map(([width, dst, src, off]) => instruction(op.BPF_LDX | op.BPF_MEMSX | width, dst, src, off)),
  fc
    .tuple(size, register, off16, imm32)
    .map(([width, dst, off, imm]) => instruction(op.BPF_ST | op.BPF_MEM | width, dst, 0, off, imm)),
  fc
    .tuple(size, register, register, off16)
    .map(([width, dst, src, off]) => instruction(op.BPF_STX | op.BPF_MEM | width, dst, src, off)),
  fc
    .tuple(
      fc.constantFrom(op.BPF_W, op.BPF_DW),
      register,
      general,
      off16,
      fc.constantFrom(0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, op.BPF_XCHG, op.BPF_CMPXCHG),
    )
    .map(([width, dst, src, off, imm]) =>
      instruction(op.BPF_STX | op.BPF_ATOMIC | width, dst, src, off, imm),
    ),
  fc
    .tuple(size, general, general, off16, fc.constantFrom(op.BPF_LOAD_ACQ, op.BPF_STORE_REL))
    .map(([width, dst, src, off, imm]) =>
      instruction(op.BPF_STX | op.BPF_ATOMIC | width, dst, src, off, imm),
    ),
  fc
    .tuple(fc.constantFrom(op.BPF_B, op.BPF_H, op.BPF_W), imm32)
    .map(([width, imm]) => instruction(op.BPF_LD | op.BPF_ABS | width, 0, 0, 0, imm)),
  fc
    .tuple(fc.constantFrom(op.BPF_B, op.BPF_H, op.BPF_W), general, imm32)
    .map(([width, src, imm]) => instruction(op.BPF_LD | op.BPF_IND | width, 0, src, 0, imm)),
);

const control: fc.Arbitrary<Instruction> = fc.oneof(
  fc
    .tuple(jumpClass, condition, register, register, off16)
    .map(([cls, code, dst, src, off]) => instruction(cls | code | op.BPF_X, dst, src, off)),
  fc
    .tuple(jumpClass, condition, register, off16, imm32)
    .map(([cls, code, dst, off, imm]) => instruction(cls | code, dst, 0, off, imm)),
  off16.map((off) => instruction(op.JA, 0, 0, off)),
  off16.map((off) => instruction(op.MAY_GOTO, 0, 0, off)),
  imm32.map((imm) => instruction(op.GOTOL, 0, 0, 0, imm)),
  fc.integer({ min: 1, max: 211 }).map((id) => instruction(op.CALL, 0, 0, 0, id)),
  imm32.map((imm) => instruction(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, imm)),
  general.map((dst) => instruction(op.CALLX, dst)),
  fc.constant(instruction(op.EXIT)),
);

/** Any well-formed instruction of one slot, its operands at random. */
export const oneSlot: fc.Arbitrary<Instruction> = fc.oneof(
  arithmetic,
  access,
  control,
  fc
    .tuple(general, general, fc.constantFrom(1, 0x10000))
    .map(([dst, src, imm]) =>
      instruction(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst, src, op.BPF_ADDR_SPACE_CAST, imm),
    ),
);

/** A constant of 64 bits in its two slots. */
export const wideConstant: fc.Arbitrary<Instruction[]> = fc
  .tuple(general, imm32, imm32)
  .map(([dst, low, high]) => [instruction(op.LD_IMM64, dst, 0, 0, low), instruction(0, 0, 0, 0, high)]);

/** Runs of a property: more when a soak is asked for. */
export function runs(base: number): number {
  return process.env.SLUICE_SOAK === '1' ? base * 100 : base;
}
