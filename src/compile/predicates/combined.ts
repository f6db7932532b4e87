/** Conjunction, disjunction and negation, left to right, as far as needed. */

import type { Predicate } from '../../ir/index.ts';
import type { Label } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitPredicate } from './index.ts';

export function emitAll(emission: Emission, of: readonly Predicate[], key: string, fail: Label): void {
  for (const [index, predicate] of of.entries()) emitPredicate(emission, predicate, `${key}.${index}`, fail);
}

export function emitAny(emission: Emission, of: readonly Predicate[], key: string, fail: Label): void {
  const { asm } = emission;
  const through = asm.label('any');
  for (const [index, predicate] of of.entries()) {
    const last = index === of.length - 1;
    const next = last ? fail : asm.label('or');
    emitPredicate(emission, predicate, `${key}.${index}`, next);
    if (!last) asm.goto(through).place(next);
  }
  if (of.length === 0) asm.goto(fail);
  asm.place(through);
}

export function emitNot(emission: Emission, of: Predicate, key: string, fail: Label): void {
  const { asm } = emission;
  const through = asm.label('not');
  emitPredicate(emission, of, `${key}.0`, through);
  asm.goto(fail).place(through);
}
