/** Internet checksums (RFC 1071) of what lies in the frame and of the packet as it was received. */
import { type Label, R0, R1, R2, R3, R4, R5, R10 } from '../../../isa/index.ts';
import { emitCopyVariable } from '../../emit/copy.ts';
import type { Emission } from '../../emit/emission.ts';

const CHUNK = 32;

/** r0 = sum of `bytes` bytes (a multiple of 4) at the frame offset, added to the seed in r5; not folded. Uses r0..r5. */
export function emitFrameSum(emission: Emission, at: number, bytes: number): void {
  emission.asm.mov(R1, 0).mov(R2, 0).mov(R3, R10).add(R3, at).mov(R4, bytes).call('bpf_csum_diff');
}

/** r0 folded to 16 bits. Uses r1. */
export function emitFold(emission: Emission): void {
  const { asm } = emission;
  for (let round = 0; round < 3; round++) asm.mov(R1, R0).rsh(R1, 16).and(R0, 0xffff).add(R0, R1);
}

/** r0 = the checksum of that sum. Uses r1. */
export function emitChecksum(emission: Emission): void {
  emitFold(emission);
  emission.asm.xor(R0, 0xffff);
}

/**
 * Stores in the word at `sum` the sum of the packet from its network header to the offset that the word at `end` has. Goes to
 * `short` when that is not all there. Uses r0..r5 and the frame's scratch block.
 */
export function emitPacketSum(emission: Emission, end: number, sum: number, short: Label): void {
  const { asm, frame } = emission;
  const at = frame.word('summed');
  const chunk = frame.block('scratch', 40);
  const next = asm.label('sum_next');
  const last = asm.label('sum_last');
  const done = asm.label('sum_done');
  asm.store('u32', R10, at, 0).store('u32', R10, sum, 0);
  asm.place(next).mayGoto(short);
  asm.load('u32', R4, R10, end).load('u32', R1, R10, at).sub(R4, R1).jump('s<=', R4, 0, done);
  asm.jump('<=', R4, CHUNK, last).mov(R4, CHUNK);
  asm.place(last);
  for (let word = 0; word < CHUNK; word += 8) asm.store('u64', R10, chunk + word, 0);
  emitCopyVariable(emission, chunk, { constant: 0, word: at }, short);
  asm.load('u32', R5, R10, sum);
  emitFrameSum(emission, chunk, CHUNK);
  emitFold(emission);
  asm.store('u32', R10, sum, R0);
  asm.load('u32', R1, R10, at).add(R1, CHUNK).store('u32', R10, at, R1).goto(next);
  asm.place(done);
}
