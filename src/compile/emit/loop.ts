/** The head of a loop that the kernel's budget bounds (may_goto), where nothing that is counted does. */
import type { Label } from '../../isa/index.ts';
import type { Emission } from './emission.ts';

/** Places `head`; a packet that uses up the budget is dropped, as nothing that rules say would come of it. */
export function emitLoopHead({ asm, labels }: Emission, head: Label): void {
  asm.place(head).mayGoto(labels.hotdrop);
}
