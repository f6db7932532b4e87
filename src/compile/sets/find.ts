/** The search for a packet's key in the table of a set (layout.ts). */
import { type Label, R0, R1, R2, R3, R4, R5, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { addressWords, setFrame } from './frame.ts';
import { BUCKET_SLOTS, Bucket, LengthNode, MAX_DISTANCE, SetRecord, State, TAG_BITS } from './layout.ts';
import type { SetSubject } from './subject.ts';

/**
 * Masks the key's network by the length whose node is noted, and puts the length into the key: behind this network, where
 * the next one, narrowed afterwards, writes over it. Uses r0..r3.
 */
export function emitNarrow(emission: Emission, subject: SetSubject, network: 0 | 1): void {
  const { asm, family } = emission;
  const at = setFrame(emission);
  const width = addressWords(family);
  asm.load('u32', R2, R10, at.lengths[network]).castToKernel(R2, R2);
  const load = subject.address(network, R3);
  for (let word = 0; word < width; word++) {
    load(word, R1);
    asm
      .load('u32', R0, R2, LengthNode.mask + word * 4)
      .and(R1, R0)
      .store('u32', R10, at.key + (network * width + word) * 4, R1);
  }
  asm.load('u32', R1, R2, LengthNode.length);
  if (network === 1) {
    asm.load('u32', R2, R10, at.lengths[0]).castToKernel(R2, R2).load('u32', R2, R2, LengthNode.length);
    asm.lsh(R1, 8).or(R1, R2);
  }
  asm.store('u32', R10, at.key + (network + 1) * width * 4, R1);
}

/** Notes the home bucket of the key in the frame, and what a state word of it would be there. Uses r0..r5. */
export function emitHome(emission: Emission, subject: SetSubject): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const hashed = asm.label('set_hashed');
  subject.record(R3);
  asm.load('u64', R0, R3, SetRecord.start);
  for (let word = 0; word < subject.words; word++) {
    subject.unlessWord(word, R4, hashed);
    asm.load('u32', R1, R10, at.key + word * 4).load('u64', R2, R3, SetRecord.multipliers + word * 8);
    asm.mul(R1, R2).add(R0, R1);
  }
  asm.place(hashed);
  asm
    .rsh(R0, 32)
    .mov(R5, R0)
    .rsh(R5, 32 - TAG_BITS)
    .lsh(R5, State.tagShift)
    .or(R5, State.full);
  asm.store('u32', R10, at.wanted, R5);
  asm.load('u64', R1, R3, SetRecord.table).mov(R2, R1).rsh(R2, 32).and(R0, R2).mov32(R1, R1);
  asm.load('u32', R2, R3, SetRecord.bucketSize).mul(R0, R2).add(R1, R0);
  asm.store('u32', R10, at.bucket, R1).store('u32', R10, at.home, R1);
}

/**
 * Finds the entry of the key in the frame: to `found` with its state, place and entry noted and in r1 the entry, to be loaded
 * through; else to `absent`. With `others` the entry noted as own is passed over. An entry that is rewritten during the look at it is another one. Uses r0..r5.
 */
export function emitFind(
  emission: Emission,
  subject: SetSubject,
  found: Label,
  absent: Label,
  others = false,
): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const bucket = asm.label('set_bucket');
  const candidate = asm.label('set_candidate');
  const exhausted = asm.label('set_bucket_done');

  emitHome(emission, subject);
  emitLoopHead(emission, bucket);
  subject.settle();
  asm.load('u32', R3, R10, at.bucket).castToKernel(R3, R3).load('u32', R5, R10, at.wanted);
  // r4 = which slots it could be: a bit each, without a branch.
  asm.mov(R4, 0);
  for (let slot = 0; slot < BUCKET_SLOTS; slot++) {
    asm
      .load('u32', R1, R3, Bucket.states + slot * 4)
      .and(R1, State.same)
      .xor(R1, R5)
      .sub(R1, 1)
      .rsh(R1, 63);
    if (slot > 0) asm.lsh(R1, slot);
    asm.or(R4, R1);
  }
  emitLoopHead(emission, candidate);
  asm.jump('==', R4, 0, exhausted);
  emitTakeSlot(emission);
  // r0 = the slot. Its state, and the entry behind it.
  asm.load('u32', R3, R10, at.bucket).mov(R1, R0).lsh(R1, 2).add(R1, R3).store('u32', R10, at.place, R1);
  if (others) asm.load('u32', R2, R10, at.own).jump('==', R1, R2, candidate);
  asm.castToKernel(R1, R1).load('u32', R2, R1, 0).store('u32', R10, at.state, R2);
  asm.and(R2, State.same).load('u32', R5, R10, at.wanted).jump('!=', R2, R5, candidate);
  subject.record(R1);
  asm.load('u32', R1, R1, SetRecord.entrySize).mul(R0, R1).add(R0, R3).add(R0, Bucket.entries);
  asm.store('u32', R10, at.entry, R0).castToKernel(R1, R0);
  const equal = asm.label('set_key_equal');
  for (let word = 0; word < subject.words; word++) {
    subject.unlessWord(word, R3, equal);
    asm
      .load('u32', R2, R1, word * 4)
      .load('u32', R5, R10, at.key + word * 4)
      .jump('!=', R2, R5, candidate);
  }
  asm.place(equal).load('u32', R2, R10, at.place).castToKernel(R2, R2).load('u32', R2, R2, 0);
  asm.load('u32', R5, R10, at.state).jump('!=', R2, R5, candidate).goto(found);

  asm.place(exhausted);
  emitNextBucket(emission, subject, bucket, absent);
}

/** r0 = number of the lowest bit in r4, which is taken out. Uses r1, r2. */
function emitTakeSlot({ asm }: Emission): void {
  const low4 = asm.label('slot_low');
  const low2 = asm.label('slot_even');
  asm.mov(R1, R4).neg(R1).and(R1, R4).xor(R4, R1).mov(R0, 0);
  asm.jump('<', R1, 16, low4).add(R0, 4).rsh(R1, 4);
  asm.place(low4).jump('<', R1, 4, low2).add(R0, 2).rsh(R1, 2);
  asm.place(low2).rsh(R1, 1).add(R0, R1);
}

/**
 * On to the bucket behind the noted one, as far as entries of the home bucket can lie: to `again`, else to `end`. From the
 * home bucket only when some of its entries lie further on. Uses r0..r5.
 */
export function emitNextBucket(emission: Emission, subject: SetSubject, again: Label, end: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const further = asm.label('set_further');
  asm.load('u32', R5, R10, at.wanted).mov(R1, R5).rsh(R1, State.distanceShift).and(R1, MAX_DISTANCE);
  asm.jump('!=', R1, 0, further);
  asm.load('u32', R3, R10, at.bucket).castToKernel(R3, R3).load('u32', R2, R3, Bucket.overflow);
  asm.jump('==', R2, 0, end);
  asm.place(further).jump('==', R1, MAX_DISTANCE, end);
  emitAdvance(emission, subject, again);
}

/** The bucket behind the noted one, around the end of the table, and one more distance; to `again`. Uses r0..r5. */
export function emitAdvance(emission: Emission, subject: SetSubject, again: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const within = asm.label('set_within');
  asm
    .load('u32', R5, R10, at.wanted)
    .add(R5, 1 << State.distanceShift)
    .store('u32', R10, at.wanted, R5);
  subject.record(R3);
  asm.load('u32', R2, R3, SetRecord.bucketSize).load('u64', R1, R3, SetRecord.table).mov(R0, R1).rsh(R0, 32);
  // r0 = the last bucket.
  asm.mov32(R1, R1).mul(R0, R2).add(R0, R1);
  asm.load('u32', R4, R10, at.bucket).add(R4, R2).jump('<=', R4, R0, within).mov(R4, R1);
  asm.place(within).store('u32', R10, at.bucket, R4).goto(again);
}
