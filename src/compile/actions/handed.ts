/**
 * Actions that a netfilter program hands on to the kernel's own code right after it (design decision 13): it may neither
 * answer nor write. The word that stands for them is kept in the frame and, when the packet is let through, stored in the
 * map `actions` under the packet's identity; the action chain carries it out and takes it away again.
 *
 * The word: bits 0..7 0, or 1 + enum ipt_reject_with / ip6t_reject_with; bits 8..39 the bits of the mark to turn round; bit
 * 40: before that the mark becomes 0. It says what the mark comes to, not how: rules may change it as often as they like.
 */
import { R0, R1, R2, R3, R4, R9, R10, type Register } from '../../isa/index.ts';
import { SystemCounter } from '../arena/layout.ts';
import { emitTick } from '../emit/counter.ts';
import type { Emission } from '../emit/emission.ts';

/** Name of the map. Key: u64 identity (skb less the map's own address); value: u64 word. */
export const ACTIONS_MAP = 'actions';
export const ACTIONS_SIZE = 16384;
export const MARK_BITS_SHIFT = 8;
export const MARK_RESET_BIT = 40;

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

/** When the packet is let through: stores the word, if there is one. Nothing can be stored: dropped, counted. */
export function emitHandOn(emission: Emission): void {
  const { asm, frame, handed, labels } = emission;
  if (!handed.used) return;
  const nothing = asm.label('nothing_handed');
  const key = frame.slot('identity');
  emitMarkChanges(emission);
  asm.load('u64', R1, R10, handedSlot(emission)).jump('==', R1, 0, nothing);
  asm.mov(R3, R9).loadMap(R1, ACTIONS_MAP).sub(R3, R1).store('u64', R10, key, R3);
  asm.mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, handedSlot(emission)).mov(R4, 0);
  asm.call('bpf_map_update_elem').jump('==', R0, 0, nothing);
  emitTick(emission, SystemCounter.actionsLost);
  asm.goto(labels.drop);
  asm.place(nothing);
}

/**
 * Adds to the word what the packet's mark, in the sk_buff at r9, is to become. A change of bits that no rule changes alone
 * means that some rule set the mark whole: all its bits are then such as rules set. Uses r1..r4.
 */
function emitMarkChanges(emission: Emission): void {
  const { asm, facts, handed, liveMarks } = emission;
  const { bits, whole } = handed.marks;
  if (!facts.has('mark') || (liveMarks === undefined && bits === 0 && !whole)) return;
  const turned = asm.label('mark_turned');
  const none = asm.label('mark_as_it_was');
  const slot = handedSlot(emission);
  liveMarks?.unlessChanged(none);
  asm.loadField('u32', R1, R9, 'sk_buff', 'mark').load('u32', R2, R10, facts.offset('mark')).xor(R1, R2);
  if (liveMarks !== undefined || whole) {
    liveMarks?.load(R4, R3);
    if (liveMarks !== undefined) asm.jump('==', R3, 0, turned).xor32(R4, -1);
    asm
      .mov(R3, R1)
      .and32(R3, liveMarks === undefined ? ~bits >>> 0 : R4)
      .jump('==', R3, 0, turned);
    asm.loadConstant(R1, 2 ** (MARK_RESET_BIT - MARK_BITS_SHIFT)).or(R1, R2);
    asm.place(turned);
  }
  asm.lsh(R1, MARK_BITS_SHIFT).load('u64', R2, R10, slot).or(R1, R2).store('u64', R10, slot, R1);
  asm.place(none);
}
