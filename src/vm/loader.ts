/** From a program as it was compiled to slots that this machine runs: references, map constants, calls. */
import {
  type AssembledProgram,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  CALL,
  checkProgram,
  decodeProgram,
  formatInstruction,
  helperAllowed,
  helperName,
  type Instruction,
  IsaError,
  LD_IMM64,
  link,
  type ProgramType,
} from '../isa/index.ts';
import { VmError } from './error.ts';
import { HELPER_FUNCTIONS, KFUNC_NAMES } from './helpers/index.ts';
import { type KernelLayout, STRUCT_NAMES } from './kernel-layout.ts';
import { ArenaMap } from './maps/arena.ts';
import type { VmMap } from './maps/map.ts';

/** Calls of kernel functions carry their number above those of helpers. */
export const KFUNC_BASE = 1024;

/** What a program's names stand for. */
export interface LoadScope {
  mapNamed(name: string): VmMap | undefined;
  mapOf(handle: number): VmMap | undefined;
  readonly layout: KernelLayout;
  /** Names of kernel functions; a call carries the position + 1. */
  readonly kfuncNames: readonly string[];
  /** Whether programs of a type may call a kernel function; `undefined` when nothing is known of it. */
  kfuncAllowed(type: ProgramType, name: string): boolean | undefined;
}

/** @throws VmError `VM_PROGRAM` malformed, `VM_MAP` unknown map, `VM_HELPER` unknown or forbidden function */
export function resolveProgram(
  program: AssembledProgram | readonly Instruction[] | Uint8Array,
  type: ProgramType | undefined,
  scope: LoadScope,
): Instruction[] {
  const slots = linked(program, scope);
  for (const [index, slot] of slots.entries()) {
    const resolved = resolveConstant(slots, index, scope) ?? resolveCall(slots, index, type, scope);
    if (resolved === undefined) continue;
    slots[index] = resolved;
    if (slot.opcode === LD_IMM64) slots[index + 1] = { ...slots[index + 1]!, imm: 0 };
  }
  return slots;
}

/** Whether a resolved slot calls a function that gives pointers into kernel structures. */
export function isCast(slot: Instruction): boolean {
  if (slot.opcode !== CALL || slot.src !== BPF_PSEUDO_KFUNC_CALL) return false;
  const name = KFUNC_NAMES[slot.imm - KFUNC_BASE - 1];
  return name === 'bpf_cast_to_kern_ctx' || name === 'bpf_rdonly_cast';
}

function linked(
  program: AssembledProgram | readonly Instruction[] | Uint8Array,
  scope: LoadScope,
): Instruction[] {
  /** Position + 1, so that 0 is no id. */
  const idOf = (names: readonly string[], name: string): number | undefined =>
    names.indexOf(name) + 1 || undefined;
  try {
    let slots: Instruction[];
    if (program instanceof Uint8Array) {
      slots = decodeProgram(program);
    } else if ('instructions' in program) {
      slots = link(program, {
        map: (name) => scope.mapNamed(name)?.handle,
        arena: (name) => {
          const map = scope.mapNamed(name);
          return map instanceof ArenaMap ? BigInt(map.base) : undefined;
        },
        kfunc: (name) => idOf(scope.kfuncNames, name),
        type: (name) => idOf(STRUCT_NAMES, name),
        variable: () => undefined,
        field: (struct, member) => scope.layout.struct(struct)?.member(member)?.[0],
      });
    } else {
      slots = [...program];
    }
    checkProgram(slots);
    return slots;
  } catch (error) {
    if (!(error instanceof IsaError)) throw error;
    throw new VmError('VM_PROGRAM', error.message, {
      cause: error,
      ...(error.hint !== undefined && { hint: error.hint }),
    });
  }
}

/** A map constant as the handle or address it stands for. */
function resolveConstant(
  slots: readonly Instruction[],
  index: number,
  scope: LoadScope,
): Instruction | undefined {
  const slot = slots[index]!;
  if (slot.opcode !== LD_IMM64 || slot.src === 0 || slot.src === BPF_PSEUDO_FUNC) return undefined;
  const place = { index, instruction: formatInstruction(slots, index) };
  if (slot.src !== BPF_PSEUDO_MAP_FD && slot.src !== BPF_PSEUDO_MAP_VALUE) {
    throw new VmError('VM_PROGRAM', 'this kind of constant has a meaning in the kernel only', place);
  }
  const map = scope.mapOf(slot.imm);
  if (map === undefined) throw new VmError('VM_MAP', `there is no map ${slot.imm}`, place);
  if (slot.src === BPF_PSEUDO_MAP_FD) return { ...slot, src: 0, imm: map.handle };
  if (map.directValue === undefined) {
    throw new VmError('VM_MAP', `values of map ${map.spec.name} have no fixed address`, place);
  }
  return { ...slot, src: 0, imm: map.directValue + slots[index + 1]!.imm };
}

/** A call with the number of its function in this machine's tables. */
function resolveCall(
  slots: readonly Instruction[],
  index: number,
  type: ProgramType | undefined,
  scope: LoadScope,
): Instruction | undefined {
  const slot = slots[index]!;
  if (slot.opcode !== CALL || slot.src === BPF_PSEUDO_CALL) return undefined;
  const refusal = (message: string, hint: string): VmError =>
    new VmError('VM_HELPER', message, { index, instruction: formatInstruction(slots, index), hint });
  if (slot.src === BPF_PSEUDO_KFUNC_CALL) {
    const name = scope.kfuncNames[slot.imm - 1];
    if (name === undefined)
      throw refusal(`there is no kernel function ${slot.imm}`, 'call kernel functions by name');
    if (type !== undefined && scope.kfuncAllowed(type, name) === false) {
      throw refusal(
        `calling kernel function ${name} is not allowed`,
        `programs of type ${type} may not call it`,
      );
    }
    return { ...slot, imm: KFUNC_BASE + slot.imm };
  }
  const name = helperName(slot.imm);
  if (name === undefined)
    throw refusal(`invalid func unknown#${slot.imm}`, 'helpers have numbers from 1 to 211');
  if (type !== undefined && helperAllowed(type, name) === false) {
    throw refusal(`program of this type cannot use helper ${name}#${slot.imm}`, `the type is ${type}`);
  }
  if (HELPER_FUNCTIONS[slot.imm] === undefined) {
    throw refusal(`helper ${name} is not implemented`, 'it can run in the kernel only');
  }
  return undefined;
}
