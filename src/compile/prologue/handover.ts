/**
 * The hand-over from dispatcher to program: one word per CPU that says which packet is meant and which generation.
 * Bits and protocol: docs/arena.md, "Dispatcher and program".
 */
import { type Assembler, type Label, R0, R1, R2, R3, R6, R7, R8, type Register } from '../../isa/index.ts';
import { Generation, HANDOVER_OFFSET, HANDOVER_STRIDE, ROOT_ALIGNMENT, ROOT_BITS } from '../arena/layout.ts';
import { programArrayName } from '../attach.ts';
import type { HookEmitter } from '../hooks/hook.ts';
import type { RuleTag } from '../program.ts';

const ROOT_SHIFT = Math.log2(ROOT_ALIGNMENT);
const ROOT_LIMIT = 2 ** ROOT_BITS - 1;
const STRIDE_SHIFT = Math.log2(HANDOVER_STRIDE);
/** The identity is a multiple of 8. */
const IDENTITY_SHIFT = 3;

/** Turns the packet's identity in `register` into the upper bits of a hand-over or flight word. */
export function emitIdentityBits(asm: Assembler<RuleTag>, register: Register): void {
  asm.rsh(register, IDENTITY_SHIFT).lsh(register, ROOT_BITS);
}

/** r3 = pointer to this CPU's hand-over word, r0 = the CPU. Uses r0..r5. */
export function emitHandoverPointer(asm: Assembler<RuleTag>): void {
  asm.call('bpf_get_smp_processor_id');
  asm
    .mov(R2, R0)
    .lsh(R2, STRIDE_SHIFT)
    .loadArena(R3, 'arena', HANDOVER_OFFSET)
    .add(R3, R2)
    .castToKernel(R3, R3);
}

/** `word |= root / ROOT_ALIGNMENT`; `root` is lost. */
export function emitPackRoot(asm: Assembler<RuleTag>, word: Register, root: Register): void {
  asm.rsh(root, ROOT_SHIFT).or(word, root);
}

/**
 * In the program: r7 = the root, r8 = this CPU's counters. Tail-calls the dispatcher again when the word is not this
 * packet's; goes to `lost` when that fails. Uses r0..r5.
 */
export function emitTakeOver(asm: Assembler<RuleTag>, hook: HookEmitter, lost: Label): void {
  const mine = asm.label('handed_over');
  asm.note("this CPU's hand-over word: which packet, which generation");
  emitHandoverPointer(asm);
  asm.load('u64', R7, R3, 0);
  hook.identity(asm, R1);
  emitIdentityBits(asm, R1);
  asm.xor(R7, R1).jump('<=', R7, ROOT_LIMIT, mine);
  asm.note("another packet's: back to the dispatcher").mov(R1, R6).loadMap(R2, programArrayName(hook.point));
  hook.place(asm, R3);
  asm.call('bpf_tail_call').goto(lost);
  asm.place(mine);
  asm.note("the generation, and this CPU's counters in it").lsh(R7, ROOT_SHIFT).castToKernel(R7, R7);
  asm.load('u32', R8, R7, Generation.counterStride).mul(R8, R0);
  asm.load('u32', R1, R7, Generation.counters).add(R8, R1).castToKernel(R8, R8);
}
