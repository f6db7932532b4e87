/** The forms of one instruction in the kernel's notation, as patterns: the reverse of `disassemble.ts`. */
import { type Instruction, instruction } from './instruction.ts';
import * as op from './opcode.ts';
import type { Reference } from './reference.ts';

/** One instruction as read: label operands are still names. */
export interface ParsedInstruction extends Instruction {
  /** Second immediate of `ld_imm64`. */
  readonly high?: number;
  readonly reference?: Reference;
  readonly target?: string;
  /** `call name`: a helper, a kernel function, or a function of the text. */
  readonly callee?: string;
}

const ALU_BY_SIGN: Readonly<Record<string, { operation: number; off: number }>> = {
  '+=': op.ALU_OPERATIONS.add,
  '-=': op.ALU_OPERATIONS.sub,
  '*=': op.ALU_OPERATIONS.mul,
  '/=': op.ALU_OPERATIONS.div,
  's/=': op.ALU_OPERATIONS.sdiv,
  '|=': op.ALU_OPERATIONS.or,
  '&=': op.ALU_OPERATIONS.and,
  '<<=': op.ALU_OPERATIONS.lsh,
  '>>=': op.ALU_OPERATIONS.rsh,
  '%=': op.ALU_OPERATIONS.mod,
  's%=': op.ALU_OPERATIONS.smod,
  '^=': op.ALU_OPERATIONS.xor,
  '=': op.ALU_OPERATIONS.mov,
  's>>=': op.ALU_OPERATIONS.arsh,
};
const ATOMIC_BY_SIGN: Readonly<Record<string, number>> = {
  '+=': op.BPF_ADD,
  '|=': op.BPF_OR,
  '&=': op.BPF_AND,
  '^=': op.BPF_XOR,
};

const NUMBER = '(-?(?:0x[0-9a-f]+|\\d+))';
const MEMORY =
  '\\(([us])(8|16|32|64) \\*\\)\\(r(\\d+) ?(?:([+-] ?\\d+)|\\+(\\w+)\\.([\\w.]+(?:\\+\\d+)?))\\)';
const TARGET = '(?:pc([+-]\\d+)|([A-Za-z_.][\\w.]*))';

type Groups = readonly (string | undefined)[];
type Build = (groups: Groups, opcode: number | undefined) => ParsedInstruction | undefined;
const FORMS: readonly (readonly [RegExp, Build])[] = [
  form('exit', () => instruction(op.EXIT)),
  form(`goto ${TARGET}`, ([pc, label]) => jump(op.JA, pc, label)),
  form(`gotol ${TARGET}`, ([pc, label]) => ({ ...jump(op.GOTOL, undefined, label), imm: Number(pc ?? 0) })),
  form(`may_goto ${TARGET}`, ([pc, label]) => jump(op.MAY_GOTO, pc, label)),
  form(`if ([rw])(\\d+) (s?[<>]=?|[!=]=|&) (?:([rw])(\\d+)|${NUMBER}) goto ${TARGET}`, conditional),
  form('callx r(\\d+)', ([register]) => instruction(op.CALLX, Number(register))),
  form('call pc([+-]\\d+)', ([pc]) => instruction(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, Number(pc))),
  form('call (?:unknown)?#(\\d+)', ([id]) => instruction(op.CALL, 0, 0, 0, Number(id))),
  form('call kernel-function#(\\d+)', ([id]) =>
    instruction(op.CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, Number(id)),
  ),
  form('call (\\w+)(?:#(\\d+))?', namedCall),
  form('r(\\d+) = (be|le|bswap)(16|32|64) r(\\d+)', byteSwap),
  form('(?:\\(u32\\) )?([rw])(\\d+) = (\\(u32\\) )?-([rw])(\\d+)', ([kind, dst, old, , src]) => {
    if (dst !== src) return undefined;
    return instruction((kind === 'w' || old ? op.BPF_ALU : op.BPF_ALU64) | op.BPF_NEG, Number(dst));
  }),
  form('r(\\d+) = addr_space_cast\\(r(\\d+), (\\d+), (\\d+)\\)', ([dst, src, to, from]) =>
    instruction(
      op.BPF_ALU64 | op.BPF_MOV | op.BPF_X,
      Number(dst),
      Number(src),
      1,
      (Number(to) << 16) | Number(from),
    ),
  ),
  form(`r(\\d+) = \\*${MEMORY}`, load),
  form(`\\*${MEMORY} = (?:r(\\d+)|${NUMBER})`, store),
  form(`lock \\*${MEMORY} ([+|&^]=) r(\\d+)`, ([, bits, base, off, , , sign, src]) =>
    atomic(bits, base, off, src, ATOMIC_BY_SIGN[sign!]!),
  ),
  form(
    `r(\\d+) = atomic(?:64)?_(fetch_add|fetch_or|fetch_and|fetch_xor|xchg)\\(${MEMORY}, r(\\d+)\\)`,
    fetching,
  ),
  form(`r0 = atomic(?:64)?_cmpxchg\\(${MEMORY}, r0, r(\\d+)\\)`, ([, bits, base, off, , , src]) =>
    atomic(bits, base, off, src, op.BPF_CMPXCHG),
  ),
  form(`r(\\d+) = load_acquire\\(${MEMORY}\\)`, ([dst, , bits, base, off]) =>
    atomic(bits, dst, off, base, op.BPF_LOAD_ACQ),
  ),
  form(`store_release\\(${MEMORY}, r(\\d+)\\)`, ([, bits, base, off, , , src]) =>
    atomic(bits, base, off, src, op.BPF_STORE_REL),
  ),
  form(`r0 = \\*\\(u(8|16|32) \\*\\)skb\\[${NUMBER}\\]`, ([bits, imm]) =>
    instruction(op.BPF_LD | op.BPF_ABS | sizeBits(bits), 0, 0, 0, immediate(imm)),
  ),
  form(`r0 = \\*\\(u(8|16|32) \\*\\)skb\\[r(\\d+) \\+ ${NUMBER}\\]`, ([bits, src, imm]) =>
    instruction(op.BPF_LD | op.BPF_IND | sizeBits(bits), 0, Number(src), 0, immediate(imm)),
  ),
  form('r(\\d+) = (map|arena|variable|type|btf|subprog)\\[([^\\]]+)\\](\\[0\\])?(?:\\+(\\d+))?', symbol),
  form(`r(\\d+) = ${NUMBER}(?: ll)?`, constant),
  form(
    `(?:\\(u32\\) )?([rw])(\\d+) (s?[/%]=|s?>>=|<<=|[-+*|&^]?=) (\\(u32\\) )?(?:\\(s(8|16|32)\\))?(?:([rw])(\\d+)|${NUMBER})`,
    arithmetic,
  ),
];

/** Reads one instruction; `opcode`, when known, settles what the text leaves open. */
export function matchInstruction(text: string, opcode: number | undefined): ParsedInstruction | undefined {
  const normal = text.trim().replace(/\s+/g, ' ');
  for (const [pattern, build] of FORMS) {
    const match = pattern.exec(normal);
    if (match === null) continue;
    const built = build(match.slice(1), opcode);
    if (built !== undefined) return built;
  }
  return undefined;
}

function form(pattern: string, build: Build): readonly [RegExp, Build] {
  return [new RegExp(`^${pattern}$`), build];
}

function sizeBits(bits: string | undefined): number {
  return op.STORE_SIZES[`u${bits}` as op.StoreSize];
}

/** A 32-bit immediate in either signedness, decimal or hex; NaN where it does not fit. */
function immediate(text: string | undefined): number {
  const value = Number(text?.startsWith('-') ? -Number(text.slice(1)) : text);
  return value >= -0x80000000 && value <= 0xffffffff ? value | 0 : Number.NaN;
}

const offset = (text: string | undefined): number => Number((text ?? '0').replace(' ', ''));

function checked(slot: Instruction): Instruction | undefined {
  return Number.isNaN(slot.imm) ? undefined : slot;
}

function jump(opcode: number, pc: string | undefined, label: string | undefined): ParsedInstruction {
  const slot = instruction(opcode, 0, 0, Number(pc ?? 0));
  return label === undefined ? slot : { ...slot, target: label };
}

function conditional(groups: Groups): ParsedInstruction | undefined {
  const [kind, dst, sign, srcKind, src, imm, pc, label] = groups;
  if (srcKind !== undefined && srcKind !== kind) return undefined;
  const code = (kind === 'w' ? op.BPF_JMP32 : op.BPF_JMP) | op.JUMP_CONDITIONS[sign as op.JumpCondition];
  const slot =
    src === undefined
      ? checked(instruction(code, Number(dst), 0, 0, immediate(imm)))
      : instruction(code | op.BPF_X, Number(dst), Number(src));
  return slot === undefined ? undefined : { ...slot, off: Number(pc ?? 0), ...(label && { target: label }) };
}

function namedCall([name, id]: Groups): ParsedInstruction {
  const slot = instruction(op.CALL);
  return { ...slot, callee: name!, ...(id !== undefined && { imm: Number(id) }) };
}

function byteSwap([dst, kind, bits, src]: Groups): ParsedInstruction | undefined {
  if (dst !== src) return undefined;
  const code =
    kind === 'bswap'
      ? op.BPF_ALU64 | op.BPF_END
      : op.BPF_ALU | op.BPF_END | (kind === 'be' ? op.BPF_X : op.BPF_K);
  return instruction(code, Number(dst), 0, 0, Number(bits));
}

function load([dst, sign, bits, base, off, struct, member]: Groups): ParsedInstruction {
  const mode = sign === 's' ? op.BPF_MEMSX : op.BPF_MEM;
  const [name, plus] = member?.split('+') ?? [];
  const slot = instruction(
    op.BPF_LDX | mode | sizeBits(bits),
    Number(dst),
    Number(base),
    offset(off ?? plus),
  );
  if (struct === undefined) return slot;
  const reference: Reference = { kind: 'field', struct, member: name! };
  return { ...slot, reference };
}

function store([sign, bits, base, off, struct, , src, imm]: Groups): ParsedInstruction | undefined {
  if (sign !== 'u' || struct !== undefined) return undefined;
  if (src !== undefined) {
    return instruction(op.BPF_STX | op.BPF_MEM | sizeBits(bits), Number(base), Number(src), offset(off));
  }
  return checked(
    instruction(op.BPF_ST | op.BPF_MEM | sizeBits(bits), Number(base), 0, offset(off), immediate(imm)),
  );
}

function atomic(
  bits: string | undefined,
  dst: string | undefined,
  off: string | undefined,
  src: string | undefined,
  imm: number,
): ParsedInstruction {
  return instruction(op.BPF_STX | op.BPF_ATOMIC | sizeBits(bits), Number(dst), Number(src), offset(off), imm);
}

function fetching([result, name, , bits, base, off, , , src]: Groups): ParsedInstruction | undefined {
  if (result !== src) return undefined;
  const imm =
    name === 'xchg' ? op.BPF_XCHG : op.ATOMIC_OPERATIONS[name!.slice(6) as op.AtomicOperation] | op.BPF_FETCH;
  return atomic(bits, base, off, src, imm);
}

function wide(
  dst: string | undefined,
  src: number,
  imm: number,
  high: number,
  reference?: Reference,
): ParsedInstruction {
  return { ...instruction(op.LD_IMM64, Number(dst), src, 0, imm), high, ...(reference && { reference }) };
}

function symbol([dst, kind, name, value, plus]: Groups): ParsedInstruction | undefined {
  const number = Number(/^(?:fd|idx|id):(\d+)$/.exec(name!)?.[1] ?? Number.NaN);
  const known = !Number.isNaN(number);
  const at = Number(plus ?? 0);
  switch (kind) {
    case 'map': {
      const byIndex = name!.startsWith('idx:') && known;
      if (value === undefined) {
        if (!known) return wide(dst, op.BPF_PSEUDO_MAP_FD, 0, 0, { kind: 'map', name: name! });
        return wide(dst, byIndex ? op.BPF_PSEUDO_MAP_IDX : op.BPF_PSEUDO_MAP_FD, number, 0);
      }
      if (!known)
        return wide(dst, op.BPF_PSEUDO_MAP_VALUE, 0, at, { kind: 'mapValue', name: name!, offset: at });
      return wide(dst, byIndex ? op.BPF_PSEUDO_MAP_IDX_VALUE : op.BPF_PSEUDO_MAP_VALUE, number, at);
    }
    case 'arena':
      return wide(dst, 0, 0, 0, { kind: 'arena', name: name!, offset: at });
    case 'variable':
      return wide(dst, op.BPF_PSEUDO_BTF_ID, 0, 0, { kind: 'variable', name: name! });
    case 'btf':
      return known ? wide(dst, op.BPF_PSEUDO_BTF_ID, number, 0) : undefined;
    case 'type': {
      const reference: Reference = { kind: 'type', name: name! };
      return { ...instruction(op.BPF_ALU64 | op.BPF_MOV, Number(dst)), reference };
    }
    default: {
      const distance = /^[+-]\d+$/.test(name!) ? Number(name) : undefined;
      const slot = wide(dst, op.BPF_PSEUDO_FUNC, distance ?? 0, 0);
      return distance === undefined ? { ...slot, target: name! } : slot;
    }
  }
}

/** `r1 = 5` is a move; `r1 = 0x5` is how `ld_imm64` prints. The opcode decides where the text gives it. */
function constant([dst, text]: Groups, opcode: number | undefined): ParsedInstruction | undefined {
  if (opcode === undefined ? !text!.includes('0x') : opcode !== op.LD_IMM64) return undefined;
  const magnitude = BigInt(text!.replace('-', ''));
  const value = BigInt.asUintN(64, text!.startsWith('-') ? -magnitude : magnitude);
  return wide(dst, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}

function arithmetic(groups: Groups): ParsedInstruction | undefined {
  const [kind, dst, sign, old, extend, srcKind, src, imm] = groups;
  const found = ALU_BY_SIGN[sign!];
  if (found === undefined || (srcKind !== undefined && srcKind !== kind)) return undefined;
  const code = (kind === 'w' || old !== undefined ? op.BPF_ALU : op.BPF_ALU64) | found.operation;
  if (src === undefined) {
    return extend === undefined
      ? checked(instruction(code, Number(dst), 0, found.off, immediate(imm)))
      : undefined;
  }
  if (extend !== undefined && found.operation !== op.BPF_MOV) return undefined;
  return instruction(
    code | op.BPF_X,
    Number(dst),
    Number(src),
    extend === undefined ? found.off : Number(extend),
  );
}
