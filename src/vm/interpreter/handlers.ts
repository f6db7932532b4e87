/**
 * The interpreter's instruction set: one handler for each thing an instruction can do, with the decision which one
 * taken once, when a program is loaded. `handlerOf` names the handler, `HANDLERS` holds them in the order of their numbers.
 */
import type { Instruction } from '../../isa/index.ts';
import * as op from '../../isa/index.ts';
import { defineAccess } from './access.ts';
import { defineArithmetic } from './arithmetic.ts';
import { defineControl, STOP_INVALID } from './control.ts';
import type { Emitter } from './emitter.ts';

export type Handler = (e: Emitter) => unknown;
export type Handlers = Map<string, Handler>;

export const HANDLERS: ReadonlyMap<string, Handler> = (() => {
  const handlers: Handlers = new Map();
  // Number 0: the second half of ld_imm64, and what lies behind a program.
  handlers.set('invalid', (e) => e.body.get(e.ip).i32(STOP_INVALID).call(e.imports.stop).op('unreachable'));
  defineArithmetic(handlers);
  defineAccess(handlers);
  defineControl(handlers);
  return handlers;
})();

const NUMBERS: ReadonlyMap<string, number> = new Map(
  [...HANDLERS.keys()].map((name, number) => [name, number]),
);

const ALU_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: 'add',
  [op.BPF_SUB]: 'sub',
  [op.BPF_MUL]: 'mul',
  [op.BPF_DIV]: 'div',
  [op.BPF_OR]: 'or',
  [op.BPF_AND]: 'and',
  [op.BPF_LSH]: 'lsh',
  [op.BPF_RSH]: 'rsh',
  [op.BPF_MOD]: 'mod',
  [op.BPF_XOR]: 'xor',
  [op.BPF_MOV]: 'mov',
  [op.BPF_ARSH]: 'arsh',
};
const JUMP_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_JEQ]: 'jeq',
  [op.BPF_JGT]: 'jgt',
  [op.BPF_JGE]: 'jge',
  [op.BPF_JSET]: 'jset',
  [op.BPF_JNE]: 'jne',
  [op.BPF_JSGT]: 'jsgt',
  [op.BPF_JSGE]: 'jsge',
  [op.BPF_JLT]: 'jlt',
  [op.BPF_JLE]: 'jle',
  [op.BPF_JSLT]: 'jslt',
  [op.BPF_JSLE]: 'jsle',
};
const ATOMIC_NAMES: Readonly<Record<number, string>> = {
  [op.BPF_ADD]: 'add',
  [op.BPF_OR]: 'or',
  [op.BPF_AND]: 'and',
  [op.BPF_XOR]: 'xor',
};

/** Number of the handler of an instruction that has passed `checkProgram`. */
export function handlerOf(slot: Instruction): number {
  const number = NUMBERS.get(handlerName(slot));
  if (number === undefined) throw new Error(`no handler for opcode ${slot.opcode}`);
  return number;
}

function handlerName(slot: Instruction): string {
  const form = op.isRegisterSource(slot.opcode) ? 'x' : 'k';
  const width = op.bytesOfSize(slot.opcode) * 8;
  switch (op.classOf(slot.opcode)) {
    case op.BPF_ALU:
      return arithmeticName(slot, 32, form);
    case op.BPF_ALU64:
      return arithmeticName(slot, 64, form);
    case op.BPF_JMP:
    case op.BPF_JMP32:
      return controlName(slot, form);
    case op.BPF_LDX:
      return `load.${op.modeOf(slot.opcode) === op.BPF_MEMSX ? 's' : 'u'}${width}`;
    case op.BPF_ST:
      return `store.k${width}`;
    case op.BPF_STX:
      return op.modeOf(slot.opcode) === op.BPF_MEM ? `store.x${width}` : atomicName(slot, width);
    default:
      if (slot.opcode === op.LD_IMM64) return 'lddw';
      return `packet.${op.modeOf(slot.opcode) === op.BPF_ABS ? 'abs' : 'ind'}${width}`;
  }
}

function arithmeticName(slot: Instruction, width: 32 | 64, form: string): string {
  const operation = op.operationOf(slot.opcode);
  switch (operation) {
    case op.BPF_NEG:
      return `neg${width}`;
    case op.BPF_END:
      // The machine is little endian: to-little keeps the bytes, to-big and the unconditional swap reverse them.
      return `${width === 32 && form === 'k' ? 'keep' : 'swap'}${slot.imm}`;
    case op.BPF_MOV:
      if (form === 'x' && slot.off === op.BPF_ADDR_SPACE_CAST) return 'mov32.x';
      if (form === 'x' && slot.off !== 0) return `movsx${width}.${slot.off}`;
      break;
  }
  return `${slot.off === 1 ? 's' : ''}${ALU_NAMES[operation]}${width}.${form}`;
}

function controlName(slot: Instruction, form: string): string {
  const operation = op.operationOf(slot.opcode);
  switch (operation) {
    case op.BPF_JA:
      return 'goto';
    case op.BPF_JCOND:
      return 'may_goto';
    case op.BPF_EXIT:
      return 'exit';
    case op.BPF_CALL:
      if (form === 'x') return 'call.register';
      return slot.src === op.BPF_PSEUDO_CALL ? 'call.function' : 'call';
  }
  return `${JUMP_NAMES[operation]}${op.classOf(slot.opcode) === op.BPF_JMP32 ? 32 : 64}.${form}`;
}

function atomicName(slot: Instruction, width: number): string {
  switch (slot.imm) {
    case op.BPF_LOAD_ACQ:
      return `load.u${width}`;
    case op.BPF_STORE_REL:
      return `store.x${width}`;
    case op.BPF_XCHG:
      return `atomic.xchg${width}`;
    case op.BPF_CMPXCHG:
      return `atomic.cmpxchg${width}`;
  }
  const fetch = (slot.imm & op.BPF_FETCH) !== 0 ? 'fetch_' : '';
  return `atomic.${fetch}${ATOMIC_NAMES[slot.imm & 0xf0]}${width}`;
}
