/**
 * What is wrong with a program before anything is known of its meaning: unknown opcodes, non-zero unused fields,
 * registers that do not exist, jumps to nowhere. RFC 9669 §3.1 wants unused fields to be zero; the kernel's
 * `check_and_resolve_insns`, `check_subprogs` and `do_check` (kernel/bpf/verifier.c) refuse them as listed here.
 */
import { IsaError } from './error.ts';
import type { Instruction } from './instruction.ts';
import * as op from './opcode.ts';
import { FRAME_POINTER } from './register.ts';

/** Instruction set versions as compilers name them (`-mcpu`). v4 here includes what came since under that name. */
export type CpuVersion = 1 | 2 | 3 | 4;

export interface CheckOptions {
  /** Starts of the program's functions; found from calls and function addresses when absent. */
  readonly functions?: readonly { readonly start: number }[];
  /** Refuse instructions newer than this; default 4. */
  readonly version?: CpuVersion;
}

/**
 * Checks a whole program.
 *
 * @throws IsaError for the first defect, with its slot
 */
export function checkProgram(program: readonly Instruction[], options: CheckOptions = {}): void {
  if (program.length === 0) {
    throw new IsaError('ISA_NO_EXIT', 'the program is empty', { hint: 'a program ends with exit' });
  }
  const second = new Uint8Array(program.length);
  for (let index = 0; index < program.length; index++) {
    checkInstruction(program, index, options.version ?? 4);
    if (program[index]!.opcode === op.LD_IMM64) second[++index] = 1;
  }
  const starts = options.functions?.map(({ start }) => start) ?? functionStarts(program);
  checkControl(program, second, starts);
}

/** Starts of all functions, ascending, found from calls and function addresses; the first is 0. */
export function functionStarts(program: readonly Instruction[]): number[] {
  const starts = new Set([0]);
  for (let index = 0; index < program.length; index++) {
    const slot = program[index]!;
    if (isFunctionReference(slot)) starts.add(index + slot.imm + 1);
    if (slot.opcode === op.LD_IMM64) index++;
  }
  return [...starts].sort((a, b) => a - b);
}

/** Whether the immediate is the distance of a function. */
function isFunctionReference(slot: Instruction): boolean {
  return (
    (slot.opcode === op.CALL && slot.src === op.BPF_PSEUDO_CALL) ||
    (slot.opcode === op.LD_IMM64 && slot.src === op.BPF_PSEUDO_FUNC)
  );
}

/** Distance of a jump in slots; `undefined` for what is not a jump. Calls are not jumps. */
export function jumpDistance(slot: Instruction): number | undefined {
  const cls = op.classOf(slot.opcode);
  if (cls !== op.BPF_JMP && cls !== op.BPF_JMP32) return undefined;
  if (slot.opcode === op.GOTOL) return slot.imm;
  const operation = op.operationOf(slot.opcode);
  return operation === op.BPF_CALL || operation === op.BPF_EXIT ? undefined : slot.off;
}

/** Whether control never passes to the next slot. */
export function endsFlow(slot: Instruction): boolean {
  return slot.opcode === op.EXIT || slot.opcode === op.JA || slot.opcode === op.GOTOL;
}

function checkControl(program: readonly Instruction[], second: Uint8Array, starts: readonly number[]): void {
  const target = (index: number, to: number, low: number, high: number, what: string): void => {
    if (to < low || to >= high) {
      throw new IsaError(
        'ISA_JUMP_RANGE',
        `${what} to ${to} leaves the ${low === 0 && high === program.length ? 'program' : 'function'}`,
        { index },
      );
    }
    if (second[to] === 1) {
      throw new IsaError('ISA_JUMP_RANGE', `${what} to ${to} lands inside ld_imm64`, { index });
    }
  };
  const known = new Set(starts);
  for (const [order, start] of starts.entries()) {
    target(start, start, 0, program.length, 'function');
    const end = starts[order + 1] ?? program.length;
    let last = start;
    for (let index = start; index < end; index++) {
      const slot = program[index]!;
      last = index;
      const distance = jumpDistance(slot);
      if (distance !== undefined) target(index, index + distance + 1, start, end, 'jump');
      if (isFunctionReference(slot)) {
        const callee = index + slot.imm + 1;
        target(index, callee, 0, program.length, 'call');
        if (!known.has(callee)) {
          throw new IsaError('ISA_JUMP_RANGE', `call to ${callee}, which is not the start of a function`, {
            index,
          });
        }
      }
      if (slot.opcode === op.LD_IMM64) index++;
    }
    if (!endsFlow(program[last]!)) {
      throw new IsaError('ISA_NO_EXIT', 'control can run past the last instruction of the function', {
        index: last,
        hint: 'end every function with exit or an unconditional jump',
      });
    }
  }
}

/**
 * Checks one instruction by itself.
 *
 * @throws IsaError
 */
export function checkInstruction(
  program: readonly Instruction[],
  index: number,
  version: CpuVersion = 4,
): void {
  const slot = program[index]!;
  const fault = faultOf(program, index);
  if (fault !== undefined) throw new IsaError(fault.code, fault.message, { index });
  const needed = versionOf(slot);
  if (needed > version) {
    throw new IsaError(
      'ISA_VERSION',
      `the instruction needs version ${needed}, version ${version} is asked for`,
      { index },
    );
  }
}

interface Fault {
  readonly code: 'ISA_OPCODE_UNKNOWN' | 'ISA_RESERVED_FIELD' | 'ISA_REGISTER' | 'ISA_TRUNCATED';
  readonly message: string;
}

const unknown = (slot: Instruction): Fault => ({
  code: 'ISA_OPCODE_UNKNOWN',
  message: `no instruction has opcode 0x${slot.opcode.toString(16).padStart(2, '0')} with these fields`,
});

/** The first of the named fields that is not zero. */
function reserved(
  slot: Instruction,
  ...fields: readonly ('dst' | 'src' | 'off' | 'imm')[]
): Fault | undefined {
  const field = fields.find((name) => slot[name] !== 0);
  if (field === undefined) return undefined;
  return {
    code: 'ISA_RESERVED_FIELD',
    message: `field ${field} is not used here and must be 0, not ${slot[field]}`,
  };
}

function registers(slot: Instruction, ...fields: readonly ('dst' | 'src')[]): Fault | undefined {
  const field = fields.find((name) => slot[name] > FRAME_POINTER);
  if (field === undefined) return undefined;
  return { code: 'ISA_REGISTER', message: `there is no register r${slot[field]}` };
}

function written(register: number): Fault | undefined {
  if (register !== FRAME_POINTER) return undefined;
  return { code: 'ISA_REGISTER', message: 'the frame pointer r10 is read only' };
}

function faultOf(program: readonly Instruction[], index: number): Fault | undefined {
  const slot = program[index]!;
  switch (op.classOf(slot.opcode)) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      return registers(slot, 'dst') ?? written(slot.dst) ?? arithmeticFault(slot);
    case op.BPF_JMP:
    case op.BPF_JMP32:
      return jumpFault(slot);
    case op.BPF_LDX:
      return loadFault(slot);
    case op.BPF_ST:
      if (op.modeOf(slot.opcode) !== op.BPF_MEM) return unknown(slot);
      return registers(slot, 'dst') ?? reserved(slot, 'src');
    case op.BPF_STX:
      return registers(slot, 'dst', 'src') ?? storeFault(slot);
    default:
      return legacyOrWideFault(program, index);
  }
}

function arithmeticFault(slot: Instruction): Fault | undefined {
  const wide = op.classOf(slot.opcode) === op.BPF_ALU64;
  const fromRegister = op.isRegisterSource(slot.opcode);
  switch (op.operationOf(slot.opcode)) {
    case op.BPF_END:
      if (wide && fromRegister) return unknown(slot);
      if (slot.imm !== 16 && slot.imm !== 32 && slot.imm !== 64) return unknown(slot);
      return reserved(slot, 'src', 'off');
    case op.BPF_NEG:
      return fromRegister ? unknown(slot) : reserved(slot, 'src', 'off', 'imm');
    case op.BPF_MOV: {
      if (!fromRegister) return reserved(slot, 'src', 'off');
      const bad = registers(slot, 'src');
      if (bad !== undefined) return bad;
      if (slot.off === op.BPF_ADDR_SPACE_CAST && wide) {
        return slot.imm === 1 || slot.imm === 0x10000 ? undefined : unknown(slot);
      }
      const extends_ = slot.off === 0 || slot.off === 8 || slot.off === 16 || (slot.off === 32 && wide);
      return extends_ ? reserved(slot, 'imm') : unknown(slot);
    }
    case op.BPF_DIV:
    case op.BPF_MOD:
      if (slot.off !== 0 && slot.off !== 1) return unknown(slot);
      return fromRegister ? (registers(slot, 'src') ?? reserved(slot, 'imm')) : reserved(slot, 'src');
    case 0xe0:
    case 0xf0:
      return unknown(slot);
    default:
      return fromRegister
        ? (registers(slot, 'src') ?? reserved(slot, 'off', 'imm'))
        : reserved(slot, 'src', 'off');
  }
}

function jumpFault(slot: Instruction): Fault | undefined {
  const narrow = op.classOf(slot.opcode) === op.BPF_JMP32;
  const fromRegister = op.isRegisterSource(slot.opcode);
  switch (op.operationOf(slot.opcode)) {
    case op.BPF_JA:
      if (fromRegister) return unknown(slot);
      return narrow ? reserved(slot, 'dst', 'src', 'off') : reserved(slot, 'dst', 'src', 'imm');
    case op.BPF_CALL:
      if (narrow) return unknown(slot);
      if (fromRegister) return registers(slot, 'dst') ?? reserved(slot, 'src', 'off', 'imm');
      if (slot.src > op.BPF_PSEUDO_KFUNC_CALL) return unknown(slot);
      return slot.src === op.BPF_PSEUDO_KFUNC_CALL ? reserved(slot, 'dst') : reserved(slot, 'dst', 'off');
    case op.BPF_EXIT:
      return narrow || fromRegister ? unknown(slot) : reserved(slot, 'dst', 'src', 'off', 'imm');
    case op.BPF_JCOND:
      return narrow || fromRegister ? unknown(slot) : reserved(slot, 'dst', 'src', 'imm');
    case 0xf0:
      return unknown(slot);
    default:
      return fromRegister
        ? (registers(slot, 'dst', 'src') ?? reserved(slot, 'imm'))
        : (registers(slot, 'dst') ?? reserved(slot, 'src'));
  }
}

function loadFault(slot: Instruction): Fault | undefined {
  const mode = op.modeOf(slot.opcode);
  if (mode !== op.BPF_MEM && (mode !== op.BPF_MEMSX || op.sizeOf(slot.opcode) === op.BPF_DW))
    return unknown(slot);
  return registers(slot, 'dst', 'src') ?? written(slot.dst) ?? reserved(slot, 'imm');
}

function storeFault(slot: Instruction): Fault | undefined {
  const mode = op.modeOf(slot.opcode);
  if (mode === op.BPF_MEM) return reserved(slot, 'imm');
  if (mode !== op.BPF_ATOMIC) return unknown(slot);
  if (slot.imm === op.BPF_LOAD_ACQ) return written(slot.dst);
  if (slot.imm === op.BPF_STORE_REL) return undefined;
  const size = op.sizeOf(slot.opcode);
  if (size !== op.BPF_W && size !== op.BPF_DW) return unknown(slot);
  switch (slot.imm) {
    case op.BPF_ADD:
    case op.BPF_OR:
    case op.BPF_AND:
    case op.BPF_XOR:
    case op.BPF_CMPXCHG:
      return undefined;
    case op.BPF_ADD | op.BPF_FETCH:
    case op.BPF_OR | op.BPF_FETCH:
    case op.BPF_AND | op.BPF_FETCH:
    case op.BPF_XOR | op.BPF_FETCH:
    case op.BPF_XCHG:
      return written(slot.src);
    default:
      return unknown(slot);
  }
}

function legacyOrWideFault(program: readonly Instruction[], index: number): Fault | undefined {
  const slot = program[index]!;
  const mode = op.modeOf(slot.opcode);
  if (slot.opcode === op.LD_IMM64) {
    const second = program[index + 1];
    if (second === undefined) return { code: 'ISA_TRUNCATED', message: 'ld_imm64 lacks its second half' };
    if (second.opcode !== 0 || second.dst !== 0 || second.src !== 0 || second.off !== 0) {
      return {
        code: 'ISA_RESERVED_FIELD',
        message: 'the second half of ld_imm64 must hold an immediate only',
      };
    }
    if (slot.src > op.BPF_PSEUDO_MAP_IDX_VALUE) return unknown(slot);
    const wholeInFirst =
      slot.src === op.BPF_PSEUDO_MAP_FD ||
      slot.src === op.BPF_PSEUDO_MAP_IDX ||
      slot.src === op.BPF_PSEUDO_FUNC;
    if (wholeInFirst && second.imm !== 0) {
      return { code: 'ISA_RESERVED_FIELD', message: 'the second immediate of this ld_imm64 must be 0' };
    }
    return registers(slot, 'dst') ?? written(slot.dst) ?? reserved(slot, 'off');
  }
  if ((mode !== op.BPF_ABS && mode !== op.BPF_IND) || op.sizeOf(slot.opcode) === op.BPF_DW)
    return unknown(slot);
  return mode === op.BPF_ABS
    ? reserved(slot, 'dst', 'src', 'off')
    : (registers(slot, 'src') ?? reserved(slot, 'dst', 'off'));
}

/** Oldest version that has the instruction (the versions that clang documents for `-mcpu`). */
export function versionOf(slot: Instruction): CpuVersion {
  const cls = op.classOf(slot.opcode);
  const operation = op.operationOf(slot.opcode);
  if (slot.opcode === op.GOTOL || slot.opcode === op.MAY_GOTO) return 4;
  if (cls === op.BPF_JMP32) return 3;
  if (cls === op.BPF_JMP) {
    const ordered =
      operation === op.BPF_JLT ||
      operation === op.BPF_JLE ||
      operation === op.BPF_JSLT ||
      operation === op.BPF_JSLE;
    return ordered ? 2 : 1;
  }
  if (cls === op.BPF_LDX) return op.modeOf(slot.opcode) === op.BPF_MEMSX ? 4 : 1;
  if (cls === op.BPF_STX && op.modeOf(slot.opcode) === op.BPF_ATOMIC) {
    if (slot.imm === op.BPF_LOAD_ACQ || slot.imm === op.BPF_STORE_REL) return 4;
    return slot.imm === op.BPF_ADD ? 1 : 3;
  }
  if (cls === op.BPF_ALU || cls === op.BPF_ALU64) {
    if (operation === op.BPF_END) return cls === op.BPF_ALU64 ? 4 : 1;
    if (slot.off !== 0) return 4;
  }
  return 1;
}
