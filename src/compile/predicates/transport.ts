/** The guard before transport fields: no match on later fragments, hotdrop (or no match) on a header that is cut short. */

import type { TransportPredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

export const TRANSPORT_NEEDS: readonly Fact[] = ['fragmentOffset', 'transportLength'];

export function emitTransport(emission: Emission, predicate: TransportPredicate, fail: Label): void {
  const { asm, facts, labels } = emission;
  asm.load('u32', R1, R10, facts.offset('fragmentOffset'));
  if (predicate.dropOffsetOne) asm.jump('==', R1, 1, labels.hotdrop);
  asm.jump('!=', R1, 0, fail);
  const short = predicate.onShort === 'hotdrop' ? labels.hotdrop : fail;
  asm.load('u32', R1, R10, facts.offset('transportLength')).jump('<', R1, predicate.minimumBytes, short);
}
