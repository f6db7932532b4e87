/**
 * Numbers of the instruction set: RFC 9669 (classes, sizes, modes, operations) and the additions of
 * `include/uapi/linux/bpf.h` since (may_goto, address-space casts, load-acquire, store-release).
 *
 * An opcode is one byte. Arithmetic and jumps: `class | source | operation`; loads and stores: `class | size | mode`.
 */

// Instruction classes, bits 0..2 (RFC 9669 §3.1).
export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_ST = 0x02;
export const BPF_STX = 0x03;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
export const BPF_JMP32 = 0x06;
export const BPF_ALU64 = 0x07;

// Source of the second operand, bit 3 (RFC 9669 §4).
export const BPF_K = 0x00;
export const BPF_X = 0x08;

// Arithmetic operations, bits 4..7 (RFC 9669 §4.1).
export const BPF_ADD = 0x00;
export const BPF_SUB = 0x10;
export const BPF_MUL = 0x20;
export const BPF_DIV = 0x30;
export const BPF_OR = 0x40;
export const BPF_AND = 0x50;
export const BPF_LSH = 0x60;
export const BPF_RSH = 0x70;
export const BPF_NEG = 0x80;
export const BPF_MOD = 0x90;
export const BPF_XOR = 0xa0;
export const BPF_MOV = 0xb0;
export const BPF_ARSH = 0xc0;
export const BPF_END = 0xd0;

// Jump operations, bits 4..7 (RFC 9669 §4.3).
export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JGE = 0x30;
export const BPF_JSET = 0x40;
export const BPF_JNE = 0x50;
export const BPF_JSGT = 0x60;
export const BPF_JSGE = 0x70;
export const BPF_CALL = 0x80;
export const BPF_EXIT = 0x90;
export const BPF_JLT = 0xa0;
export const BPF_JLE = 0xb0;
export const BPF_JSLT = 0xc0;
export const BPF_JSLE = 0xd0;
/** may_goto: a loop exit that the kernel takes when its own iteration budget is spent. */
export const BPF_JCOND = 0xe0;

// Sizes of loads and stores, bits 3..4 (RFC 9669 §5).
export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;
export const BPF_DW = 0x18;

// Modes of loads and stores, bits 5..7 (RFC 9669 §5).
export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_MEMSX = 0x80;
export const BPF_ATOMIC = 0xc0;

// Atomic operations, in the immediate (RFC 9669 §5.3; the last two since Linux 6.15).
export const BPF_FETCH = 0x01;
export const BPF_XCHG = 0xe1;
export const BPF_CMPXCHG = 0xf1;
export const BPF_LOAD_ACQ = 0x100;
export const BPF_STORE_REL = 0x110;

// What the source field of `ld_imm64` says of its constant (RFC 9669 §5.4).
export const BPF_PSEUDO_MAP_FD = 1;
export const BPF_PSEUDO_MAP_VALUE = 2;
export const BPF_PSEUDO_BTF_ID = 3;
export const BPF_PSEUDO_FUNC = 4;
export const BPF_PSEUDO_MAP_IDX = 5;
export const BPF_PSEUDO_MAP_IDX_VALUE = 6;

// What the source field of a call says of its target (RFC 9669 §4.3.1).
export const BPF_PSEUDO_CALL = 1;
export const BPF_PSEUDO_KFUNC_CALL = 2;

/** Offset of a 64-bit register move that makes it an address-space cast (Linux 6.9). */
export const BPF_ADDR_SPACE_CAST = 1;

// Whole opcodes that are met often enough to deserve a name.
export const LD_IMM64: number = BPF_LD | BPF_IMM | BPF_DW;
export const CALL: number = BPF_JMP | BPF_CALL;
export const CALLX: number = BPF_JMP | BPF_CALL | BPF_X;
export const EXIT: number = BPF_JMP | BPF_EXIT;
export const JA: number = BPF_JMP | BPF_JA;
export const GOTOL: number = BPF_JMP32 | BPF_JA;
export const MAY_GOTO: number = BPF_JMP | BPF_JCOND;

export const classOf = (opcode: number): number => opcode & 0x07;
export const sizeOf = (opcode: number): number => opcode & 0x18;
export const modeOf = (opcode: number): number => opcode & 0xe0;
export const operationOf = (opcode: number): number => opcode & 0xf0;
export const isRegisterSource = (opcode: number): boolean => (opcode & BPF_X) !== 0;

/** Bytes that a load or store of this size field moves. */
export function bytesOfSize(size: number): 1 | 2 | 4 | 8 {
  switch (size & 0x18) {
    case BPF_B:
      return 1;
    case BPF_H:
      return 2;
    case BPF_W:
      return 4;
    default:
      return 8;
  }
}

export type AluOperation =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'sdiv'
  | 'or'
  | 'and'
  | 'lsh'
  | 'rsh'
  | 'mod'
  | 'smod'
  | 'xor'
  | 'mov'
  | 'arsh';
/** Arithmetic on registers, by the name the assembler uses: operation bits and the offset that marks the signed forms. */
export const ALU_OPERATIONS: Readonly<Record<AluOperation, { operation: number; off: number }>> = {
  add: { operation: BPF_ADD, off: 0 },
  sub: { operation: BPF_SUB, off: 0 },
  mul: { operation: BPF_MUL, off: 0 },
  div: { operation: BPF_DIV, off: 0 },
  sdiv: { operation: BPF_DIV, off: 1 },
  or: { operation: BPF_OR, off: 0 },
  and: { operation: BPF_AND, off: 0 },
  lsh: { operation: BPF_LSH, off: 0 },
  rsh: { operation: BPF_RSH, off: 0 },
  mod: { operation: BPF_MOD, off: 0 },
  smod: { operation: BPF_MOD, off: 1 },
  xor: { operation: BPF_XOR, off: 0 },
  mov: { operation: BPF_MOV, off: 0 },
  arsh: { operation: BPF_ARSH, off: 0 },
};

export type JumpCondition = '==' | '!=' | '>' | '>=' | '<' | '<=' | '&' | 's>' | 's>=' | 's<' | 's<=';
/** Conditions of jumps, spelt as the kernel's log spells them; `&` is "any of these bits", `s` prefixes signed ones. */
export const JUMP_CONDITIONS: Readonly<Record<JumpCondition, number>> = {
  '==': BPF_JEQ,
  '!=': BPF_JNE,
  '>': BPF_JGT,
  '>=': BPF_JGE,
  '<': BPF_JLT,
  '<=': BPF_JLE,
  '&': BPF_JSET,
  's>': BPF_JSGT,
  's>=': BPF_JSGE,
  's<': BPF_JSLT,
  's<=': BPF_JSLE,
};

export type AtomicOperation = 'add' | 'or' | 'and' | 'xor';
/** Atomic operations by name: the immediate of the form that does not fetch. */
export const ATOMIC_OPERATIONS: Readonly<Record<AtomicOperation, number>> = {
  add: BPF_ADD,
  or: BPF_OR,
  and: BPF_AND,
  xor: BPF_XOR,
};

/** Sizes of memory accesses, spelt as the kernel's log spells them. */
export type StoreSize = 'u8' | 'u16' | 'u32' | 'u64';
export type SignedSize = 's8' | 's16' | 's32';
export type LoadSize = StoreSize | SignedSize;
export const STORE_SIZES: Readonly<Record<StoreSize, number>> = {
  u8: BPF_B,
  u16: BPF_H,
  u32: BPF_W,
  u64: BPF_DW,
};
export const SIGNED_SIZES: Readonly<Record<SignedSize, number>> = { s8: BPF_B, s16: BPF_H, s32: BPF_W };
