/**
 * The walk: chains of a list one after the other, rules in their order, jumps and returns, as ipt_do_table.
 *
 * In a part of vectors the rules that fit are enumerated from the vectors' common bits, block by block and word by word.
 * A jump keeps only where it came from; the caller's vectors are found again when it returns. Parts with the same records
 * one behind the other, or with a part without vectors between them, have their vectors found once.
 */
import { type Label, R0, R1, R2, R3, R4, R5, R7, R8, R10, type Register } from '../../../isa/index.ts';
import { emitHandedRejectWord } from '../../actions/handed.ts';
import { emitLog } from '../../actions/log.ts';
import { Generation } from '../../arena/layout.ts';
import { emitBlur } from '../../emit/blur.ts';
import { emitCountAt } from '../../emit/counter.ts';
import type { Emission } from '../../emit/emission.ts';
import { emitSetSkbMark } from '../../hooks/skb.ts';
import { emitAsk } from './ask.ts';
import { emitBitPlace, emitCountBits, emitTakeLowest } from './bits.ts';
import {
  CellTag,
  Chain,
  ChainKind,
  MAX_DEPTH,
  PolicyVerdict,
  RULE_RECORD_SHIFT,
  RuleAction,
  RuleRecord,
  SINGLE_SHIFT,
  TablesHeader,
} from './layout.ts';
import { emitFindVectors } from './lookup.ts';
import type { SetUse } from './setuse.ts';
import type { WalkFrame } from './walkframe.ts';

/**
 * `start` walks the list whose first place is in the frame; when every chain of it has accepted the packet, control goes
 * to `through`. Other verdicts go to the section's labels. Uses r0..r5.
 */
export function emitWalk(
  emission: Emission,
  walk: WalkFrame,
  sets: SetUse,
  start: Label,
  through: Label,
): void {
  new WalkWriter(emission, walk, sets, start, through).write();
}

class WalkWriter {
  readonly #emission: Emission;
  readonly #walk: WalkFrame;
  readonly #sets: SetUse;
  readonly #start: Label;
  readonly #through: Label;
  readonly #begin: Label;
  readonly #part: Label;
  readonly #enter: Label;
  readonly #nextRule: Label;
  readonly #linearRule: Label;
  readonly #nextBit: Label;
  readonly #rule: Label;
  readonly #ask: Label;
  readonly #askRule: Label;
  readonly #partEnd: Label;
  readonly #end: Label;

  constructor(emission: Emission, walk: WalkFrame, sets: SetUse, start: Label, through: Label) {
    const { asm } = emission;
    this.#emission = emission;
    this.#walk = walk;
    this.#sets = sets;
    this.#start = start;
    this.#through = through;
    this.#begin = asm.label('begin_chain');
    this.#part = asm.label('begin_part');
    this.#enter = asm.label('enter_part');
    this.#nextRule = asm.label('next_rule');
    this.#linearRule = asm.label('linear_rule');
    this.#nextBit = asm.label('next_bit');
    this.#rule = asm.label('rule');
    this.#ask = asm.label('ask');
    this.#askRule = asm.label('ask_rule');
    this.#partEnd = asm.label('end_of_part');
    this.#end = asm.label('end_of_chain');
  }

  write(): void {
    const { asm } = this.#emission;
    const matched = asm.label('matched');
    this.#nextChain();
    this.#enterPart();
    this.#linear();
    this.#bits();
    asm.place(this.#nextRule);
    emitBlur(this.#emission);
    asm.mayGoto(this.#emission.labels.malformed);
    this.#pointer(R1, this.#walk.chain);
    asm
      .load('u32', R0, R1, Chain.kind)
      .jump('!=', R0, ChainKind.linear, this.#nextBit)
      .goto(this.#linearRule);
    // Every way to a rule comes by here; the loop's head is `ask`.
    asm.place(this.#askRule).mov(R5, R1);
    emitBlur(this.#emission);
    asm.mov(R1, R5);
    emitAsk(this.#emission, this.#walk, this.#sets, this.#ask, matched, this.#nextRule);
    asm.place(matched);
    this.#act();
    this.#return();
  }

  /** `to` = the pointer in a word, to be loaded through. */
  #pointer(to: Register, word: number): void {
    this.#emission.asm.load('u32', to, R10, word).castToKernel(to, to);
  }

  #nextChain(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    asm.place(this.#start).mayGoto(labels.malformed);
    asm.load('u32', R1, R10, walk.list).castToKernel(R2, R1).load('u32', R2, R2, 0);
    asm.jump('==', R2, 0, this.#through).add(R1, 4).store('u32', R10, walk.list, R1);
    this.#chain(R2);
    asm.store('u32', R10, walk.base, R2).store('u32', R10, walk.depth, 0);
  }

  /** `number` = pointer to the first part of the chain of that number. Uses r0. */
  #chain(number: Register): void {
    const { asm } = this.#emission;
    asm.load('u32', R0, R7, Generation.tables).castToKernel(R0, R0).load('u32', R0, R0, TablesHeader.chains);
    asm.lsh(number, 2).add(number, R0).castToKernel(number, number).load('u32', number, number, 0);
  }

  /** At `begin` r2 = the first part of a chain, at `part` a later one; at `enter` part and first rule are in the frame. */
  #enterPart(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    const combine = asm.label('combine');
    asm.place(this.#begin).store('u32', R10, walk.found, 0);
    asm.place(this.#part).store('u32', R10, walk.chain, R2);
    asm.castToKernel(R2, R2).load('u32', R2, R2, Chain.first).store('u32', R10, walk.from, R2);
    asm.place(this.#enter);
    emitBlur(this.#emission);
    asm.mayGoto(labels.malformed);
    this.#pointer(R1, walk.chain);
    asm.load('u32', R0, R1, Chain.kind).jump('==', R0, ChainKind.linear, this.#linearRule);
    asm.load('u32', R0, R1, Chain.rules).load('u32', R2, R10, walk.found).jump('==', R2, R0, combine);
    asm.add(R0, 1).jump('==', R2, R0, this.#partEnd).store('u32', R10, walk.found, R0);
    emitFindVectors(this.#emission, walk, this.#partEnd);
    this.#pointer(R1, walk.chain);
    asm.load('u32', R0, R1, Chain.rules).store('u32', R10, walk.found, R0);
    asm.place(combine);
    this.#simple();
    asm.mov(R4, -1);
    this.#eachVector(walk.vectors, 12, () => asm.load('u64', R2, R1, 0).and(R4, R2));
    asm.load('u32', R1, R10, walk.from).rsh(R1, 12).mov(R2, -1).lsh(R2, R1).and(R4, R2);
    asm.store('u64', R10, walk.blockBits, R4);
    asm.store('u64', R10, walk.wordBits, 0).store('u64', R10, walk.ruleBits, 0).goto(this.#nextBit);
  }

  /** r1 = the chain. Where it has one vector, of a single rule, that rule is all there is to ask. Uses r0, r2, r3. */
  #simple(): void {
    const { asm } = this.#emission;
    const walk = this.#walk;
    const general = asm.label('general');
    asm.load('u32', R0, R1, Chain.simple).jump('==', R0, 0, general).load('u32', R2, R10, walk.vectors[0]!);
    // The others are 0.
    for (const word of walk.vectors.slice(1)) asm.load('u32', R3, R10, word).or(R2, R3);
    asm.mov(R3, R2).and(R3, CellTag.single).jump('==', R3, 0, general).rsh(R2, SINGLE_SHIFT);
    for (const bits of [walk.blockBits, walk.wordBits, walk.ruleBits]) asm.store('u64', R10, bits, 0);
    asm.load('u32', R3, R10, walk.from).jump('>=', R2, R3, this.#rule).goto(this.#partEnd);
    asm.place(general);
  }

  /**
   * With r1 = each vector (or block) that the chain has. For a single rule, takes all bits out of r4 but the one of its
   * part, 1 << `size` rules long. Uses r2.
   */
  #eachVector(words: readonly number[], size: number, emit: (index: number) => void): void {
    const { asm } = this.#emission;
    for (const [index, word] of words.entries()) {
      const done = asm.label('vector_done');
      const many = asm.label('many');
      asm.load('u32', R1, R10, word).jump('==', R1, 0, done);
      asm.mov(R2, R1).and(R2, CellTag.single).jump('==', R2, 0, many);
      if (words === this.#walk.vectors) asm.store('u32', R10, this.#walk.blocks[index]!, R1);
      asm
        .rsh(R1, size + SINGLE_SHIFT)
        .and(R1, 63)
        .mov(R2, 1)
        .lsh(R2, R1)
        .and(R4, R2)
        .goto(done);
      asm.place(many).castToKernel(R1, R1);
      emit(index);
      asm.place(done);
    }
  }

  /** The next rule of a part without vectors, with all its conditions. */
  #linear(): void {
    const { asm } = this.#emission;
    const walk = this.#walk;
    asm.place(this.#linearRule);
    this.#pointer(R1, walk.chain);
    asm.load('u32', R2, R10, walk.from).load('u32', R0, R1, Chain.count).jump('>=', R2, R0, this.#partEnd);
    asm.load('u32', R1, R1, Chain.rules).mov(R0, R2).lsh(R0, RULE_RECORD_SHIFT).add(R1, R0);
    asm.add(R2, 1).store('u32', R10, walk.from, R2).store('u32', R10, walk.record, R1);
    asm.castToKernel(R1, R1).load('u32', R1, R1, RuleRecord.all).goto(this.#askRule);
  }

  #bits(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    const nextBlock = asm.label('next_block');
    const nextWord = asm.label('next_word');
    const restOnly = asm.label('rest_only');

    asm.place(nextBlock).mayGoto(labels.malformed);
    asm.load('u64', R1, R10, walk.blockBits);
    emitTakeLowest(asm, R1, R5, this.#partEnd);
    asm.store('u64', R10, walk.blockBits, R1);
    this.#place(R2, R5);
    asm.lsh(R2, 12).store('u32', R10, walk.blockBase, R2).sub(R5, 1).mov(R4, -1);
    for (const block of walk.blocks) asm.store('u32', R10, block, 0);
    this.#eachVector(walk.vectors, 6, (index) => {
      this.#rank();
      asm.lsh(R2, 2).add(R1, R2).load('u32', R1, R1, 8).store('u32', R10, walk.blocks[index]!, R1);
      asm.castToKernel(R1, R1).load('u64', R2, R1, 0).and(R4, R2);
    });
    this.#maskBefore(walk.blockBase, 6);
    asm.store('u64', R10, walk.wordBits, R4);

    asm.place(nextWord).mayGoto(labels.malformed);
    asm.load('u64', R1, R10, walk.wordBits);
    emitTakeLowest(asm, R1, R5, nextBlock);
    asm.store('u64', R10, walk.wordBits, R1);
    this.#place(R2, R5);
    asm.lsh(R2, 6).load('u32', R1, R10, walk.blockBase).add(R2, R1).store('u32', R10, walk.wordBase, R2);
    asm.sub(R5, 1).mov(R4, -1);
    this.#eachVector(walk.blocks, 0, () => {
      this.#rank();
      asm.lsh(R2, 3).add(R1, R2).load('u64', R2, R1, 8).and(R4, R2);
    });
    this.#maskBefore(walk.wordBase, 0);
    asm.store('u64', R10, walk.ruleBits, R4);

    asm.place(this.#nextBit).mayGoto(labels.malformed);
    asm.load('u64', R1, R10, walk.ruleBits);
    emitTakeLowest(asm, R1, R5, nextWord);
    asm.store('u64', R10, walk.ruleBits, R1);
    this.#place(R2, R5);
    asm.load('u32', R1, R10, walk.wordBase).add(R2, R1);
    this.#pointer(R1, walk.chain);
    // r1 = the chain, r2 = the rule's number.
    asm.place(this.#rule);
    asm.load('u32', R0, R1, Chain.count).jump('>=', R2, R0, this.#partEnd).lsh(R2, RULE_RECORD_SHIFT);
    asm.load('u32', R1, R1, Chain.rules).add(R1, R2).store('u32', R10, walk.record, R1).castToKernel(R1, R1);
    asm.load('u32', R0, R10, walk.kind).jump('==', R0, 0, restOnly);
    asm.load('u32', R1, R1, RuleRecord.all).goto(this.#askRule);
    asm.place(restOnly).load('u32', R1, R1, RuleRecord.rest).goto(this.#askRule);
  }

  /** `to` = number of the only bit in `bit`. Uses r0. */
  #place(to: Register, bit: Register): void {
    const { asm } = this.#emission;
    asm.load('u32', R0, R7, Generation.tables).add(R0, TablesHeader.bitPlaces).castToKernel(R0, R0);
    emitBitPlace(asm, to, bit, R0);
  }

  /** r2 = how many bits of the u64 at r1 are among those in r5. Uses r0, r3. */
  #rank(): void {
    const { asm } = this.#emission;
    const none = asm.label('rank_none');
    asm.load('u64', R2, R1, 0).and(R2, R5).jump('==', R2, 0, none);
    emitCountBits(asm, R2, R3);
    asm.place(none);
  }

  /**
   * Takes the places before `from` out of r4, a place being 1 << `shift` rules, the first of them at `base`. No part that
   * lies wholly before `from` is come to.
   */
  #maskBefore(base: number, shift: number): void {
    const { asm } = this.#emission;
    const later = asm.label('later_part');
    asm.load('u32', R1, R10, this.#walk.from).load('u32', R2, R10, base);
    asm.jump('<=', R1, R2, later).sub(R1, R2).rsh(R1, shift).mov(R2, -1).lsh(R2, R1).and(R4, R2);
    asm.place(later);
  }

  /** The rule whose record is noted fits: counts it and does what it says. */
  #act(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    this.#pointer(R4, walk.record);
    asm.load('u32', R3, R4, RuleRecord.counter).mov(R5, R8).add(R5, R3);
    emitCountAt(this.#emission, R5, 0);
    asm.load('u32', R0, R4, RuleRecord.action);
    const actions: [number, () => void][] = [
      [RuleAction.jump, () => this.#jump()],
      [RuleAction.goto, () => this.#goto()],
      [RuleAction.log, () => this.#log()],
      [RuleAction.mark, () => this.#mark()],
      [RuleAction.reject, () => this.#reject()],
    ];
    asm.jump('==', R0, RuleAction.accept, this.#start).jump('==', R0, RuleAction.drop, labels.drop);
    asm.jump('==', R0, RuleAction.continue, this.#nextRule).jump('==', R0, RuleAction.return, this.#end);
    const entries = actions.map(([action, emit]) => ({ action, emit, label: asm.label('action') }));
    for (const { action, label } of entries) asm.jump('==', R0, action, label);
    asm.goto(labels.malformed);
    for (const { label, emit } of entries) {
      asm.place(label);
      emit();
    }
  }

  /** r4 = the record. */
  #jump(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    asm.load('u32', R1, R10, walk.depth).jump('>=', R1, MAX_DEPTH, labels.malformed);
    asm.mov(R2, R1).add(R2, 1).store('u32', R10, walk.depth, R2);
    asm.lsh(R1, 2).mov(R2, R10).add(R2, walk.returns).add(R2, R1);
    asm.load('u32', R1, R10, walk.record).store('u32', R2, 0, R1);
    this.#goto();
  }

  #goto(): void {
    const { asm } = this.#emission;
    asm.load('u32', R2, R4, RuleRecord.a);
    this.#chain(R2);
    asm.goto(this.#begin);
  }

  #log(): void {
    const { asm } = this.#emission;
    const { operand } = this.#walk;
    asm.load('u32', R1, R4, RuleRecord.a).store('u32', R10, operand, R1);
    // Which point it is, is known only then: every record says whose the packet is.
    emitLog(this.#emission, { word: operand }, ~0);
    asm.goto(this.#nextRule);
  }

  #mark(): void {
    const { asm, facts, hook, labels } = this.#emission;
    if (!hook.provides.has('mark')) {
      asm.goto(labels.malformed);
      return;
    }
    const mark = facts.offset('mark');
    asm.load('u32', R1, R10, mark).load('u32', R2, R4, RuleRecord.b).xor32(R2, -1).and32(R1, R2);
    asm.load('u32', R2, R4, RuleRecord.a).xor32(R1, R2).store('u32', R10, mark, R1);
    if (hook.point.flavour !== 'netfilter') emitSetSkbMark(asm);
    asm.goto(this.#nextRule);
  }

  #reject(): void {
    const { asm, hook, labels } = this.#emission;
    if (hook.point.flavour !== 'netfilter') {
      asm.goto(labels.malformed);
      return;
    }
    asm.load('u32', R1, R4, RuleRecord.a);
    emitHandedRejectWord(this.#emission, R1);
  }

  /** The end of a part: on to the next. RETURN and the end of the last one: back behind the jump, or the policy. */
  #return(): void {
    const { asm, labels } = this.#emission;
    const walk = this.#walk;
    const policy = asm.label('policy');
    const find = asm.label('find_part');
    const other = asm.label('other_part');
    asm.place(this.#partEnd);
    this.#pointer(R1, walk.chain);
    asm.load('u32', R2, R1, Chain.next).jump('!=', R2, 0, this.#part);
    asm.place(this.#end).load('u32', R1, R10, walk.depth).jump('==', R1, 0, policy);
    asm.sub(R1, 1).jump('>=', R1, MAX_DEPTH, labels.malformed).store('u32', R10, walk.depth, R1);
    asm.lsh(R1, 2).mov(R2, R10).add(R2, walk.returns).add(R2, R1).load('u32', R1, R2, 0);
    asm.castToKernel(R2, R1).load('u32', R3, R2, RuleRecord.b);
    this.#chain(R3);
    // The part that the jump's record is of: r1 = the record, r3 = a part, r0 = the record's index there.
    asm.place(find).mayGoto(labels.malformed).castToKernel(R4, R3);
    asm.load('u32', R2, R4, Chain.rules).mov(R0, R1).sub(R0, R2).rsh(R0, RULE_RECORD_SHIFT);
    asm.load('u32', R2, R4, Chain.count).jump('>=', R0, R2, other);
    asm.load('u32', R2, R4, Chain.first).jump('<', R0, R2, other);
    asm.store('u32', R10, walk.chain, R3).store('u32', R10, walk.found, 0);
    asm.add(R0, 1).store('u32', R10, walk.from, R0).goto(this.#enter);
    asm.place(other).load('u32', R3, R4, Chain.next).jump('!=', R3, 0, find).goto(labels.malformed);
    asm.place(policy);
    this.#pointer(R4, walk.base);
    asm.load('u32', R3, R4, Chain.policyCounter).mov(R5, R8).add(R5, R3);
    emitCountAt(this.#emission, R5, 0);
    asm.load('u32', R0, R4, Chain.policy).jump('==', R0, PolicyVerdict.accept, this.#start).goto(labels.drop);
  }
}
