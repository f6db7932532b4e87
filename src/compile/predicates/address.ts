/** Addresses: masked comparison, and ranges in network order. */

import type { AddressField, AddressPredicate, AddressRangePredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { emitAddressConnection, emitConnectionAddressWord } from './connection.ts';

const ALL_ONES = 0xffffffff;

/** How a word of the address gets into r1; what has to be done first is done. */
function addressWord(emission: Emission, field: AddressField, none: Label): (word: number) => void {
  const fact = addressFact(field);
  if (fact !== undefined) {
    return (word) => void emission.asm.load('u32', R1, R10, emission.facts.offset(fact, word));
  }
  emitAddressConnection(emission, none);
  return (word) => emitConnectionAddressWord(emission, field, word, R1);
}

function addressFact(field: AddressField): 'source' | 'destination' | undefined {
  if (field === 'ip.source') return 'source';
  return field === 'ip.destination' ? 'destination' : undefined;
}

export function addressNeeds(predicate: AddressPredicate | AddressRangePredicate): readonly Fact[] {
  const fact = addressFact(predicate.field);
  return fact === undefined ? [] : [fact];
}

export function emitAddress(emission: Emission, predicate: AddressPredicate, fail: Label): void {
  const { asm } = emission;
  const load = addressWord(emission, predicate.field, fail);
  const different = predicate.negate ? asm.label('differs') : fail;
  for (let word = 0; word * 4 < predicate.value.length; word++) {
    const value = littleEndian(predicate.value, word);
    const mask = littleEndian(predicate.mask, word);
    if (mask === 0) {
      // Bits of the value outside the mask can never be met.
      if (value !== 0) asm.goto(different);
      continue;
    }
    load(word);
    if (mask !== ALL_ONES) asm.and32(R1, mask);
    asm.jump32('!=', R1, value, different);
  }
  if (predicate.negate) asm.goto(fail).place(different);
}

export function emitAddressRange(emission: Emission, predicate: AddressRangePredicate, fail: Label): void {
  const { asm } = emission;
  const load = addressWord(emission, predicate.field, fail);
  const outside = predicate.negate ? asm.label('outside') : fail;
  for (const [bound, low] of [
    [predicate.min, true],
    [predicate.max, false],
  ] as const) {
    const within = asm.label('within');
    for (let word = 0; word * 4 < bound.length; word++) {
      const limit = bigEndian(bound, word);
      load(word);
      asm.toBe(R1, 32);
      asm.jump32(low ? '<' : '>', R1, limit, outside);
      if (word * 4 + 4 < bound.length) asm.jump32('!=', R1, limit, within);
    }
    asm.place(within);
  }
  if (predicate.negate) asm.goto(fail).place(outside);
}

function littleEndian(bytes: Uint8Array, word: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(word * 4, true);
}

function bigEndian(bytes: Uint8Array, word: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(word * 4);
}
