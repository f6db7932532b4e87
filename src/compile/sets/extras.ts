/** What entries have besides their key: a packet counted, and a timeout. */
import { type Label, R0, R1, R2, R3, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { setFrame } from './frame.ts';
import { SetRecord } from './layout.ts';
import type { SetSubject } from './subject.ts';

/**
 * Writes what an entry has that a packet makes, or makes anew. `timeout` gives r3 = the nanoseconds that it stays; r1 is the place
 * of its expiry, which stays, r2 the set's record, which is lost. Uses r0..r3.
 */
export function emitExtras(emission: Emission, subject: SetSubject, timeout: () => void): void {
  const { asm, facts } = emission;
  const at = setFrame(emission);
  const part = (offset: number, absent: Label): void => {
    subject.record(R2);
    asm.load('u32', R1, R10, at.entry).castToKernel(R1, R1);
    asm.load('u32', R3, R2, offset).jump('==', R3, 0, absent).add(R1, R3);
  };
  const uncounted = asm.label('set_no_counters');
  part(SetRecord.countersAt, uncounted);
  asm.mov(R3, 1).store('u64', R1, 0, R3).load('u32', R3, R10, facts.offset('length')).store('u64', R1, 8, R3);
  asm.place(uncounted);
  const unmarked = asm.label('set_no_skbinfo');
  part(SetRecord.skbinfoAt, unmarked);
  asm.store('u64', R1, 0, 0).store('u64', R1, 8, 0);
  asm.place(unmarked);
  const silent = asm.label('set_no_comment');
  part(SetRecord.commentAt, silent);
  asm.store('u64', R1, 0, 0);
  asm.place(silent);
  const stays = asm.label('set_no_timeout');
  const known = asm.label('set_expiry');
  part(SetRecord.expiryAt, stays);
  asm.call('bpf_ktime_get_ns');
  part(SetRecord.expiryAt, stays);
  timeout();
  asm.add(R0, R3).jump('!=', R3, 0, known).mov(R0, 0);
  asm.place(known).store('u64', R1, 0, R0);
  asm.place(stays);
}

/** r3 = the nanoseconds that entries of the set stay when nothing is said; r2 = the set's record. */
export function emitUsualTimeout({ asm }: Emission): void {
  asm.load('u64', R3, R2, SetRecord.timeoutNs);
}
