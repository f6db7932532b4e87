/**
 * Program listings in the notation of the kernel's verifier log (`kernel/bpf/disasm.c`).
 *
 * The notation changed over the years. `kernel` is today's (`w0 = 2`); `2018` is that of the first bpfilter listings
 * (`(u32) r0 = (u32) 2`). `parseProgram` reads both.
 */
import { jumpDistance } from './check.ts';
import { helperName } from './helper.ts';
import { type Instruction, wideImmediate } from './instruction.ts';
import * as op from './opcode.ts';
import { formatReference, type Reference } from './reference.ts';

export type ListingStyle = 'kernel' | '2018';

export interface ListingOptions {
  readonly style?: ListingStyle;
  /** Symbolic operands of a program that is not linked yet, by slot. */
  readonly references?: ReadonlyMap<number, Reference>;
  /** Remarks, printed on a line of their own before the slot, after `; `. */
  readonly notes?: ReadonlyMap<number, string>;
  /** Names of functions by their first slot, printed as `name:` before it. */
  readonly functions?: readonly { readonly name: string; readonly start: number }[];
  /** Name of a kernel function by BTF id, for linked programs. */
  readonly kfuncName?: (id: number) => string | undefined;
}

const ALU_SIGNS: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: '+=',
  [op.BPF_SUB]: '-=',
  [op.BPF_MUL]: '*=',
  [op.BPF_DIV]: '/=',
  [op.BPF_OR]: '|=',
  [op.BPF_AND]: '&=',
  [op.BPF_LSH]: '<<=',
  [op.BPF_RSH]: '>>=',
  [op.BPF_MOD]: '%=',
  [op.BPF_XOR]: '^=',
  [op.BPF_MOV]: '=',
  [op.BPF_ARSH]: 's>>=',
};
const SIZE_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_B]: '8',
  [op.BPF_H]: '16',
  [op.BPF_W]: '32',
  [op.BPF_DW]: '64',
};
const ATOMIC_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: 'add',
  [op.BPF_OR]: 'or',
  [op.BPF_AND]: 'and',
  [op.BPF_XOR]: 'xor',
};
const CONDITION_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(op.JUMP_CONDITIONS).map(([sign, code]) => [code, sign]),
);

const signed = (value: number): string => (value < 0 ? `${value}` : `+${value}`);
const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;

/**
 * The whole listing, one instruction a line: slot number, opcode in hex, text.
 *
 * @example `   0: (bf) r9 = r1`
 */
export function formatProgram(program: readonly Instruction[], options: ListingOptions = {}): string {
  const width = Math.max(4, `${program.length - 1}`.length);
  const lines: string[] = [];
  for (let index = 0; index < program.length; index++) {
    const slot = program[index]!;
    for (const { name, start } of options.functions ?? []) {
      if (start === index && (options.functions?.length ?? 0) > 1) lines.push(`${name}:`);
    }
    const note = options.notes?.get(index);
    if (note !== undefined) lines.push(`; ${note}`);
    const code = slot.opcode.toString(16).padStart(2, '0');
    lines.push(`${`${index}`.padStart(width)}: (${code}) ${formatInstruction(program, index, options)}`);
    if (slot.opcode === op.LD_IMM64) index++;
  }
  return lines.join('\n');
}

/** One instruction's text, without slot number and opcode. Anything can be printed, defects included. */
export function formatInstruction(
  program: readonly Instruction[],
  index: number,
  options: ListingOptions = {},
): string {
  const slot = program[index]!;
  switch (op.classOf(slot.opcode)) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      return formatArithmetic(slot, options.style ?? 'kernel', options.references?.get(index));
    case op.BPF_JMP:
    case op.BPF_JMP32:
      return formatJump(slot, options, options.references?.get(index));
    case op.BPF_LDX:
    case op.BPF_ST:
    case op.BPF_STX:
      return formatAccess(slot, options.references?.get(index));
    default:
      return formatLoadConstant(program, index, options.references?.get(index));
  }
}

const undecodable = (slot: Instruction): string => `BUG_${slot.opcode.toString(16).padStart(2, '0')}`;

function formatArithmetic(slot: Instruction, style: ListingStyle, reference: Reference | undefined): string {
  const narrow = op.classOf(slot.opcode) === op.BPF_ALU;
  const old = style === '2018';
  const prefix = old && narrow ? '(u32) ' : '';
  const name = narrow && !old ? 'w' : 'r';
  const dst = `${name}${slot.dst}`;
  const operation = op.operationOf(slot.opcode);
  if (operation === op.BPF_END) {
    if (!narrow) return `r${slot.dst} = bswap${slot.imm} r${slot.dst}`;
    return `r${slot.dst} = ${op.isRegisterSource(slot.opcode) ? 'be' : 'le'}${slot.imm} r${slot.dst}`;
  }
  if (operation === op.BPF_NEG) return old ? `${dst} = ${prefix}-${dst}` : `${dst} = -${dst}`;
  const divides = operation === op.BPF_DIV || operation === op.BPF_MOD;
  const sign = (divides && slot.off === 1 ? 's' : '') + (ALU_SIGNS[operation] ?? '');
  if (ALU_SIGNS[operation] === undefined) return undecodable(slot);
  if (!op.isRegisterSource(slot.opcode)) {
    const value = reference === undefined ? `${slot.imm}` : formatReference(reference);
    return `${prefix}${dst} ${sign} ${prefix}${value}`;
  }
  if (operation === op.BPF_MOV && !narrow && slot.off === op.BPF_ADDR_SPACE_CAST) {
    return `r${slot.dst} = addr_space_cast(r${slot.src}, ${slot.imm >>> 16}, ${slot.imm & 0xffff})`;
  }
  const extend = operation === op.BPF_MOV && slot.off !== 0 ? `(s${slot.off})` : '';
  return `${prefix}${dst} ${sign} ${prefix}${extend}${name}${slot.src}`;
}

function formatJump(slot: Instruction, options: ListingOptions, reference: Reference | undefined): string {
  const operation = op.operationOf(slot.opcode);
  const distance = `pc${signed(jumpDistance(slot) ?? 0)}`;
  if (slot.opcode === op.CALLX) return `callx r${slot.dst}`;
  if (operation === op.BPF_CALL) {
    if (slot.src === op.BPF_PSEUDO_CALL) return `call pc${signed(slot.imm)}`;
    if (slot.src === op.BPF_PSEUDO_KFUNC_CALL) {
      if (reference !== undefined) return `call ${formatReference(reference)}`;
      return `call ${options.kfuncName?.(slot.imm) ?? 'kernel-function'}#${slot.imm}`;
    }
    return `call ${helperName(slot.imm) ?? 'unknown'}#${slot.imm}`;
  }
  if (operation === op.BPF_EXIT) return 'exit';
  if (slot.opcode === op.GOTOL) return `gotol ${distance}`;
  if (slot.opcode === op.MAY_GOTO) return `may_goto ${distance}`;
  if (operation === op.BPF_JA) return `goto ${distance}`;
  const condition = CONDITION_NAMES.get(operation);
  if (condition === undefined) return undecodable(slot);
  const name = op.classOf(slot.opcode) === op.BPF_JMP32 ? 'w' : 'r';
  const operand = op.isRegisterSource(slot.opcode) ? `${name}${slot.src}` : hex(slot.imm);
  return `if ${name}${slot.dst} ${condition} ${operand} goto ${distance}`;
}

function formatAccess(slot: Instruction, reference: Reference | undefined): string {
  const size = SIZE_NAMES[op.sizeOf(slot.opcode)]!;
  const mode = op.modeOf(slot.opcode);
  const plus = slot.off === 0 ? '' : signed(slot.off);
  const off = reference === undefined ? signed(slot.off) : `+${formatReference(reference)}${plus}`;
  const memory = (base: number, sign = 'u'): string => `(${sign}${size} *)(r${base} ${off})`;
  if (op.classOf(slot.opcode) === op.BPF_LDX) {
    if (mode !== op.BPF_MEM && mode !== op.BPF_MEMSX) return undecodable(slot);
    return `r${slot.dst} = *${memory(slot.src, mode === op.BPF_MEMSX ? 's' : 'u')}`;
  }
  if (op.classOf(slot.opcode) === op.BPF_ST) {
    return mode === op.BPF_MEM ? `*${memory(slot.dst)} = ${slot.imm}` : undecodable(slot);
  }
  if (mode === op.BPF_MEM) return `*${memory(slot.dst)} = r${slot.src}`;
  if (mode !== op.BPF_ATOMIC) return undecodable(slot);
  const wide = op.sizeOf(slot.opcode) === op.BPF_DW ? '64' : '';
  switch (slot.imm) {
    case op.BPF_LOAD_ACQ:
      return `r${slot.dst} = load_acquire(${memory(slot.src)})`;
    case op.BPF_STORE_REL:
      return `store_release(${memory(slot.dst)}, r${slot.src})`;
    case op.BPF_CMPXCHG:
      return `r0 = atomic${wide}_cmpxchg(${memory(slot.dst)}, r0, r${slot.src})`;
    case op.BPF_XCHG:
      return `r${slot.src} = atomic${wide}_xchg(${memory(slot.dst)}, r${slot.src})`;
  }
  const operation = slot.imm & 0xf0;
  const name = ATOMIC_NAMES[operation];
  if (name === undefined || (slot.imm & ~0xf1) !== 0) return undecodable(slot);
  return (slot.imm & op.BPF_FETCH) === 0
    ? `lock *${memory(slot.dst)} ${ALU_SIGNS[operation]} r${slot.src}`
    : `r${slot.src} = atomic${wide}_fetch_${name}(${memory(slot.dst)}, r${slot.src})`;
}

function formatLoadConstant(
  program: readonly Instruction[],
  index: number,
  reference: Reference | undefined,
): string {
  const slot = program[index]!;
  const mode = op.modeOf(slot.opcode);
  const size = SIZE_NAMES[op.sizeOf(slot.opcode)]!;
  if (slot.opcode !== op.LD_IMM64) {
    if (mode === op.BPF_ABS) return `r0 = *(u${size} *)skb[${slot.imm}]`;
    if (mode === op.BPF_IND) return `r0 = *(u${size} *)skb[r${slot.src} + ${slot.imm}]`;
    return undecodable(slot);
  }
  const high = program[index + 1]?.imm ?? 0;
  const value = (): string => {
    if (reference !== undefined) return formatReference(reference);
    switch (slot.src) {
      case op.BPF_PSEUDO_MAP_FD:
        return `map[fd:${slot.imm}]`;
      case op.BPF_PSEUDO_MAP_VALUE:
        return `map[fd:${slot.imm}][0]+${high}`;
      case op.BPF_PSEUDO_BTF_ID:
        return `btf[id:${slot.imm}]`;
      case op.BPF_PSEUDO_FUNC:
        return `subprog[${signed(slot.imm)}]`;
      case op.BPF_PSEUDO_MAP_IDX:
        return `map[idx:${slot.imm}]`;
      case op.BPF_PSEUDO_MAP_IDX_VALUE:
        return `map[idx:${slot.imm}][0]+${high}`;
      default:
        return index + 1 < program.length ? `0x${wideImmediate(program, index).toString(16)}` : hex(slot.imm);
    }
  };
  return `r${slot.dst} = ${value()}`;
}
