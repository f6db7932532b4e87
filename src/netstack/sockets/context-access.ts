/**
 * Which accesses of its context a program may make, checked before it is loaded: a walk over the program that follows
 * pointers to the context through registers, arithmetic with constants, and the stack.
 * Source: sk_lookup_is_valid_access of net/core/filter.c, check_ctx_access of kernel/bpf/verifier.c.
 */
import {
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_CALL,
  BPF_EXIT,
  BPF_JMP,
  BPF_JMP32,
  BPF_LDX,
  BPF_MEM,
  BPF_MOV,
  BPF_PSEUDO_CALL,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_X,
  type Instruction,
  LD_IMM64,
  successorsOf,
} from '../../isa/index.ts';
import { NetstackError } from '../errno.ts';

/** True when a program may read so many bytes at this offset of its context. */
export type ContextRule = (offset: number, bytes: number) => boolean;

type Value =
  | { readonly kind: 'context'; readonly offset: number }
  | { readonly kind: 'stack'; readonly offset: number }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'unknown' };
const UNKNOWN: Value = { kind: 'unknown' };

/** Registers r0..r10, and what lies in stack slots by offset. */
interface Knowledge {
  readonly registers: readonly Value[];
  readonly stack: ReadonlyMap<number, Value>;
}

const SIZES: Readonly<Record<number, number>> = { 0: 4, 8: 2, 16: 1, 24: 8 };
const CLASS = 0x07;
const SIZE = 0x18;
const MODE = 0xe0;
const OPERATION = 0xf0;

/**
 * @param returns values that the program may return; checked where they are constants
 * @throws {NetstackError} EACCES with the verifier's words and the instruction
 */
export function checkContextAccess(
  program: readonly Instruction[],
  mayRead: ContextRule,
  returns: readonly number[],
): void {
  const known: (Knowledge | undefined)[] = [];
  const work: number[] = [0];
  known[0] = {
    registers: Array.from({ length: 11 }, (_, register): Value => {
      if (register === 1) return { kind: 'context', offset: 0 };
      return register === 10 ? { kind: 'stack', offset: 0 } : UNKNOWN;
    }),
    stack: new Map(),
  };
  const flowInto = (index: number, knowledge: Knowledge): void => {
    const before = known[index];
    const after = before === undefined ? knowledge : join(before, knowledge);
    if (before !== undefined && sameKnowledge(before, after)) return;
    known[index] = after;
    work.push(index);
  };
  for (let index = work.pop(); index !== undefined; index = work.pop()) {
    const slot = program[index]!;
    const before = known[index]!;
    if (slot.opcode === (BPF_JMP | BPF_EXIT)) {
      checkReturn(before.registers[0]!, returns, index);
      continue;
    }
    const after = step(program, index, before, mayRead);
    if (slot.opcode === (BPF_JMP | BPF_CALL) && slot.src === BPF_PSEUDO_CALL) {
      flowInto(index + 1 + slot.imm, { registers: calleeRegisters(before), stack: new Map() });
    }
    for (const next of successorsOf(program, index)) flowInto(next, after);
  }
}

/** A callee sees the arguments and a frame of its own. */
function calleeRegisters({ registers }: Knowledge): Value[] {
  return registers.map((value, register): Value => {
    if (register === 10) return { kind: 'stack', offset: 0 };
    return register >= 1 && register <= 5 && value.kind === 'context' ? value : UNKNOWN;
  });
}

function step(
  program: readonly Instruction[],
  index: number,
  { registers, stack }: Knowledge,
  mayRead: ContextRule,
): Knowledge {
  const { opcode, dst, src, off, imm } = program[index]!;
  const set = (value: Value): Knowledge => ({ registers: registers.with(dst, value), stack });
  const bytes = SIZES[opcode & SIZE]!;
  switch (opcode & CLASS) {
    case BPF_LDX: {
      const base = registers[src]!;
      if (base.kind === 'context') {
        const at = base.offset + off;
        if ((opcode & MODE) !== BPF_MEM || !mayRead(at, bytes)) throw refusal(at, bytes, index);
        return set(UNKNOWN);
      }
      if (base.kind === 'stack' && bytes === 8) return set(stack.get(base.offset + off) ?? UNKNOWN);
      return set(UNKNOWN);
    }
    case BPF_ST:
    case BPF_STX: {
      const base = registers[dst]!;
      if (base.kind === 'context') throw refusal(base.offset + off, bytes, index);
      if (base.kind !== 'stack') return { registers, stack };
      const at = base.offset + off;
      const next = new Map(stack);
      for (const place of stack.keys()) if (place < at + bytes && at < place + 8) next.delete(place);
      const value = (opcode & CLASS) === BPF_STX ? registers[src]! : UNKNOWN;
      if (bytes === 8 && (opcode & MODE) === BPF_MEM && value.kind === 'context') next.set(at, value);
      return { registers, stack: next };
    }
    case BPF_ALU:
    case BPF_ALU64: {
      const operand: Value = (opcode & BPF_X) === 0 ? { kind: 'number', value: imm } : registers[src]!;
      return set(arithmetic(opcode, registers[dst]!, operand, off));
    }
    case BPF_JMP:
    case BPF_JMP32:
      if ((opcode & OPERATION) !== BPF_CALL) return { registers, stack };
      return { registers: registers.map((value, register) => (register <= 5 ? UNKNOWN : value)), stack };
    default:
      return opcode === LD_IMM64 ? set(UNKNOWN) : { registers: registers.with(0, UNKNOWN), stack };
  }
}

function arithmetic(opcode: number, left: Value, right: Value, off: number): Value {
  const operation = opcode & OPERATION;
  if (operation === BPF_MOV) {
    if (off !== 0) return UNKNOWN;
    return (opcode & CLASS) === BPF_ALU64 || right.kind === 'number' ? right : UNKNOWN;
  }
  if ((opcode & CLASS) !== BPF_ALU64 || right.kind !== 'number') return UNKNOWN;
  if (operation !== BPF_ADD && operation !== BPF_SUB) return UNKNOWN;
  const delta = operation === BPF_ADD ? right.value : -right.value;
  if (left.kind === 'context' || left.kind === 'stack')
    return { kind: left.kind, offset: left.offset + delta };
  return left.kind === 'number' ? { kind: 'number', value: left.value + delta } : UNKNOWN;
}

function join(a: Knowledge, b: Knowledge): Knowledge {
  const stack = new Map<number, Value>();
  for (const [at, value] of a.stack) {
    const other = b.stack.get(at);
    if (other !== undefined && sameValue(value, other)) stack.set(at, value);
  }
  const registers = a.registers.map((value, register) =>
    sameValue(value, b.registers[register]!) ? value : UNKNOWN,
  );
  return { registers, stack };
}

function sameValue(a: Value, b: Value): boolean {
  if (a.kind !== b.kind) return false;
  if (a.kind === 'number') return a.value === (b as typeof a).value;
  return a.kind === 'unknown' || a.offset === (b as typeof a).offset;
}

function sameKnowledge(a: Knowledge, b: Knowledge): boolean {
  return (
    a.stack.size === b.stack.size &&
    [...a.stack.keys()].every((at) => b.stack.has(at)) &&
    a.registers.every((value, register) => sameValue(value, b.registers[register]!))
  );
}

function checkReturn(value: Value, returns: readonly number[], index: number): void {
  if (value.kind !== 'number' || returns.includes(value.value)) return;
  throw new NetstackError(
    'EINVAL',
    `instruction ${index}: At program exit the register R0 has value ${value.value}`,
    `return one of ${returns.join(', ')}`,
  );
}

function refusal(offset: number, bytes: number, index: number): NetstackError {
  return new NetstackError(
    'EACCES',
    `instruction ${index}: invalid bpf_context access off=${offset} size=${bytes}`,
    'the context is read only; see the program type’s table of fields',
  );
}

/** Fields of struct bpf_sk_lookup: `[offset, bytes of the field, narrower reads allowed]`. */
const SK_LOOKUP_FIELDS: readonly (readonly [number, number])[] = [
  [8, 4],
  [12, 4],
  [16, 4],
  ...[20, 24, 28, 32].map((at): readonly [number, number] => [at, 4]),
  [40, 4],
  ...[44, 48, 52, 56].map((at): readonly [number, number] => [at, 4]),
  [60, 4],
  [64, 4],
];
const SK_LOOKUP_BYTES = 68;

/** What an sk_lookup program may read: `sk` whole, all else in 1, 2 or 4 bytes within a field. */
export function skLookupMayRead(offset: number, bytes: number): boolean {
  if (offset < 0 || offset >= SK_LOOKUP_BYTES || offset % bytes !== 0) return false;
  if (offset < 8) return offset === 0 && bytes === 8;
  // Two bytes of port and two of padding; one load of four sees the port alone.
  if (offset >= 36 && offset < 40) return bytes <= 2 || (bytes === 4 && offset === 36);
  return SK_LOOKUP_FIELDS.some(([at, size]) => bytes <= 4 && offset >= at && offset + bytes <= at + size);
}
