/** xt_statistic.c: a random draw, or every n-th packet by a counter that all CPUs share. */

import type { StatisticPredicate } from '../../ir/index.ts';
import { type Label, R0, R2, R3, R4, R7 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
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
  // A hit at every multiple of `every`; the counter starts so that packet `packet` is the first.
  const { every, packet } = mode;
  const word = emission.state.allot(key, BigInt(every - 1 - packet));
  emitStatePointer(asm, R7, word);
  asm.mov(R2, 1).atomic('add', 'u64', R3, 0, R2, 'fetch').add(R2, 1);
  asm.loadConstant(R4, every).alu('mod', R2, R4);
  asm.jump(negate ? '==' : '!=', R2, 0, fail);
}
