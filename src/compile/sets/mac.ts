/**
 * The MAC address that an entry holds (net/netfilter/ipset/ip_set_bitmap_ipmac.c). It lies in one aligned cell, its 48 bits below
 * the sequence of the slot's use, zeros while the entry waits for it: so one exchange gives it its address, whoever else tries,
 * and comes to nothing where the entry has meanwhile become another one.
 */
import { type Label, R0, R1, R2, R3, R10, type Register } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitExtras } from './extras.ts';
import { setFrame } from './frame.ts';
import { MAC_BITS, SetRecord, State } from './layout.ts';
import type { SetSubject } from './subject.ts';

/** `to` = the cell of the noted entry before it has an address. */
function emitEmptyCell(emission: Emission, to: Register): void {
  const { asm } = emission;
  asm.load('u32', to, R10, setFrame(emission).state).rsh(to, State.sequenceShift).lsh(to, MAC_BITS);
}

/** `to` = the cell of the noted entry with the packet's address. Uses `scratch`. */
function emitOwnCell(emission: Emission, to: Register, scratch: Register): void {
  emitEmptyCell(emission, to);
  emission.asm.load('u64', scratch, R10, setFrame(emission).mac).or(to, scratch);
}

/** r1 = the cell of the noted entry, to be loaded through; to `none` where the set's entries have none. Uses r2. */
function emitCell(emission: Emission, subject: SetSubject, none: Label): void {
  const { asm } = emission;
  subject.record(R2);
  asm.load('u32', R2, R2, SetRecord.macAt).jump('==', R2, 0, none);
  asm.load('u32', R1, R10, setFrame(emission).entry).castToKernel(R1, R1).add(R1, R2);
}

/**
 * Falls through where the noted entry holds the packet's MAC address, or entries hold none; to `waits` when it has none yet,
 * to `other` when it holds another one. Uses r1, r2, r3.
 */
export function emitUnlessHeld(emission: Emission, subject: SetSubject, waits: Label, other: Label): void {
  const { asm } = emission;
  if (!subject.mayHoldMac) return;
  const held = asm.label('set_mac_held');
  emitCell(emission, subject, held);
  asm.load('u64', R2, R1, 0);
  emitEmptyCell(emission, R3);
  asm.jump('==', R2, R3, waits).load('u64', R1, R10, setFrame(emission).mac).or(R3, R1);
  asm.jump('!=', R2, R3, other);
  asm.place(held);
}

/**
 * Gives the noted entry, which waits for it, the packet's MAC address: its time begins, and the packet is the first that it counts.
 * Falls through; to `held` when somebody else has just given it the same, to `other` another one. `timeout` as {@link emitExtras}
 * has it: when it is the set's usual one, what was said when the entry was made counts. Uses r0..r3.
 */
export function emitComplete(
  emission: Emission,
  subject: SetSubject,
  timeout: () => void,
  held: Label,
  other: Label,
): void {
  const { asm } = emission;
  const mine = asm.label('set_mac_mine');
  emitCell(emission, subject, other);
  emitOwnCell(emission, R2, R3);
  emitEmptyCell(emission, R0);
  asm.mov(R3, R0).compareExchange('u64', R1, 0, R2).jump('==', R0, R3, mine);
  asm.jump('==', R0, R2, held).goto(other);
  asm.place(mine);
  emitExtras(emission, subject, () => {
    const said = asm.label('set_timeout_said');
    timeout();
    subject.record(R2);
    asm.load('u64', R2, R2, SetRecord.timeoutNs).jump('!=', R2, R3, said);
    // Without the bit that kept the time from running.
    asm.load('u64', R3, R1, 0).lsh(R3, 1).rsh(R3, 1);
    asm.place(said);
  });
}

/** The noted entry, which holds another address, gets the packet's; to `lost` when it is another entry by now. Uses r0..r3. */
export function emitReplaceMac(emission: Emission, subject: SetSubject, lost: Label): void {
  const { asm } = emission;
  emitCell(emission, subject, lost);
  emitOwnCell(emission, R2, R3);
  asm.load('u64', R0, R1, 0).mov(R3, R0).xor(R3, R2).rsh(R3, MAC_BITS).jump('!=', R3, 0, lost);
  asm.mov(R3, R0).compareExchange('u64', R1, 0, R2).jump('!=', R0, R3, lost);
}

/** The packet's address becomes that of the noted entry, which nobody sees yet. Uses r1, r2, r3. */
export function emitWriteMac(emission: Emission, subject: SetSubject): void {
  const { asm } = emission;
  if (!subject.mayHoldMac) return;
  const none = asm.label('set_no_mac');
  emitCell(emission, subject, none);
  emitOwnCell(emission, R2, R3);
  asm.store('u64', R1, 0, R2).place(none);
}
