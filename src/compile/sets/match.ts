/** `-m set` as code: ip_set_test of net/netfilter/ipset/ip_set_core.c over the tables in the arena. */
import type { SetCounterCondition, SetKey, SetPredicate } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitFind, emitNarrow, emitSetKey, emitSetRecord, setFrame } from './key.ts';
import { LengthNode, SetRecord, State } from './layout.ts';

/** Falls through when the predicate is true. Uses r0..r5. */
export function emitSetMatch(emission: Emission, predicate: SetPredicate, fail: Label): void {
  const { asm } = emission;
  const { key, negate, returnNoMatch } = predicate;
  const through = asm.label('set_through');
  const [inside, outside] = negate ? [fail, through] : [through, fail];
  const found = asm.label('set_found');
  emitSetKey(emission, key, outside);
  emitSearch(emission, key, found, outside, (absent) => {
    emitUnlessExpired(emission, key, absent);
    emitCounters(emission, predicate, absent);
    const at = setFrame(emission);
    asm.load('u32', R1, R10, at.state).and(R1, State.low);
    asm.jump(returnNoMatch ? '!=' : '==', R1, 0, inside).goto(outside);
  });
  asm.place(through);
}

/**
 * Looks the key up under every prefix length that its networks have, long ones first. `emit` says what becomes of what is
 * found: it may go on to the next length by going to the label that it is given.
 */
function emitSearch(
  emission: Emission,
  key: SetKey,
  found: Label,
  absent: Label,
  emit: (absent: Label) => void,
): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const next: Label[] = [];
  for (let network = 0; network < key.networks; network++) {
    const outer = next[0] ?? absent;
    const again = asm.label('set_length');
    next.unshift(again);
    emitSetRecord(emission, key, R1);
    asm.load('u32', R1, R1, SetRecord.lengths + network * 4).store('u32', R10, at.lengths[network]!, R1);
    asm.place(again).mayGoto(absent);
    asm.load('u32', R1, R10, at.lengths[network]!).castToKernel(R1, R1).load('u32', R1, R1, LengthNode.next);
    asm.jump('==', R1, 0, outer).store('u32', R10, at.lengths[network]!, R1);
    asm.castToKernel(R1, R1).load('u32', R0, R1, LengthNode.count).jump('==', R0, 0, again);
    emitNarrow(emission, key, network as 0 | 1);
  }
  const nothing = next[0] ?? absent;
  emitFind(emission, key, found, nothing);
  asm.place(found);
  emit(nothing);
}

/** The noted entry, found a moment ago, still counts: else to `expired`. Afterwards r1 = the entry. Uses r0..r5. */
export function emitUnlessExpired(emission: Emission, key: SetKey, expired: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const stays = asm.label('set_stays');
  const entry = (): void => {
    asm.load('u32', R1, R10, at.entry).castToKernel(R1, R1);
  };
  entry();
  emitSetRecord(emission, key, R2);
  asm.load('u32', R2, R2, SetRecord.expiryAt).jump('==', R2, 0, stays);
  asm.add(R1, R2).load('u64', R2, R1, 0).jump('==', R2, 0, stays);
  asm.call('bpf_ktime_get_ns');
  entry();
  emitSetRecord(emission, key, R2);
  asm.load('u32', R2, R2, SetRecord.expiryAt).mov(R3, R1).add(R3, R2).load('u64', R2, R3, 0);
  asm.jump('==', R2, 0, stays).jump('>=', R0, R2, expired);
  asm.place(stays);
  // What was read belongs to the entry that was found only if that is still there.
  asm.load('u32', R1, R10, at.place).castToKernel(R1, R1).load('u32', R1, R1, 0);
  asm.load('u32', R2, R10, at.state).jump('!=', R1, R2, expired);
  entry();
}

/** Counts the packet at the entry in r1 and compares. Uses r1, r2, r3. */
function emitCounters(emission: Emission, predicate: SetPredicate, fail: Label): void {
  const { asm, facts } = emission;
  const { key, keepCounters, packets, bytes } = predicate;
  if (keepCounters && packets === undefined && bytes === undefined) return;
  const without = asm.label('set_uncounted');
  emitSetRecord(emission, key, R2);
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
