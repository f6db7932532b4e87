/**
 * What the emitters of predicates, actions and strategies share while one family section of a program is written.
 *
 * Registers, from the prologue on: r6 the context, r7 the generation's root (arena pointer), r8 this CPU's counters
 * (arena pointer), r9 the hook's own (see hooks/). r0..r5 are anybody's between two emitters.
 */
import type { Assembler, Label, Register } from '../../isa/index.ts';
import type { Family } from '../../net/index.ts';
import type { HookEmitter } from '../hooks/hook.ts';
import type { RuleTag } from '../program.ts';
import type { Facts } from './fact.ts';
import type { Frame } from './frame.ts';
import type { LogPoints } from './logpoint.ts';
import type { StateWords } from './state.ts';

/** What rules can do to the mark of a packet: the bits that any of them changes, and whether one may set it whole. */
export interface MarkChanges {
  readonly bits: number;
  readonly whole: boolean;
}

export const NO_MARK_CHANGES: MarkChanges = { bits: 0, whole: false };

export function unionOfMarks(a: MarkChanges, b: MarkChanges): MarkChanges {
  return { bits: (a.bits | b.bits) >>> 0, whole: a.whole || b.whole };
}

export interface Emission {
  readonly asm: Assembler<RuleTag>;
  readonly hook: HookEmitter;
  readonly family: Family;
  readonly facts: Facts;
  readonly frame: Frame;
  readonly state: StateWords;
  readonly handed: HandedActions;
  readonly logs: LogPoints;
  readonly labels: VerdictLabels;
  /** Jiffies a second of the machine that will run it. */
  readonly hz: number;
  /** Where programs serve any rules: what those do to marks is asked when it runs. Absent: it is what `handed` says. */
  readonly liveMarks?: LiveMarks;
}

export interface LiveMarks {
  /** To `none` when no rule here changes marks. Uses r1. */
  unlessChanged(none: Label): void;
  /** `bits` and `whole` = the two parts of {@link MarkChanges}, `whole` 1 or 0. */
  load(bits: Register, whole: Register): void;
}

/** Where verdicts are carried out: placed once per section. */
export interface VerdictLabels {
  readonly accept: Label;
  readonly drop: Label;
  /** Counts a hotdrop, then drops. */
  readonly hotdrop: Label;
  /** Counts a packet that cannot be parsed, then drops. */
  readonly malformed: Label;
  /** Answers the sender, then drops; where rules ask for it and the hook can. */
  readonly reply?: ReplyPlace;
}

export interface ReplyPlace {
  readonly label: Label;
  /** Bytes of the frame that answers need as the rules left them. */
  readonly frameSize: number;
}

/** What the netfilter action chain must be able to do for the programs of a policy, besides what is `known`. */
export class HandedActions {
  readonly #rejects = new Set<string>();
  #marks: MarkChanges;
  #used = false;

  constructor(known: MarkChanges = NO_MARK_CHANGES) {
    this.#marks = known;
  }

  /** True once a rule of the section hands something on. */
  get used(): boolean {
    return this.#used;
  }

  /** For programs that serve any rules: they may hand something on. */
  use(): void {
    this.#used = true;
  }

  get marks(): MarkChanges {
    return this.#marks;
  }

  /** enum ipt_reject_with or ip6t_reject_with, by family, in order. */
  rejects(family: Family): readonly number[] {
    const own = [...this.#rejects].filter((key) => key.startsWith(`${family} `));
    return own.map((key) => Number(key.slice(family.length + 1))).sort((a, b) => a - b);
  }

  reject(family: Family, reject: number): void {
    this.#used = true;
    this.#rejects.add(`${family} ${reject}`);
  }

  /** mark = (mark & ~mask) ^ value */
  mark({ value, mask }: { readonly value: number; readonly mask: number }): void {
    this.#used = true;
    const whole = mask >>> 0 === 0xffffffff;
    this.#marks = unionOfMarks(this.#marks, { bits: whole ? value : value | mask, whole });
  }
}
