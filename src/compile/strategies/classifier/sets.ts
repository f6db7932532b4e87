/** Sets where rules are data: nodes and records describe set and key (layout.ts), and this code looks up and changes any set. */
import { type Label, R0, R1, R2, R3, R4, R5, R10, type Register } from '../../../isa/index.ts';
import { SETS_OFFSET } from '../../arena/layout.ts';
import { emitBlur } from '../../emit/blur.ts';
import type { Emission } from '../../emit/emission.ts';
import { emitChange, type SetOperation } from '../../sets/change.ts';
import { emitUsualTimeout } from '../../sets/extras.ts';
import { addressWords, setFrame } from '../../sets/frame.ts';
import { SetRecord, State } from '../../sets/layout.ts';
import { emitSearch } from '../../sets/match.ts';
import { emitPresence, type SetPart, type SetSubject } from '../../sets/subject.ts';
import { FACT_WORDS } from './facts.ts';
import { SET_COMPARISONS, SET_PARTS, SetChangeNode, SetNode, SetSource, SetSpec } from './layout.ts';
import type { WalkFrame } from './walkframe.ts';

/** Words of the longest key of a set that packets of the family are looked up in. */
const KEY_WORDS = { ipv4: 6, ipv6: 10 } as const;

/** The set whose description is noted, see {@link noteSpec}. */
function describedSubject(emission: Emission, walk: WalkFrame): SetSubject {
  const { asm, family, labels } = emission;
  const at = setFrame(emission);
  const record = (to: Register): void => {
    asm.load('u32', to, R10, walk.setRecord).castToKernel(to, to);
  };
  const unlessWord = (word: number, scratch: Register, end: Label): void => {
    if (word === 0) return;
    if (word === 1) {
      record(scratch);
      asm.load('u32', scratch, scratch, SetRecord.keyWords);
    }
    asm.jump('<=', scratch, word, end);
  };
  /** `to` = the frame's place of the fact whose place among facts is in it, `words` of which are there. */
  const factPointer = (to: Register, words: number): void => {
    asm
      .jump('>', to, FACT_WORDS.length - words, labels.malformed)
      .lsh(to, 2)
      .add(to, R10)
      .add(to, walk.facts);
  };
  /** r1 = the word of the key that the description in r3 says; to `missing` when the packet lacks one of these parts. Uses r0, r2. */
  const source = (word: number, parts: readonly SetPart[], missing: Label): void => {
    const known = asm.label('set_word');
    asm.load('u32', R0, R3, SetSpec.sources + word * 4).mov(R2, R0);
    asm.and(R2, SetSource.place);
    factPointer(R2, 1);
    asm.load('u32', R1, R2, 0).rsh(R0, SetSource.partShift).jump('==', R0, 0, known);
    for (const part of parts) {
      const other = asm.label('set_other_part');
      asm.jump('!=', R0, SET_PARTS.indexOf(part) + 1, other);
      emitPresence(emission, part, missing);
      asm.goto(known).place(other);
    }
    asm.place(known);
  };
  /** The MAC address behind the words in the description in r3 that tell entries apart, where entries of the set in r4 hold one. */
  const heldMac = (missing: Label): void => {
    const none = asm.label('set_holds_no_mac');
    asm.load('u32', R0, R4, SetRecord.macAt).jump('==', R0, 0, none);
    asm.load('u32', R0, R4, SetRecord.keyWords).lsh(R0, 2).add(R3, R0);
    for (const word of [0, 1]) {
      source(word, ['mac'], missing);
      asm.store('u32', R10, at.mac + word * 4, R1);
    }
    asm.place(none);
  };
  return {
    words: KEY_WORDS[family],
    networks: 2,
    bounded: true,
    mayHoldMac: family === 'ipv4',
    record,
    key: (missing) => {
      const done = asm.label('set_key_done');
      asm.load('u32', R3, R10, walk.setSpec).castToKernel(R3, R3);
      record(R4);
      for (let word = 0; word < KEY_WORDS[family]; word++) {
        unlessWord(word, R5, done);
        source(word, SET_PARTS, missing);
        asm.load('u32', R2, R4, SetRecord.masks + word * 4).and(R1, R2);
        asm.store('u32', R10, at.key + word * 4, R1);
      }
      asm.place(done);
      if (family === 'ipv4') heldMac(missing);
    },
    address: (network, pointer) => {
      const source = SetSpec.sources + network * addressWords(family) * 4;
      asm.load('u32', pointer, R10, walk.setSpec).castToKernel(pointer, pointer);
      asm.load('u32', pointer, pointer, source).and(pointer, SetSource.place);
      factPointer(pointer, addressWords(family));
      return (word, to) => asm.load('u32', to, pointer, word * 4);
    },
    settle: () => emitBlur(emission),
    unlessWord,
    unlessNetwork: (network, scratch, end) => {
      record(scratch);
      asm.load('u32', scratch, scratch, SetRecord.lengths + network * 4).jump('==', scratch, 0, end);
    },
  };
}

/** Notes the set and the key that are described `offset` bytes behind the arena pointer in `from`, which is lost. Uses r2. */
function noteSpec({ asm }: Emission, walk: WalkFrame, from: Register, offset: number): void {
  asm.add(from, offset).store('u32', R10, walk.setSpec, from).castToKernel(from, from);
  asm.load('u32', from, from, SetSpec.record).loadArena(R2, 'arena', SETS_OFFSET).add(from, R2);
  asm.store('u32', R10, walk.setRecord, from);
}

/** Asks the noted node. Goes to one of the labels. Uses r0..r5. */
export function emitAskSet(emission: Emission, walk: WalkFrame, holds: Label, fails: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  emitBlur(emission);
  asm.load('u32', R1, R10, walk.node);
  noteSpec(emission, walk, R1, SetNode.spec);
  const subject = describedSubject(emission, walk);
  emitSearch(emission, subject, fails, holds, (next) => {
    emitCounters(emission, walk, subject, next);
    asm.load('u32', R1, R10, at.state).and(R1, State.low);
    asm.load('u32', R2, R10, walk.node).castToKernel(R2, R2).load('u32', R2, R2, SetNode.flags);
    asm.and(R2, SetNode.returnNoMatch).jump('==', R1, R2, holds).goto(fails);
  });
}

const OPPOSITE = { eq: '!=', ne: '==', lt: '>=', gt: '<=' } as const;

/** Counts the packet at the entry in r1 and compares, as the noted node asks. Uses r0..r5. */
function emitCounters(emission: Emission, walk: WalkFrame, subject: SetSubject, fail: Label): void {
  const { asm, facts } = emission;
  const without = asm.label('set_uncounted');
  const counted = asm.label('set_counted');
  subject.record(R2);
  asm.load('u32', R2, R2, SetRecord.countersAt).jump('==', R2, 0, without).add(R1, R2);
  asm.load('u32', R4, R10, walk.node).castToKernel(R4, R4).load('u32', R5, R4, SetNode.flags);
  asm.mov(R2, R5).and(R2, SetNode.keepCounters).jump('!=', R2, 0, counted);
  asm.mov(R2, 1).atomic('add', 'u64', R1, 0, R2);
  asm.load('u32', R2, R10, facts.offset('length')).atomic('add', 'u64', R1, 8, R2);
  asm.place(counted);
  for (const { shift, value, counter } of [
    { shift: SetNode.packetsShift, value: SetNode.packets, counter: 0 },
    { shift: SetNode.bytesShift, value: SetNode.bytes, counter: 8 },
  ]) {
    const holds = asm.label('set_count_holds');
    asm.mov(R0, R5).rsh(R0, shift).and(R0, 7).jump('==', R0, 0, holds).load('u64', R2, R1, counter);
    asm
      .load('u32', R3, R4, value + 4)
      .lsh(R3, 32)
      .load('u32', R1, R4, value)
      .or(R3, R1);
    for (const [number, comparison] of SET_COMPARISONS.entries()) {
      const other = asm.label('set_other_comparison');
      asm
        .jump('!=', R0, number + 1, other)
        .jump(OPPOSITE[comparison], R2, R3, fail)
        .goto(holds);
      asm.place(other);
    }
    asm.place(holds);
    if (counter > 0) continue;
    const at = setFrame(emission);
    asm.load('u32', R1, R10, at.entry).castToKernel(R1, R1);
    subject.record(R2);
    asm.load('u32', R2, R2, SetRecord.countersAt).add(R1, R2);
  }
  asm.place(without);
}

/** Adds the packet's key to the noted node's set, or takes it out. Goes to one of the labels. Uses r0..r5. */
export function emitChangeSet(emission: Emission, walk: WalkFrame, done: Label, not: Label): void {
  const { asm } = emission;
  const node = (to: Register): void => {
    asm.load('u32', to, R10, walk.node).castToKernel(to, to);
  };
  const unlessFlag = (flag: number, to: Label): void => {
    node(R0);
    asm.load('u32', R0, R0, SetChangeNode.flags).and(R0, flag).jump('==', R0, 0, to);
  };
  emitBlur(emission);
  asm.load('u32', R1, R10, walk.node);
  noteSpec(emission, walk, R1, SetChangeNode.spec);
  const operation: SetOperation = {
    unlessAdds: (to) => unlessFlag(SetChangeNode.adds, to),
    unlessExist: (to) => unlessFlag(SetChangeNode.exist, to),
    timeout: () => {
      const known = asm.label('set_timeout');
      emitUsualTimeout(emission);
      node(R2);
      asm.load('u32', R2, R2, SetChangeNode.flags).and(R2, SetChangeNode.hasTimeout);
      asm.jump('==', R2, 0, known);
      node(R2);
      asm.load('u32', R3, R2, SetChangeNode.timeoutNs + 4).lsh(R3, 32);
      asm.load('u32', R2, R2, SetChangeNode.timeoutNs).or(R3, R2);
      asm.place(known);
    },
  };
  emitChange(emission, describedSubject(emission, walk), operation, done, not);
}
