/**
 * One 8-byte slot of a program, the fields of `struct bpf_insn`.
 *
 * A program is an array of slots, so that an array index, a jump distance and the kernel's own numbering are the same
 * thing. `ld_imm64` takes two slots: its own, with the low 32 bits in `imm`, and a second with opcode 0 and the high 32.
 */
export interface Instruction {
  /** u8 */
  readonly opcode: number;
  /** u4: 0..10 */
  readonly dst: number;
  /** u4: a register, or a pseudo kind (`BPF_PSEUDO_…`) for `ld_imm64` and calls */
  readonly src: number;
  /** s16 */
  readonly off: number;
  /** s32 */
  readonly imm: number;
}

/** Builds a slot; absent fields are zero. Fields are not checked here: see `checkProgram`. */
export function instruction(opcode: number, dst = 0, src = 0, off = 0, imm = 0): Instruction {
  return { opcode, dst, src, off, imm };
}

/** The 64-bit constant of the `ld_imm64` at `index`, unsigned. */
export function wideImmediate(program: readonly Instruction[], index: number): bigint {
  const low = BigInt(program[index]!.imm >>> 0);
  const high = BigInt(program[index + 1]!.imm >>> 0);
  return (high << 32n) | low;
}
