/** An IPv6 extension header of a kind is in the chain: the walk of the prologue noted which it met. */

import type { ExtensionHeaderPredicate } from '../../ir/index.ts';
import { type Label, R1, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { EXTENSION_HEADERS, type Fact } from '../emit/fact.ts';

export const EXTENSION_HEADER_NEEDS: readonly Fact[] = ['extensionHeaders'];

export function emitExtensionHeader(
  emission: Emission,
  predicate: ExtensionHeaderPredicate,
  fail: Label,
): void {
  const { asm, facts } = emission;
  const bit = EXTENSION_HEADERS.indexOf(predicate.protocol);
  if (bit < 0) {
    asm.goto(fail);
    return;
  }
  asm
    .load('u32', R1, R10, facts.offset('extensionHeaders'))
    .and(R1, 1 << bit)
    .jump('==', R1, 0, fail);
}
