/**
 * Making the verifier forget. What ways to an instruction have in common it verifies once, and ways differ in what it knows of the
 * frame, down to which bytes were written how: so where many ways meet, that is taken from it. At a loop's head it is done before
 * the may_goto, for there the state is compared with those of earlier rounds (is_state_visited, kernel/bpf/verifier.c): one round
 * of the loop is verified, and where loops lie within each other not two for each of those around.
 */
import { R1, R2, R3, R7, R10 } from '../../isa/index.ts';
import { Generation } from '../arena/layout.ts';
import type { Emission } from './emission.ts';
import { FRAME_SIZE } from './frame.ts';

/**
 * A store that as far as the verifier knows may go anywhere in the frame, but to what the hook keeps there; it stores what is there
 * already. Uses r1, r2, r3.
 */
export function emitBlur({ asm, hook, labels }: Emission): void {
  asm.note('for the verifier alone: stores a byte of the frame where it is');
  asm.load('u32', R1, R7, Generation.zero).jump('>=', R1, FRAME_SIZE - hook.keeps, labels.malformed);
  asm.mov(R2, R10).add(R2, R1).load('u8', R3, R2, -FRAME_SIZE).store('u8', R2, -FRAME_SIZE, R3);
}
