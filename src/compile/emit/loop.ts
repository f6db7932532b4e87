/**
 * The head of a loop that the kernel's budget bounds (may_goto).
 *
 * The verifier forgets, from the second time it comes by, every known number of the frame that no branch has depended on
 * since the first (widen_imprecise_scalars in kernel/bpf/verifier.c). A return site forgotten so could be any, and the
 * way back to an earlier one looks like a loop without end. So the head asks for each site without minding the answer.
 */
import { type Label, R5, R10 } from '../../isa/index.ts';
import type { Emission } from './emission.ts';

/** More than any return site. */
const NO_SITE = 0x7fffffff;

/** Places `head`; a packet that uses up the budget is dropped, as nothing that rules say would come of it. Uses r5. */
export function emitLoopHead({ asm, labels, returnSlots }: Emission, head: Label): void {
  asm.place(head).mayGoto(labels.hotdrop);
  for (const slot of returnSlots) {
    const asked = asm.label('site_asked');
    asm.load('u64', R5, R10, slot).jump('==', R5, NO_SITE, asked).place(asked);
  }
}
