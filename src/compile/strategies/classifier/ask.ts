/** Asks conditions: follows nodes (layout.ts) from the one whose pointer is in r1, as the predicates' own code would. */
import { type Label, R0, R1, R2, R3, R5, R7, R10, type Register } from '../../../isa/index.ts';
import { Generation } from '../../arena/layout.ts';
import { emitBlur } from '../../emit/blur.ts';
import type { Emission } from '../../emit/emission.ts';
import { emitTypeWalk } from '../../predicates/addresstype.ts';
import { emitExtensionHeader } from '../../predicates/extensionheader.ts';
import { emitHeaderField } from '../../predicates/headerfield.ts';
import { emitBucket } from '../../predicates/limit.ts';
import { emitOptionWalk } from '../../predicates/tcpoption.ts';
import { FACT_WORDS } from './facts.ts';
import { Node, Operation, Way } from './layout.ts';
import { emitAskSet, emitChangeSet } from './sets.ts';
import type { SetUse } from './setuse.ts';
import { ADDRESS_TYPES, EXTENSION_HEADERS, HEADER_FIELDS } from './variants.ts';
import type { WalkFrame } from './walkframe.ts';

/** `fails` and `holds` are where the end of the conditions leads; placed behind it falls nothing. Uses r0..r5. */
export function emitAsk(
  emission: Emission,
  walk: WalkFrame,
  sets: SetUse,
  ask: Label,
  holds: Label,
  fails: Label,
): void {
  new AskWriter(emission, walk, sets, ask).write(holds, fails);
}

class AskWriter {
  readonly #emission: Emission;
  readonly #walk: WalkFrame;
  readonly #sets: SetUse;
  readonly #ask: Label;
  readonly #yes: Label;
  readonly #no: Label;
  /** As `yes` and `no`, where r5 is no longer the node. */
  readonly #yesAgain: Label;
  readonly #noAgain: Label;

  constructor(emission: Emission, walk: WalkFrame, sets: SetUse, ask: Label) {
    const { asm } = emission;
    this.#emission = emission;
    this.#walk = walk;
    this.#sets = sets;
    this.#ask = ask;
    this.#yes = asm.label('condition_holds');
    this.#no = asm.label('condition_fails');
    this.#yesAgain = asm.label('condition_holds_again');
    this.#noAgain = asm.label('condition_fails_again');
  }

  write(holds: Label, fails: Label): void {
    const { asm, labels } = this.#emission;
    const inRanges = asm.label('in_ranges');
    const operations: [number, () => void][] = [
      [Operation.ranges, () => this.#fact(inRanges)],
      [Operation.word, () => this.#word()],
      [Operation.words, () => this.#words()],
      [Operation.addressRange, () => this.#addressRange()],
      [Operation.headerField, () => this.#headerField(inRanges)],
      [Operation.tcpOption, () => this.#tcpOption()],
      [Operation.addressType, () => this.#addressType()],
      [Operation.extensionHeader, () => this.#extensionHeader()],
      [Operation.limit, () => this.#limit()],
      [Operation.random, () => this.#random()],
      [Operation.nth, () => this.#nth()],
    ];
    if (this.#sets !== 'none') operations.push([Operation.set, () => this.#set(emitAskSet)]);
    if (this.#sets === 'changed') operations.push([Operation.changeSet, () => this.#set(emitChangeSet)]);
    asm.place(this.#ask).mayGoto(labels.malformed);
    asm.jump('==', R1, Way.fails, fails).jump('==', R1, Way.holds, holds);
    asm.jump('==', R1, Way.hotdrop, labels.hotdrop);
    asm.store('u32', R10, this.#walk.node, R1).castToKernel(R5, R1).load('u32', R0, R5, Node.operation);
    const entries = operations.map(([operation, emit]) => ({
      operation,
      emit,
      label: asm.label('operation'),
    }));
    for (const { operation, label } of entries) asm.jump('==', R0, operation, label);
    asm.goto(labels.malformed);
    for (const { label, emit } of entries) {
      asm.place(label);
      emit();
    }
    this.#inRanges(inRanges);
    asm.place(this.#yesAgain);
    emitBlur(this.#emission);
    this.#reload();
    asm.place(this.#yes).load('u32', R1, R5, Node.yes).goto(this.#ask);
    asm.place(this.#noAgain);
    emitBlur(this.#emission);
    this.#reload();
    asm.place(this.#no).load('u32', R1, R5, Node.no).goto(this.#ask);
  }

  /** r5 = the node. */
  #reload(): void {
    this.#emission.asm.load('u32', R5, R10, this.#walk.node).castToKernel(R5, R5);
  }

  /** `to` = pointer to the fact whose place is at Node.a, `words` of which are there. Uses r0. */
  #factPointer(to: Register, words: number): void {
    const { asm, labels } = this.#emission;
    asm.load('u32', R0, R5, Node.a).jump('>', R0, FACT_WORDS.length - words, labels.malformed);
    asm.lsh(R0, 2).mov(to, R10).add(to, this.#walk.facts).add(to, R0);
  }

  #fact(inRanges: Label): void {
    const { asm } = this.#emission;
    this.#factPointer(R1, 1);
    asm.load('u32', R0, R1, 0).goto(inRanges);
  }

  /** r0 = the number, r5 = the node. */
  #inRanges(label: Label): void {
    const { asm, labels } = this.#emission;
    const range = asm.label('range');
    const next = asm.label('next_range');
    asm.place(label).load('u32', R1, R5, Node.b).and(R0, R1).load('u32', R2, R5, Node.c);
    asm.mov(R3, R5);
    asm.place(range).mayGoto(labels.malformed).jump('==', R2, 0, this.#no);
    asm.load('u32', R1, R3, Node.d).jump('<', R0, R1, next);
    asm.load('u32', R1, R3, Node.d + 4).jump('<=', R0, R1, this.#yes);
    asm.place(next).add(R3, 8).sub(R2, 1).goto(range);
  }

  #word(): void {
    const { asm } = this.#emission;
    this.#factPointer(R1, 1);
    asm.load('u32', R0, R1, 0).load('u32', R1, R5, Node.b).and(R0, R1);
    asm.load('u32', R1, R5, Node.c).jump('==', R0, R1, this.#yes).goto(this.#no);
  }

  #words(): void {
    const { asm } = this.#emission;
    this.#factPointer(R2, 4);
    for (let word = 0; word < 4; word++) {
      asm.load('u32', R0, R2, word * 4).load('u32', R1, R5, Node.b + word * 4);
      asm.and(R0, R1).load('u32', R1, R5, Node.b + 16 + word * 4);
      asm.jump('!=', R0, R1, this.#no);
    }
    asm.goto(this.#yes);
  }

  #addressRange(): void {
    const { asm, family } = this.#emission;
    const count = family === 'ipv4' ? 1 : 4;
    this.#factPointer(R2, count);
    for (const low of [true, false]) {
      const within = asm.label('within');
      for (let word = 0; word < count; word++) {
        asm.load('u32', R0, R2, word * 4).toBe(R0, 32);
        asm.load('u32', R1, R5, Node.c + (low ? 0 : count * 4) + word * 4);
        asm.jump(low ? '<' : '>', R0, R1, this.#no);
        if (word + 1 < count) asm.jump('!=', R0, R1, within);
      }
      asm.place(within);
    }
    asm.goto(this.#yes);
  }

  /** Goes to the part whose number is at Node.a. */
  #choose(parts: readonly (() => void)[]): void {
    const { asm, labels } = this.#emission;
    asm.load('u32', R0, R5, Node.a);
    for (const [number, part] of parts.entries()) {
      const other = asm.label('variant');
      asm.jump('!=', R0, number, other);
      part();
      asm.place(other);
    }
    asm.goto(labels.malformed);
  }

  #headerField(inRanges: Label): void {
    const { asm, family } = this.#emission;
    const read = asm.label('header_field');
    this.#choose(
      HEADER_FIELDS.map((field) => () => {
        // IPv4 has no fragment header: no rule asks for its fields.
        if (family === 'ipv4' && field.startsWith('frag.')) return;
        emitHeaderField(this.#emission, field);
        asm.goto(read);
      }),
    );
    asm.place(read).mov(R0, R1);
    this.#reload();
    asm.goto(inRanges);
  }

  #tcpOption(): void {
    const { asm } = this.#emission;
    const { operand } = this.#walk;
    asm.load('u32', R1, R5, Node.a).store('u32', R10, operand, R1);
    emitOptionWalk(this.#emission, { word: operand }, this.#yesAgain, this.#noAgain);
  }

  #addressType(): void {
    const { asm, hook } = this.#emission;
    const typed = asm.label('typed');
    this.#choose(
      ADDRESS_TYPES.map((variant) => () => {
        const index = variant.limitTo === 'in' ? 'inIfindex' : 'outIfindex';
        if (variant.limitTo !== 'none' && !hook.provides.has(index)) return;
        emitTypeWalk(this.#emission, variant);
        asm.goto(typed);
      }),
    );
    asm.place(typed);
    this.#reload();
    asm.mov(R2, 1).and(R1, 31).lsh(R2, R1).load('u32', R1, R5, Node.b).and(R2, R1);
    asm.jump('!=', R2, 0, this.#yes).goto(this.#no);
  }

  #extensionHeader(): void {
    const { asm, family, labels } = this.#emission;
    if (family === 'ipv4') {
      asm.goto(labels.malformed);
      return;
    }
    this.#choose(
      EXTENSION_HEADERS.map((variant) => () => {
        emitExtensionHeader(this.#emission, variant, this.#noAgain);
        asm.goto(this.#yesAgain);
      }),
    );
  }

  #limit(): void {
    const { asm } = this.#emission;
    const number = (to: Register, at: number): void => {
      asm.load('u32', to, R10, this.#walk.node).castToKernel(to, to).load('u32', to, to, at);
    };
    emitBucket(
      this.#emission,
      {
        pointer: () => {
          number(R1, Node.a);
          this.#statePointer();
        },
        cap: (to) => number(to, Node.c),
        jumpUnless: (condition, which, to) => {
          number(R1, which === 'cap' ? Node.c : Node.b);
          asm.jump32(condition, R2, R1, to);
        },
        setCap: () => number(R2, Node.c),
        spend: () => {
          number(R1, Node.b);
          asm.sub32(R2, R1);
        },
      },
      this.#noAgain,
    );
    asm.goto(this.#yesAgain);
  }

  /** r3 = the state word at byte offset r1. */
  #statePointer(): void {
    const { asm } = this.#emission;
    asm.load('u32', R3, R7, Generation.state).add(R3, R1).castToKernel(R3, R3);
  }

  #set(emit: typeof emitAskSet): void {
    emit(this.#emission, this.#walk, this.#yesAgain, this.#noAgain);
  }

  #random(): void {
    const { asm } = this.#emission;
    asm.call('bpf_get_prandom_u32').and32(R0, 0x7fffffff);
    this.#reload();
    asm.load('u32', R1, R5, Node.a).jump('<', R0, R1, this.#yes).goto(this.#no);
  }

  /** As predicates/statistic.ts. */
  #nth(): void {
    const { asm } = this.#emission;
    this.#reload();
    asm.load('u32', R1, R5, Node.b);
    this.#statePointer();
    asm.mov(R2, 1).atomic('add', 'u64', R3, 0, R2, 'fetch').add(R2, 1);
    asm.load('u32', R1, R5, Node.a).alu('mod', R2, R1);
    asm.jump('==', R2, 0, this.#yes).goto(this.#no);
  }
}
