/** An IPv6 extension header of a kind is in the chain: the walk of the prologue noted which it met, and where. */

import type { ExtensionHeaderPredicate } from '../../ir/index.ts';
import { type Label, R1, R2, R10 } from '../../isa/index.ts';
import { emitCopy } from '../emit/copy.ts';
import type { Emission } from '../emit/emission.ts';
import type { Fact } from '../emit/fact.ts';
import { CHAIN_CUT_SHORT } from '../prologue/ipv6.ts';

const AUTH = 51;
const HEADERS: ReadonlyMap<number, Fact> = new Map<number, Fact>([
  [44, 'fragmentHeader'],
  [AUTH, 'authHeader'],
]);

/** `undefined` for kinds that the walk does not note. */
export function extensionHeaderNeeds(predicate: ExtensionHeaderPredicate): readonly Fact[] | undefined {
  const header = HEADERS.get(predicate.protocol);
  return header === undefined ? undefined : [header, 'protocolMissing', 'length'];
}

/** ipv6_find_hdr with a target: hotdrop when the chain is cut short before it, or fewer than `minimumBytes` are there. */
export function emitExtensionHeader(
  emission: Emission,
  predicate: ExtensionHeaderPredicate,
  fail: Label,
): void {
  const { asm, facts, frame, labels } = emission;
  const found = asm.label('header_found');
  const word = facts.offset(HEADERS.get(predicate.protocol)!);
  asm.load('u32', R1, R10, word).jump('!=', R1, 0, found);
  asm.load('u32', R1, R10, facts.offset('protocolMissing'));
  asm.jump('==', R1, CHAIN_CUT_SHORT, labels.hotdrop).goto(fail);
  asm.place(found).add(R1, predicate.minimumBytes);
  asm.load('u32', R2, R10, facts.offset('length')).jump('>', R1, R2, labels.hotdrop);
  if (!predicate.whole || predicate.protocol !== AUTH) return;
  const buffer = frame.block('scratch', 8);
  emitCopy(emission, buffer, { constant: 1, word }, 1, labels.hotdrop);
  asm.load('u8', R1, R10, buffer).add(R1, 2).lsh(R1, 2).load('u32', R2, R10, word).add(R1, R2);
  asm.load('u32', R2, R10, facts.offset('length')).jump('>', R1, R2, labels.hotdrop);
}
