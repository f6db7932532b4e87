/**
 * Finding the binding that takes a packet: prefixes by length, the longest first, then the records of the prefix, which are
 * compared, or searched by a tree. Layout: docs/sklookup.md.
 */
import { type Assembler, type Label, R0, R1, R2, R3, R4, R5, R7, R8, R9, R10 } from '../../isa/index.ts';
import {
  ANY_REGION,
  BindingRecord,
  EACH,
  FANOUT,
  NARROW_SLOT_SIZE,
  NarrowSlot,
  NODE_SIZE,
  PrefixLength,
  PrefixTable,
  RecordFlag,
  SearchRecord,
  WIDE_SLOT_SIZE,
  WideSlot,
} from '../layout.ts';
import { emitHash } from './hash.ts';
import { Frame, KEY_MASK, keySlot } from './stack.ts';

/**
 * r7: pointer to the table, not 0; afterwards, at `found`, the binding that takes the packet. r8: local port.
 * Uses r0..r5 and r9.
 */
export function emitWalk(asm: Assembler, found: Label, none: Label): void {
  const lengths = asm.label('lengths');
  const wide = asm.label('wide');
  const block = asm.label('block');
  const each = asm.label('each');
  const shorter = asm.label('shorter');
  const walk = asm.label('walk');
  const next = asm.label('next');
  const search = asm.label('search');
  asm.castToKernel(R7, R7);
  emitRegion(asm);
  asm.load('u32', R9, R7, PrefixTable.first);

  asm.place(lengths).mayGoto(none).jump('==', R9, 0, none).castToKernel(R9, R9);
  asm.load('u32', R1, R9, PrefixLength.region).load('u32', R2, R10, Frame.region).and(R1, R2);
  asm.jump('==', R1, 0, shorter).load('u32', R1, R9, PrefixLength.wide).jump('!=', R1, 0, wide);
  emitNarrowSearch(asm, block, shorter, none);
  asm.place(wide);
  emitWideSearch(asm, block, shorter, none);

  asm.place(block).jump('&', R7, EACH, each).rsh(R1, R5).and(R1, 1).jump('==', R1, 0, shorter);
  // A jump can be guessed, an address cannot: equal to the usual one, the record is read while the slot is still on its way.
  asm.load('u32', R1, R9, PrefixLength.usual).jump('!=', R7, R1, walk).mov(R7, R1).goto(walk);
  asm.place(each).sub(R7, EACH).lsh(R5, 2).add(R7, R5).castToKernel(R7, R7);
  asm.load('u32', R7, R7, 0).jump('==', R7, 0, shorter);
  asm.place(walk).mayGoto(none).castToKernel(R7, R7);
  asm.load('u32', R1, R7, BindingRecord.flags).jump('&', R1, RecordFlag.SEARCH, search);
  asm.load('u16', R2, R7, BindingRecord.portMin).jump('<', R8, R2, next);
  asm.load('u16', R2, R7, BindingRecord.portMax).jump('>', R8, R2, next).jump('==', R1, 0, found);
  emitConditions(asm, next);
  asm.goto(found);
  asm.place(next).load('u32', R7, R7, BindingRecord.next).jump('!=', R7, 0, walk);
  asm.place(shorter).load('u32', R9, R9, PrefixLength.next).goto(lengths);
  asm.place(search);
  emitSearch(asm, none);
  asm.jump('!=', R7, 0, walk).goto(shorter);
}

/** The word of the packet's region into the frame: which lengths may occur there. The table is at r7. Uses r0..r3. */
function emitRegion(asm: Assembler): void {
  const wide = asm.label('wide_region');
  const indexed = asm.label('region_indexed');
  const known = asm.label('region_known');
  asm.mov32(R0, -1).load('u32', R3, R7, PrefixTable.regions).jump('==', R3, 0, known);
  asm.load('u64', R0, R10, keySlot('localHigh'));
  asm.load('u32', R1, R7, PrefixTable.wide).jump('!=', R1, 0, wide);
  asm.mov(R1, R0).rsh(R1, 16).goto(indexed);
  asm.place(wide);
  emitHash(asm, [
    (word) => asm.mov(word, R0).rsh(word, 32),
    (word) => asm.mov32(word, R0).rsh32(word, 16).lsh32(word, 16),
  ]);
  asm.rsh(R1, 16);
  asm.place(indexed).lsh(R1, 2).add(R3, R1).castToKernel(R3, R3).load('u32', R0, R3, 0);
  asm.or32(R0, ANY_REGION).place(known).store('u32', R10, Frame.region, R0);
}

/** r3 = the slot that the hash in r1 names, for the length at r9. Slots and places are one load: they change together. */
function emitFirstSlot(asm: Assembler, slotBits: number): void {
  asm.load('u64', R3, R9, PrefixLength.slots).mov(R2, R3).rsh(R2, 32);
  asm.mul(R1, R2).rsh(R1, 32).lsh(R1, slotBits).mov32(R3, R3).add(R3, R1).castToKernel(R3, R3);
}

/**
 * At `block`: r7 = what is bound in the packet's block, r1 = which neighbours are, r5 = the packet's place among them; on to
 * `shorter` when the length has no such block. Uses r0..r3.
 */
function emitNarrowSearch(asm: Assembler, block: Label, shorter: Label, none: Label): void {
  const probe = asm.label('narrow_probe');
  const hit = asm.label('narrow_hit');
  asm.load('u64', R0, R10, keySlot('localHigh')).load('u32', R1, R9, PrefixLength.shift);
  asm.mov(R5, R0).rsh(R5, R1).load('u32', R1, R9, PrefixLength.placeHigh).and(R5, R1);
  asm.load('u64', R1, R9, PrefixLength.maskHigh).and(R0, R1);
  emitHash(asm, [(word) => asm.mov(word, R0)]);
  emitFirstSlot(asm, Math.log2(NARROW_SLOT_SIZE));
  asm.place(probe).mayGoto(none).load('u32', R7, R3, NarrowSlot.record).jump('==', R7, 0, shorter);
  asm.load('u32', R1, R3, NarrowSlot.block).jump('==', R1, R0, hit);
  asm.add(R3, NARROW_SLOT_SIZE).goto(probe);
  asm.place(hit).load('u64', R1, R3, NarrowSlot.bound).goto(block);
}

/** Likewise for IPv6. Uses r0..r4. */
function emitWideSearch(asm: Assembler, block: Label, shorter: Label, none: Label): void {
  const probe = asm.label('wide_probe');
  const step = asm.label('wide_step');
  asm.load('u64', R0, R10, keySlot('localHigh')).load('u64', R4, R10, keySlot('localLow'));
  asm.load('u32', R2, R9, PrefixLength.shift).mov(R5, R0).rsh(R5, R2).mov(R3, R4).rsh(R3, R2);
  asm.load('u32', R1, R9, PrefixLength.placeHigh).and(R5, R1);
  asm.load('u32', R1, R9, PrefixLength.placeLow).and(R3, R1).or(R5, R3);
  asm.load('u64', R1, R9, PrefixLength.maskHigh).and(R0, R1);
  asm.load('u64', R1, R9, PrefixLength.maskLow).and(R4, R1);
  emitHash(asm, [
    (word) => asm.mov(word, R0).rsh(word, 32),
    (word) => asm.mov(word, R0),
    (word) => asm.mov(word, R4).rsh(word, 32),
    (word) => asm.mov(word, R4),
  ]);
  emitFirstSlot(asm, Math.log2(WIDE_SLOT_SIZE));
  asm.place(probe).mayGoto(none).load('u32', R7, R3, WideSlot.record).jump('==', R7, 0, shorter);
  asm.load('u64', R1, R3, WideSlot.high).jump('!=', R1, R0, step);
  asm.load('u64', R1, R3, WideSlot.low).jump('!=', R1, R4, step);
  asm.load('u64', R1, R3, WideSlot.bound).goto(block);
  asm.place(step).add(R3, WIDE_SLOT_SIZE).goto(probe);
}

/** The conditions that the flags in r1 name. */
function emitConditions(asm: Assembler, fails: Label): void {
  const anyDevice = asm.label('any_device');
  const anyPort = asm.label('any_remote_port');
  const anySource = asm.label('any_source');
  const unless = (flag: number, skip: Label): void => {
    asm.mov(R2, R1).and(R2, flag).jump('==', R2, 0, skip);
  };
  unless(RecordFlag.DEVICE, anyDevice);
  asm.load('u32', R2, R7, BindingRecord.ifindex).load('u64', R3, R10, keySlot('ifindex'));
  asm.jump('!=', R2, R3, fails).place(anyDevice);
  unless(RecordFlag.REMOTE_PORT, anyPort);
  asm.load('u32', R2, R7, BindingRecord.remotePort).load('u64', R3, R10, keySlot('remotePort'));
  asm.jump('!=', R2, R3, fails).place(anyPort);
  unless(RecordFlag.SOURCE, anySource);
  asm.load('u64', R2, R10, keySlot('remoteHigh')).load('u64', R3, R7, BindingRecord.maskHigh).and(R2, R3);
  asm.load('u64', R3, R7, BindingRecord.sourceHigh).jump('!=', R2, R3, fails);
  asm.load('u64', R2, R10, keySlot('remoteLow')).load('u64', R3, R7, BindingRecord.maskLow).and(R2, R3);
  asm.load('u64', R3, R7, BindingRecord.sourceLow).jump('!=', R2, R3, fails).place(anySource);
}

/** r7: a search record; afterwards the pointer that it gives. r1: levels, r3: key, r4: position, r5: next level. */
function emitSearch(asm: Assembler, none: Label): void {
  const level = asm.label('level');
  asm.load('u32', R1, R7, SearchRecord.levels).load('u32', R2, R7, SearchRecord.key).and(R2, KEY_MASK);
  asm.mov(R3, R10).add(R3, R2).load('u64', R3, R3, Frame.keys);
  asm.mov(R4, 0).mov(R5, R7);
  asm.place(level).mayGoto(none);
  asm.load('u32', R2, R5, SearchRecord.level).mov(R0, R4).mul(R0, NODE_SIZE).add(R2, R0).castToKernel(R2, R2);
  asm.mul(R4, FANOUT);
  for (let step = FANOUT / 2; step >= 1; step /= 2) {
    const left = asm.label(`left_${step}`);
    asm
      .load('u64', R0, R2, step * 8)
      .jump('<=', R3, R0, left)
      .add(R2, step * 8)
      .add(R4, step)
      .place(left);
  }
  asm.add(R5, 4).sub(R1, 1).jump('!=', R1, 0, level);
  asm.load('u32', R2, R7, SearchRecord.values).mul(R4, 4).add(R2, R4).castToKernel(R2, R2);
  asm.load('u32', R7, R2, 0);
}
