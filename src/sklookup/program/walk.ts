/** Walking the records: bindings are compared, searches descend their tree. Layout: docs/sklookup.md. */
import { type Assembler, type Label, R0, R1, R2, R3, R4, R5, R7, R8, R10 } from '../../isa/index.ts';
import { BindingRecord, FANOUT, NODE_SIZE, RecordFlag, SearchRecord } from '../layout.ts';
import { Frame, KEY_MASK, keySlot } from './stack.ts';

/**
 * r7: pointer to the first record, not 0; afterwards, at `found`, the binding that takes the packet. r8: local port.
 * Uses r0..r5.
 */
export function emitWalk(asm: Assembler, found: Label, none: Label): void {
  const walk = asm.label('walk');
  const next = asm.label('next');
  const search = asm.label('search');
  asm.place(walk).mayGoto(none).castToKernel(R7, R7);
  asm.load('u32', R1, R7, BindingRecord.flags).jump('&', R1, RecordFlag.SEARCH, search);
  asm.load('u16', R2, R7, BindingRecord.portMin).jump('<', R8, R2, next);
  asm.load('u16', R2, R7, BindingRecord.portMax).jump('>', R8, R2, next).jump('==', R1, 0, found);
  emitConditions(asm, next);
  asm.goto(found);
  asm.place(next).load('u32', R7, R7, BindingRecord.next).jump('!=', R7, 0, walk).goto(none);
  asm.place(search);
  emitSearch(asm, none);
  asm.jump('!=', R7, 0, walk).goto(none);
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
