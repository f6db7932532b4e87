/** `-m set` as code: ip_set_test of net/netfilter/ipset/ip_set_core.c over the tables in the arena. */
import type { SetCounterCondition, SetPredicate } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { emitUsualTimeout } from './extras.ts';
import { emitFind, emitNarrow } from './find.ts';
import { setFrame } from './frame.ts';
import { LengthNode, SetRecord, State } from './layout.ts';
import { emitComplete, emitUnlessHeld } from './mac.ts';
import { knownSubject, type SetSubject } from './subject.ts';

/** Falls through when the predicate is true. Uses r0..r5. */
export function emitSetMatch(emission: Emission, predicate: SetPredicate, fail: Label): void {
  const { asm } = emission;
  const { negate, returnNoMatch } = predicate;
  const through = asm.label('set_through');
  const [inside, outside] = negate ? [fail, through] : [through, fail];
  const subject = knownSubject(emission, predicate.key);
  emitSearch(emission, subject, outside, inside, (absent) => {
    emitCounters(emission, subject, predicate, absent);
    const at = setFrame(emission);
    asm.load('u32', R1, R10, at.state).and(R1, State.low);
    asm.jump(returnNoMatch ? '!=' : '==', R1, 0, inside).goto(outside);
  });
  asm.place(through);
}

/**
 * Looks the packet's key up under every prefix length that its networks have, long ones first. `emit` says what becomes of
 * what is found, the entry in r1: it goes somewhere, or on to the next length by going to the label that it is given. An entry
 * that waits for a MAC address gets the packet's, and is found without more ado: to `completed`. Nothing falls through. Uses r0..r5.
 */
export function emitSearch(
  emission: Emission,
  subject: SetSubject,
  absent: Label,
  completed: Label,
  emit: (next: Label) => void,
): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const found = asm.label('set_found');
  const find = asm.label('set_find');
  const again: Label[] = [];
  subject.key(absent);
  for (let network = 0; network < subject.networks; network++) {
    subject.unlessNetwork(network, R1, find);
    const outer = again.at(-1) ?? absent;
    const length = asm.label('set_length');
    again.push(length);
    subject.record(R1);
    asm.load('u32', R1, R1, SetRecord.lengths + network * 4).store('u32', R10, at.lengths[network]!, R1);
    emitLoopHead(emission, length);
    subject.settle();
    asm.load('u32', R1, R10, at.lengths[network]!).castToKernel(R1, R1).load('u32', R1, R1, LengthNode.next);
    asm.jump('==', R1, 0, outer).store('u32', R10, at.lengths[network]!, R1);
    asm.castToKernel(R1, R1).load('u32', R0, R1, LengthNode.count).jump('==', R0, 0, length);
    emitNarrow(emission, subject, network as 0 | 1);
  }
  asm.place(find);
  subject.settle();
  const next = asm.label('set_next_length');
  emitFind(emission, subject, found, next);
  asm.place(found);
  emitUnlessExpired(emission, subject, next);
  emitHeld(emission, subject, completed, next);
  emit(next);
  asm.place(next);
  for (const [network, length] of [...again.entries()].reverse()) {
    const fewer = asm.label('set_fewer_networks');
    subject.unlessNetwork(network, R1, fewer);
    asm.goto(length).place(fewer);
  }
  asm.goto(absent);
}

/** Falls through with the entry in r1 when it holds the packet's MAC address, or none is asked for; to `other` when another one. */
function emitHeld(emission: Emission, subject: SetSubject, completed: Label, other: Label): void {
  const { asm } = emission;
  if (!subject.mayHoldMac) return;
  const waits = asm.label('set_mac_waits');
  const held = asm.label('set_held');
  emitUnlessHeld(emission, subject, waits, other);
  asm.goto(held);
  asm.place(waits);
  emitComplete(emission, subject, () => emitUsualTimeout(emission), held, other);
  asm.goto(completed);
  asm.place(held).load('u32', R1, R10, setFrame(emission).entry).castToKernel(R1, R1);
}

/** The noted entry, found a moment ago, still counts: else to `expired`. Afterwards r1 = the entry. Uses r0..r5. */
export function emitUnlessExpired(emission: Emission, subject: SetSubject, expired: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const stays = asm.label('set_stays');
  const entry = (): void => {
    asm.load('u32', R1, R10, at.entry).castToKernel(R1, R1);
  };
  entry();
  subject.record(R2);
  asm.load('u32', R2, R2, SetRecord.expiryAt).jump('==', R2, 0, stays);
  asm.add(R1, R2).load('u64', R2, R1, 0).jump('==', R2, 0, stays);
  asm.call('bpf_ktime_get_ns');
  entry();
  subject.record(R2);
  asm.load('u32', R2, R2, SetRecord.expiryAt).mov(R3, R1).add(R3, R2).load('u64', R2, R3, 0);
  asm.jump('==', R2, 0, stays).jump('>=', R0, R2, expired);
  asm.place(stays);
  // What was read belongs to the entry that was found only if that is still there.
  asm.load('u32', R1, R10, at.place).castToKernel(R1, R1).load('u32', R1, R1, 0);
  asm.load('u32', R2, R10, at.state).jump('!=', R1, R2, expired);
  entry();
}

/** Counts the packet at the entry in r1 and compares. Uses r1, r2, r3. */
function emitCounters(emission: Emission, subject: SetSubject, predicate: SetPredicate, fail: Label): void {
  const { asm, facts } = emission;
  const { keepCounters, packets, bytes } = predicate;
  if (keepCounters && packets === undefined && bytes === undefined) return;
  const without = asm.label('set_uncounted');
  subject.record(R2);
  asm.load('u32', R2, R2, SetRecord.countersAt).jump('==', R2, 0, without).add(R1, R2);
  if (!keepCounters) {
    asm.mov(R2, 1).atomic('add', 'u64', R1, 0, R2);
    asm.load('u32', R2, R10, facts.offset('length')).atomic('add', 'u64', R1, 8, R2);
  }
  emitCompare(emission, packets, 0, fail);
  emitCompare(emission, bytes, 8, fail);
  asm.place(without);
}

const OPPOSITE = { eq: '!=', ne: '==', lt: '>=', gt: '<=' } as const;

function emitCompare(
  { asm }: Emission,
  condition: SetCounterCondition | undefined,
  offset: number,
  fail: Label,
): void {
  if (condition === undefined) return;
  asm.load('u64', R2, R1, offset).loadConstant(R3, condition.value);
  asm.jump(OPPOSITE[condition.compare], R2, R3, fail);
}
