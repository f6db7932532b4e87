/**
 * Fields of headers that few rules ask about: read from the packet at the rule, not in the prologue.
 * What has to stand before them (a transport or extension-header predicate) has made sure that they are there.
 */

import type { ScalarField } from '../../ir/index.ts';
import { R1, R10 } from '../../isa/index.ts';
import type { Family } from '../../net/index.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

/** How many bytes lie where, and what is to be done with the number in r1 to make it the field. */
interface HeaderField {
  readonly at: number;
  readonly bytes: 1 | 2 | 4;
  /** Fact that holds the header's offset. */
  readonly header: (family: Family) => Fact;
  readonly finish?: (emission: Emission) => void;
}

const transport = (): Fact => 'transportOffset';
const auth = (family: Family): Fact => (family === 'ipv4' ? 'transportOffset' : 'authHeader');
const fragment = (): Fact => 'fragmentHeader';

/** The reserved byte, and the two reserved bits beside the M flag. */
const FRAGMENT_RESERVED = 0x00ff0006;

const HEADER_FIELDS: Partial<Record<ScalarField, HeaderField>> = {
  'esp.spi': { at: 0, bytes: 4, header: transport },
  'ah.spi': { at: 4, bytes: 4, header: auth },
  'ah.reserved': { at: 2, bytes: 2, header: auth },
  'ah.length': { at: 1, bytes: 1, header: auth, finish: ({ asm }) => asm.add(R1, 2).lsh(R1, 2) },
  'frag.id': { at: 4, bytes: 4, header: fragment },
  'frag.more': { at: 3, bytes: 1, header: fragment, finish: ({ asm }) => asm.and(R1, 1) },
  'frag.reserved': {
    at: 0,
    bytes: 4,
    header: fragment,
    finish: ({ asm }) => asm.and32(R1, FRAGMENT_RESERVED),
  },
};

export function headerFieldNeeds(field: ScalarField, family: Family): readonly Fact[] | undefined {
  const known = HEADER_FIELDS[field];
  return known === undefined ? undefined : [known.header(family)];
}

/** r1 = the field. Uses r0..r5. */
export function emitHeaderField(emission: Emission, field: ScalarField): void {
  const { asm, facts, family, frame, labels } = emission;
  const known = HEADER_FIELDS[field];
  if (known === undefined) throw new RangeError(`field ${field} has no place in a header`);
  const buffer = frame.block('scratch', 8);
  const word = facts.offset(known.header(family));
  emitCopy(emission, buffer, { constant: known.at, word }, known.bytes, labels.hotdrop);
  if (known.bytes === 1) asm.load('u8', R1, R10, buffer);
  else if (known.bytes === 2) asm.load('u16', R1, R10, buffer).toBe(R1, 16);
  else asm.load('u32', R1, R10, buffer).toBe(R1, 32);
  known.finish?.(emission);
}
