/** MARK: mark = (mark & ~mask) ^ value, seen by the rules that follow; at netfilter carried out by the action chain. */
import { R1, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitSetSkbMark } from '../hooks/skb.ts';

/** Uses r1. */
export function emitMark(emission: Emission, value: number, mask: number): void {
  const { asm, facts, hook } = emission;
  asm
    .load('u32', R1, R10, facts.offset('mark'))
    .and32(R1, ~mask >>> 0)
    .xor32(R1, value >>> 0);
  asm.store('u32', R10, facts.offset('mark'), R1);
  if (hook.point.flavour !== 'netfilter') emitSetSkbMark(asm);
}
