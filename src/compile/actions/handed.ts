/**
 * Actions that a netfilter program hands on to the kernel's own code right after it (design decision 13): it may neither
 * answer nor write. The word that stands for them is kept in the frame and, when the packet is let through, stored in the
 * map `actions` under the packet's identity; the action chain carries it out and takes it away again.
 *
 * The word: bits 0..7 0, or 1 + enum ipt_reject_with / ip6t_reject_with; bits 8..55 one bit for each mark operation, in the
 * order in which the action chain runs them.
 */
import { R0, R1, R2, R3, R4, R9, R10, type Register } from '../../isa/index.ts';
import { SystemCounter } from '../arena/layout.ts';
import { emitTick } from '../emit/counter.ts';
import type { Emission } from '../emit/emission.ts';

/** Name of the map. Key: u64 identity (skb less the map's own address); value: u64 word. */
export const ACTIONS_MAP = 'actions';
export const ACTIONS_SIZE = 16384;
export const MARK_BITS_SHIFT = 8;
export const MAX_MARK_OPERATIONS = 48;

/** The frame slot of the word; made by the first action that needs it. */
function handedSlot(emission: Emission): number {
  return emission.frame.slot('handed');
}

/** Before the first rule: nothing to hand on. */
export function emitHandedStart(emission: Emission): void {
  if (emission.handed.used) emission.asm.store('u64', R10, handedSlot(emission), 0);
}

/** REJECT: the packet goes on to the action chain, which answers and drops it. */
export function emitHandedReject(emission: Emission, reject: number): void {
  const { asm, labels } = emission;
  asm.store('u64', R10, handedSlot(emission), reject + 1).goto(labels.accept);
}

/** REJECT with the word (1 + enum) in a register. */
export function emitHandedRejectWord(emission: Emission, word: Register): void {
  const { asm, labels } = emission;
  asm.store('u64', R10, handedSlot(emission), word).goto(labels.accept);
}

/**
 * MARK: sets the operation's bit; `bit` counts from 0, or is a register (not r1 to r3) with MARK_BITS_SHIFT added.
 * Operations must be met in the order of their bits.
 */
export function emitHandedMark(emission: Emission, bit: number | Register): void {
  const { asm, labels } = emission;
  const ordered = asm.label('marks_in_order');
  const slot = handedSlot(emission);
  const shift = typeof bit === 'number' ? MARK_BITS_SHIFT + bit : bit;
  asm.load('u64', R1, R10, slot).mov(R2, R1).rsh(R2, shift).jump('<=', R2, 1, ordered);
  emitTick(emission, SystemCounter.actionsLost);
  asm.goto(labels.drop);
  asm.place(ordered);
  asm.mov(R2, 1).lsh(R2, shift).load('u64', R1, R10, slot).or(R1, R2).store('u64', R10, slot, R1);
}

/** When the packet is let through: stores the word, if there is one. Nothing can be stored: dropped, counted. */
export function emitHandOn(emission: Emission): void {
  const { asm, frame, handed, labels } = emission;
  if (!handed.used) return;
  const nothing = asm.label('nothing_handed');
  const key = frame.slot('identity');
  asm.load('u64', R1, R10, handedSlot(emission)).jump('==', R1, 0, nothing);
  asm.mov(R3, R9).loadMap(R1, ACTIONS_MAP).sub(R3, R1).store('u64', R10, key, R3);
  asm.mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, handedSlot(emission)).mov(R4, 0);
  asm.call('bpf_map_update_elem').jump('==', R0, 0, nothing);
  emitTick(emission, SystemCounter.actionsLost);
  asm.goto(labels.drop);
  asm.place(nothing);
}
