/** xt_statistic.c: a random draw, or every n-th packet by a counter that all CPUs share. */

import type { StatisticPredicate } from '../../ir/index.ts';
import { type Label, R0, R2, R3, R4, R7 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { emitStatePointer } from '../emit/state.ts';

/** `key` names the rule's counter. Uses r0..r5. */
export function emitStatistic(
  emission: Emission,
  predicate: StatisticPredicate,
  key: string,
  fail: Label,
): void {
  const { asm } = emission;
  const { mode, negate } = predicate;
  if (mode.kind === 'random') {
    asm
      .call('bpf_get_prandom_u32')
      .and32(R0, 0x7fffffff)
      .jump32(negate ? '<' : '>=', R0, mode.probability >>> 0, fail);
    return;
  }
  // nval = oval == every - 1 ? 0 : oval + 1; a hit when nval is 0. The counter starts so that packet `packet` hits.
  const { every, packet } = mode;
  const word = emission.state.allot(key, BigInt(every - 1 - packet));
  const again = asm.label('nth_again');
  const step = asm.label('nth_step');
  emitLoopHead(emission, again);
  emitStatePointer(asm, R7, word);
  asm
    .load('u64', R0, R3, 0)
    .mov(R2, 0)
    .jump('==', R0, every - 1, step)
    .mov(R2, R0)
    .add(R2, 1);
  asm.place(step);
  asm.mov(R4, R0).compareExchange('u64', R3, 0, R2).jump('!=', R0, R4, again);
  asm.jump(negate ? '==' : '!=', R2, 0, fail);
}
