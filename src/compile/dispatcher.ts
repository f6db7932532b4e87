/**
 * The dispatcher: the small program that hangs at every attach point of a policy and stays there while generations come
 * and go. It finds the namespace's record, chooses the generation and tail-calls its program. docs/arena.md has the protocol.
 *
 * Registers: r6 context, r7 root, r8 record, r9 the hook's own; r0..r5 scratch.
 */
import {
  Assembler,
  type Label,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R10,
  type Register,
} from '../isa/index.ts';
import {
  FLIGHT_SLOTS,
  FLIGHTS_OFFSET,
  GATE_SIZE,
  GATES_OFFSET,
  Generation,
  RECORD_PROBES,
  RECORD_SIZE,
  RECORD_SLOTS,
  RECORDS_OFFSET,
  Record,
  ROOT_ALIGNMENT,
  ROOT_BITS,
} from './arena/layout.ts';
import { type AttachPoint, entryIndex, programArrayName } from './attach.ts';
import type { HookEmitter } from './hooks/hook.ts';
import { hookEmitter } from './hooks/index.ts';
import type { CompiledProgram, RuleTag } from './program.ts';
import { emitHandoverPointer, emitIdentityBits, emitPackRoot } from './prologue/handover.ts';

const RECORD_SHIFT = Math.log2(RECORD_SIZE);
const GATE_SHIFT = Math.log2(GATE_SIZE);
const ROOT_SHIFT = Math.log2(ROOT_ALIGNMENT);
/** Frame slot: when the gate closes. */
const CLOSES = -8;

/**
 * Where a packet stands on its way through a policy's hooks: at the `first` it notes which generation it met, at `later`
 * ones it keeps to that; a policy whose packets meet one hook only needs neither (`only`).
 */
export type FlightRole = 'only' | 'first' | 'later';

export function buildDispatcher(point: AttachPoint, role: FlightRole): CompiledProgram {
  const asm = new Assembler<RuleTag>();
  const hook = hookEmitter(point);
  const drop = asm.label('drop');
  const pass = asm.label('pass');
  const chosen = asm.label('chosen');

  hook.begin(asm);
  asm.note("the namespace's record");
  hook.cookie(asm, R1);
  emitFindRecord(asm, drop);
  emitChooseRoot(asm);
  if (role !== 'only') emitFlight(asm, hook, role, chosen);
  asm.place(chosen);

  // Hand over, then leave for the program.
  asm.note('hands over, and leaves for the program').jump('==', R7, 0, drop);
  emitHandoverPointer(asm);
  hook.identity(asm, R1);
  emitIdentityBits(asm, R1);
  asm.mov(R4, R7);
  emitPackRoot(asm, R1, R4);
  asm.store('u64', R3, 0, R1);
  asm.castToKernel(R7, R7);
  asm.load('u32', R3, R7, Generation.entries + 4 * entryIndex(point)).jump('==', R3, 0, pass);
  asm.mov(R1, R6).loadMap(R2, programArrayName(point)).call('bpf_tail_call');
  asm.place(drop).note('no record, no generation or no program: dropped').return(hook.drop);
  asm.place(pass).note('nothing to run here: passes').return(hook.accept);
  return {
    name: `slc_d${entryIndex(point)}_${role}`,
    point,
    type: hook.type,
    attachType: hook.attachType,
    code: asm.finish({ prune: true }),
  };
}

/** r8 = the record of the namespace whose cookie is in r1, as arena pointer. */
function emitFindRecord(asm: Assembler<RuleTag>, missing: Label): void {
  const found = asm.label('record');
  asm.jump('==', R1, 0, missing);
  asm
    .mov(R2, R1)
    .and(R2, RECORD_SLOTS - 1)
    .lsh(R2, RECORD_SHIFT);
  asm.loadArena(R8, 'arena', RECORDS_OFFSET).add(R8, R2).castToKernel(R8, R8);
  for (let probe = 0; probe < RECORD_PROBES; probe++) {
    if (probe > 0) asm.add(R8, RECORD_SIZE);
    asm.load('u64', R2, R8, Record.cookie).jump('==', R1, R2, found);
  }
  asm.goto(missing);
  asm.place(found);
}

/** r7 = the root to run: `previous` while the record's gate is closed, else `root`. */
function emitChooseRoot(asm: Assembler<RuleTag>): void {
  const open = asm.label('gate_open');
  const chosen = asm.label('root');
  asm
    .note('the generation: the previous one while its gate is closed')
    .load('u64', R7, R8, Record.root)
    .mov(R1, R7)
    .and(R1, ROOT_ALIGNMENT - 1)
    .jump('==', R1, 0, open);
  asm.lsh(R1, GATE_SHIFT).loadArena(R2, 'arena', GATES_OFFSET).add(R2, R1).castToKernel(R2, R2);
  asm.load('u64', R1, R2, 0).store('u64', R10, CLOSES, R1);
  asm.call('bpf_ktime_get_ns').load('u64', R1, R10, CLOSES);
  asm.jump('<', R0, R1, open).rsh(R7, 32).goto(chosen);
  asm.place(open).mov32(R7, R7).and(R7, -ROOT_ALIGNMENT);
  asm.place(chosen);
}

/** While a commit is under way: the first hook notes the root, later ones follow the note. */
function emitFlight(asm: Assembler<RuleTag>, hook: HookEmitter, role: FlightRole, chosen: Label): void {
  asm.note('while a commit is under way: the generation that the packet met first');
  asm.load('u32', R5, R8, Record.inFlight).jump('==', R5, 0, chosen);
  hook.identity(asm, R1);
  asm.mov(R2, R1);
  emitFlightPointer(asm, R3, R2);
  emitIdentityBits(asm, R1);
  if (role === 'first') {
    asm.mov(R4, R7);
    emitPackRoot(asm, R1, R4);
    asm.store('u64', R3, 0, R1);
    return;
  }
  asm
    .load('u64', R2, R3, 0)
    .xor(R2, R1)
    .jump('>', R2, 2 ** ROOT_BITS - 1, chosen);
  asm.lsh(R2, ROOT_SHIFT).jump('!=', R2, R5, chosen).mov(R7, R5);
}

/** `to` = pointer to the flight word of the packet whose identity is in `identity`, which is lost. */
function emitFlightPointer(asm: Assembler<RuleTag>, to: Register, identity: Register): void {
  // Identities are multiples of 8, and so are the places of the words.
  asm.and(identity, (FLIGHT_SLOTS - 1) * 8);
  asm.loadArena(to, 'arena', FLIGHTS_OFFSET).add(to, identity).castToKernel(to, to);
}
