/**
 * One program for all hooks of a table group and family at netfilter: a program of this type is not bound to its hook, which
 * the context names. So tables, walked by the same instructions everywhere, are verified once and not for every hook.
 */
import { type Assembler, type Label, R1, R6, type Register } from '../../isa/index.ts';
import { type AttachPoint, entryIndex, FIRST_PREEMPTIBLE_HOOK } from '../attach.ts';
import type { RuleTag } from '../program.ts';
import { CONTEXT_STATE, NetfilterHook } from './netfilter.ts';

export class NetfilterGroupHook extends NetfilterHook {
  override readonly preemptible = true;
  readonly #first: number;

  /** `point`: any of the group's. */
  constructor(point: AttachPoint & { flavour: 'netfilter' }) {
    super(point);
    this.#first = entryIndex(point) - point.hook;
  }

  askPreemptible(asm: Assembler<RuleTag>, yes: Label): void {
    this.#hook(asm, R1);
    asm.jump('>=', R1, FIRST_PREEMPTIBLE_HOOK, yes);
  }

  override place(asm: Assembler<RuleTag>, to: Register): void {
    this.#hook(asm, to);
    asm.add(to, this.#first);
  }

  #hook(asm: Assembler<RuleTag>, to: Register): void {
    asm.load('u64', to, R6, CONTEXT_STATE).loadField('u8', to, to, 'nf_hook_state', 'hook');
  }
}
