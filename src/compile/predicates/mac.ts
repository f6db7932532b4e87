/** `-m mac --mac-source`: false where there is no Ethernet header (xt_mac.c). */

import type { MacSourcePredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';

export const MAC_NEEDS: readonly Fact[] = ['macSource', 'hasMac'];

export function emitMacSource(emission: Emission, predicate: MacSourcePredicate, fail: Label): void {
  const { asm, facts } = emission;
  const view = new DataView(predicate.address.buffer, predicate.address.byteOffset, 6);
  const different = predicate.negate ? asm.label('differs') : fail;
  asm.load('u32', R1, R10, facts.offset('hasMac')).jump('==', R1, 0, fail);
  asm.load('u32', R1, R10, facts.offset('macSource', 0)).jump32('!=', R1, view.getUint32(0, true), different);
  asm.load('u32', R1, R10, facts.offset('macSource', 1)).jump32('!=', R1, view.getUint16(4, true), different);
  if (predicate.negate) asm.goto(fail).place(different);
}
