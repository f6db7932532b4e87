/** `((field & mask) in any of ranges) xor negate`: one load and a comparison or two for each range. */

import { SCALAR_WIDTH, type ScalarPredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import type { Family } from '../../net/index.ts';
import type { Emission } from '../emit/emission.ts';
import { type Fact, FIELD_FACTS } from '../emit/fact.ts';
import { emitConnectionField, isConnectionField } from './connection.ts';
import { emitHeaderField, headerFieldNeeds } from './headerfield.ts';

/** `undefined` for fields that no code reads. */
export function scalarNeeds(predicate: ScalarPredicate, family: Family): readonly Fact[] | undefined {
  const fact = FIELD_FACTS[predicate.field];
  if (fact !== undefined) return [fact];
  return isConnectionField(predicate.field) ? [] : headerFieldNeeds(predicate.field, family);
}

export function emitScalar(emission: Emission, predicate: ScalarPredicate, fail: Label): void {
  const { asm, facts, family, labels } = emission;
  const fact = FIELD_FACTS[predicate.field];
  if (fact === 'protocol' && family === 'ipv6') {
    // ip6_packet_match: a chain without an end drops the packet at the first rule that asks for a protocol.
    asm.load('u32', R1, R10, facts.offset('protocolMissing')).jump('!=', R1, 0, labels.hotdrop);
  }
  const width = 2 ** SCALAR_WIDTH[predicate.field] - 1;
  if (isConnectionField(predicate.field)) emitConnectionField(emission, predicate.field, fail);
  else if (fact === undefined) emitHeaderField(emission, predicate.field);
  else asm.load('u32', R1, R10, facts.offset(fact));
  if ((predicate.mask & width) >>> 0 !== width) asm.and32(R1, predicate.mask >>> 0);
  emitInRanges(emission, predicate.ranges, width, predicate.negate, fail);
}

/** Goes to `fail` unless `(r1 in any of ranges) xor negate`; r1 is at most `width`. Keeps r1. */
export function emitInRanges(
  emission: Emission,
  ranges: readonly (readonly [number, number])[],
  width: number,
  negate: boolean,
  fail: Label,
): void {
  const { asm } = emission;
  const through = asm.label('in_range');
  const inside = negate ? fail : through;
  const outside = negate ? through : fail;
  for (const [index, [min, max]] of ranges.entries()) {
    const last = index === ranges.length - 1;
    const next = last && !negate ? outside : asm.label('next_range');
    if (min === max) {
      asm.jump32('!=', R1, min, next);
    } else {
      if (min === 1) asm.jump32('==', R1, 0, next);
      else if (min > 0) asm.jump32('<', R1, min, next);
      if (max < width) asm.jump32('>', R1, max, next);
    }
    if (!last || negate) asm.goto(inside);
    if (next !== outside) asm.place(next);
  }
  if (ranges.length === 0 && !negate) asm.goto(outside);
  asm.place(through);
}
