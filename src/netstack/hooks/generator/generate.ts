/**
 * Base-hook programs: a hook list unrolled into direct calls instead of a loop over pointers.
 * Source: "netfilter: add bpf base hook program generator", RFC v2, October 2022 (net/netfilter/nf_hook_bpf.c of that series).
 *
 *     r6 = state   r7 = hook list (what state->priv held)   r8 = index of the hook that runs   r0 = verdict
 *
 *     prologue        3    r6 = r1; r7 = *(r1 + priv); w8 = 0
 *     each hook       2    call; if r0 != NF_ACCEPT goto fail        + 2 when it takes an argument: *(r6 + priv) = list argument
 *     between hooks   2    r1 = r6; w8 += 1
 *     end            33    return 1; the ways out of a drop, a steal and a queue, the last with the interpreter for what follows
 *
 * In all 36 + 4N - 2 + 2P instructions for N hooks of which P take an argument.
 */
import { type AssembledProgram, Assembler, R0, R1, R2, R3, R6, R7, R8 } from '../../../isa/index.ts';
import { Errno } from '../../errno.ts';
import { NF_ACCEPT, NF_DROP, NF_STOLEN, NF_VERDICT_MASK, NF_VERDICT_QBITS } from '../verdict.ts';
import { privOffset, STATE } from './layout.ts';

/** What the generator has to know of a hook: a name to call it by, and whether there is an argument to hand over. */
export interface GeneratedHook {
  readonly callee: string;
  readonly hasPriv: boolean;
}

/** Functions of the kernel that every program calls besides the hooks. */
export const RUNTIME_CALLS = {
  /** (skb) */
  free: 'kfree_skb',
  /** (skb, state, verdict) -> 1 to go on, 0 when the packet is gone */
  queue: 'nf_queue',
  /** (skb, state, list) -> what nf_hook_slow returns; begins at state->hook_index */
  slow: 'nf_hook_slow',
} as const;

/** Lists of 64 and more are not worth a program of their own in the cache. */
export const UNCACHED_HOOKS = 64;

/** Instructions that `generateHookProgram` makes for `hooks` of which `withPriv` take an argument. */
export function hookProgramLength(hooks: number, withPriv: number): number {
  return 36 + 4 * hooks - 2 + 2 * withPriv;
}

/** The program of a hook list. @throws RangeError for an empty list */
export function generateHookProgram(hooks: readonly GeneratedHook[]): AssembledProgram {
  if (hooks.length === 0) throw new RangeError('an empty hook list has no program');
  const asm = new Assembler();
  const fail = asm.label('fail');
  asm.note('prologue').mov(R6, R1).load('u64', R7, R1, STATE.priv).mov32(R8, 0);
  for (const [index, { callee, hasPriv }] of hooks.entries()) {
    if (index > 0) asm.mov(R1, R6).add32(R8, 1);
    asm.note(`hook ${index}`);
    if (hasPriv) asm.load('u64', R2, R7, privOffset(index)).store('u64', R6, STATE.priv, R2);
    asm.callKfunc(callee).jump('!=', R0, NF_ACCEPT, fail);
  }
  asm.note('accepted by all').mov32(R0, 1).exit();
  emitFailure(asm, fail);
  return asm.finish();
}

/** What stands in until a program is made, and where none is: the interpreter from the first hook on. */
export function generateFallbackProgram(): AssembledProgram {
  const asm = new Assembler();
  asm.mov(R6, R1).load('u64', R7, R1, STATE.priv).mov32(R8, 0);
  asm.store('u16', R6, STATE.hookIndex, R8);
  emitInterpreterCall(asm);
  return asm.finish();
}

function emitFailure(asm: Assembler, fail: ReturnType<Assembler['label']>): void {
  const notStolen = asm.label('not stolen');
  const queue = asm.label('queue');
  const negate = asm.label('negate');
  const goOn = asm.label('go on');
  asm.place(fail).note('verdict without its errno or queue');
  asm.mov32(R3, R0).and32(R3, NF_VERDICT_MASK);
  asm.jump('!=', R3, NF_STOLEN, notStolen).mov32(R0, 0).exit();
  asm.place(notStolen).jump('!=', R3, NF_DROP, queue);
  asm.rsh32(R0, NF_VERDICT_QBITS).jump('!=', R0, 0, negate).mov32(R0, Errno.EPERM);
  asm.place(negate).neg32(R0).mov32(R8, R0);
  asm.load('u64', R1, R6, STATE.skb).callKfunc(RUNTIME_CALLS.free).mov32(R0, R8).exit();
  asm.place(queue).note('queue');
  asm.load('u64', R1, R6, STATE.skb).store('u16', R6, STATE.hookIndex, R8);
  asm.mov(R2, R6).mov32(R3, R0).callKfunc(RUNTIME_CALLS.queue);
  asm.jump('!=', R0, 0, goOn).mov32(R0, 0).exit();
  asm.place(goOn).note('nobody listens: the interpreter runs the rest').add32(R8, 1);
  asm.store('u16', R6, STATE.hookIndex, R8);
  emitInterpreterCall(asm);
}

function emitInterpreterCall(asm: Assembler): void {
  asm.store('u64', R6, STATE.priv, R7);
  asm.load('u64', R1, R6, STATE.skb).mov(R2, R6).mov(R3, R7);
  asm.callKfunc(RUNTIME_CALLS.slow).exit();
}
