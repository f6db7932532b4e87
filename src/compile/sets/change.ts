/**
 * `-j SET`: entries added and deleted beside whoever else does (layout.ts). No CPU ever waits for another: a slot is
 * claimed by one exchange of its state word, and two that add the same key at once agree afterwards on the entry that stays.
 */
import type { SetAction, SetKey } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R4, R5, R10 } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { emitExtras, emitUsualTimeout } from './extras.ts';
import { emitAdvance, emitFind, emitHome, emitNarrow } from './find.ts';
import { addressWords, setFrame } from './frame.ts';
import {
  BUCKET_SLOTS,
  Bucket,
  LENGTH_NODE_SIZE,
  LengthNode,
  MAX_DISTANCE,
  SetFlag,
  SetRecord,
  State,
} from './layout.ts';
import { emitComplete, emitReplaceMac, emitUnlessHeld, emitWriteMac } from './mac.ts';
import { emitUnlessExpired } from './match.ts';
import { knownSubject, type SetSubject } from './subject.ts';

/** Buckets that one packet looks through for timed-out entries when a set is full. */
const SWEPT_BUCKETS = 128;
const NS_PER_SEC = 1_000_000_000n;
const SEQUENCE = 1 << State.sequenceShift;

/** What is done to a set. Where rules are code it is known; tables say it (strategies/classifier/sets.ts). */
export interface SetOperation {
  /** To `to` when the key is taken out. Uses r0. */
  unlessAdds(to: Label): void;
  /** To `to` when an entry that is there stays as it is. Uses r0. */
  unlessExist(to: Label): void;
  /** As emitExtras (extras.ts) has it. Uses no other register. */
  timeout(): void;
}

/** Falls through to what follows, whatever became of it. Uses r0..r5. */
export function emitSetAction(emission: Emission, { add, remove }: SetAction): void {
  if (add !== undefined) emitFirst(emission, add.keys, added(emission, add));
  if (remove !== undefined) emitFirst(emission, remove.keys, taken(emission.asm));
}

/** Until one of the keys brings a change. */
function emitFirst(emission: Emission, keys: readonly SetKey[], operation: SetOperation): void {
  const { asm } = emission;
  const done = asm.label('set_changed');
  for (const key of keys) {
    const next = asm.label('set_not_changed');
    emitChange(emission, knownSubject(emission, key), operation, done, next);
    asm.place(next);
  }
  asm.place(done);
}

type Addition = NonNullable<SetAction['add']>;

function added(emission: Emission, { exist, timeoutSec }: Addition): SetOperation {
  const { asm } = emission;
  return {
    unlessAdds: () => {},
    unlessExist: (to) => {
      if (!exist) asm.goto(to);
    },
    timeout: () => {
      if (timeoutSec === undefined) emitUsualTimeout(emission);
      else asm.loadConstant(R3, BigInt(timeoutSec) * NS_PER_SEC);
    },
  };
}

/** What comes behind the first jump cannot be reached, and is left out. */
function taken(asm: Emission['asm']): SetOperation {
  return { unlessAdds: (to) => void asm.goto(to), unlessExist: () => {}, timeout: () => {} };
}

/**
 * Adds the packet's key to a set or takes it out: to `done` when the set has taken or lost it, to `not` when not. Nothing
 * falls through. Uses r0..r5.
 */
export function emitChange(
  emission: Emission,
  subject: SetSubject,
  operation: SetOperation,
  done: Label,
  not: Label,
): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const search = asm.label('set_search');
  const found = asm.label('set_known');
  const absent = asm.label('set_new');
  const timedOut = asm.label('set_timed_out');
  const lose = asm.label('set_remove');
  emitOwnKey(emission, subject, not);
  operation.unlessAdds(search);
  emitBounds(emission, subject, not);
  asm.place(search);
  emitFind(emission, subject, found, absent);
  asm.place(found);
  emitUnlessExpired(emission, subject, timedOut);
  operation.unlessAdds(lose);
  emitKnownMac(emission, subject, operation, done, not);
  operation.unlessExist(not);
  emitExtras(emission, subject, operation.timeout);
  // The packet's entry is none that is marked nomatch.
  asm.load('u32', R0, R10, at.state).mov(R2, R0).and(R2, ~State.low);
  asm.load('u32', R1, R10, at.place).castToKernel(R1, R1).compareExchange('u32', R1, 0, R2);
  asm.goto(done);
  asm.place(lose);
  emitTakeOut(emission, subject, 'bucket', not);
  asm.goto(done);
  asm.place(timedOut);
  emitTakeOut(emission, subject, 'bucket', not);
  asm.place(absent);
  operation.unlessAdds(not);
  subject.settle();
  emitReserve(emission, subject, not);
  emitClaim(emission, subject, operation, not, done);
}

/**
 * An entry that waits for a MAC address gets the packet's, which is an addition. One that holds another loses it to the packet's
 * where entries that are there may change. Falls through where the entry then holds the packet's. Uses r0..r3.
 */
function emitKnownMac(
  emission: Emission,
  subject: SetSubject,
  operation: SetOperation,
  done: Label,
  not: Label,
): void {
  const { asm } = emission;
  if (!subject.mayHoldMac) return;
  const waits = asm.label('set_mac_waits');
  const other = asm.label('set_mac_other');
  const held = asm.label('set_mac_known');
  emitUnlessHeld(emission, subject, waits, other);
  asm.goto(held);
  asm.place(waits);
  emitComplete(emission, subject, operation.timeout, held, other);
  asm.goto(done);
  asm.place(other);
  operation.unlessExist(not);
  emitReplaceMac(emission, subject, not);
  asm.place(held);
}

/** The packet's key as it is added: networks under the longest length that entries have (INIT_CIDR in the kernel). */
function emitOwnKey(emission: Emission, subject: SetSubject, missing: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  subject.key(missing);
  for (let network = 0; network < subject.networks; network++) {
    const again = asm.label('set_longest');
    const chosen = asm.label('set_length_chosen');
    const none = asm.label('set_no_network');
    subject.unlessNetwork(network, R1, none);
    subject.record(R1);
    asm.load('u32', R2, R1, SetRecord.lengths + network * 4).mov(R1, R2);
    emitLoopHead(emission, again);
    asm.castToKernel(R1, R1).load('u32', R1, R1, LengthNode.next);
    // None has an entry: all bits, whose node is the one before the head.
    const some = asm.label('set_length_some');
    asm.jump('!=', R1, 0, some).mov(R1, R2).sub(R1, LENGTH_NODE_SIZE).goto(chosen);
    asm.place(some).castToKernel(R3, R1).load('u32', R0, R3, LengthNode.count).jump('==', R0, 0, again);
    asm.place(chosen).store('u32', R10, at.lengths[network]!, R1);
    emitNarrow(emission, subject, network as 0 | 1);
    asm.place(none);
    subject.settle();
  }
}

/** What may not be in the set: the address of all zeros, values outside of a bitmap. Uses r1, r2, r3. */
function emitBounds(emission: Emission, subject: SetSubject, outside: Label): void {
  const { asm, family } = emission;
  if (!subject.bounded) return;
  const at = setFrame(emission);
  const within = asm.label('set_bounds');
  const anyAddress = asm.label('set_any_address');
  const port = asm.label('set_bounds_port');
  subject.record(R3);
  asm.load('u32', R2, R3, SetRecord.flags).mov(R1, R2).and(R1, SetFlag.notZero).jump('==', R1, 0, anyAddress);
  for (let word = 0; word < addressWords(family); word++) {
    asm.load('u32', R1, R10, at.key + word * 4).jump('!=', R1, 0, within);
  }
  asm.goto(outside).place(anyAddress);
  asm
    .mov(R1, R2)
    .and(R1, SetFlag.addressRange | SetFlag.portRange)
    .jump('==', R1, 0, within);
  asm.load('u32', R1, R10, at.key).and(R2, SetFlag.portRange).jump('!=', R2, 0, port).toBe(R1, 32);
  asm.place(port).load('u32', R2, R3, SetRecord.rangeFirst).jump('<', R1, R2, outside);
  asm.load('u32', R2, R3, SetRecord.rangeLast).jump('>', R1, R2, outside);
  asm.place(within);
}

/** One more entry, if the set may have it; entries that have timed out make room, and others with forceadd. To `full` when there is none. */
function emitReserve(emission: Emission, subject: SetSubject, full: Label): void {
  const { asm } = emission;
  const reserved = asm.label('set_reserved');
  const makeRoom = [
    () => emitSweep(emission, subject),
    () => emitEvict(emission, subject, full),
    () => void asm.goto(full),
  ];
  for (const otherwise of makeRoom) {
    const none = asm.label('set_full');
    subject.record(R3);
    asm.mov(R1, 1).atomic('add', 'u32', R3, SetRecord.count, R1, 'fetch');
    asm.load('u32', R2, R3, SetRecord.maxelem).jump32('>=', R1, R2, none).goto(reserved);
    asm.place(none).mov(R1, -1).atomic('add', 'u32', R3, SetRecord.count, R1);
    otherwise();
  }
  asm.place(reserved);
  subject.settle();
}

/** Takes an entry near the key's home out of a set that lets others make room; to `full` when it does not. Uses r0..r5. */
function emitEvict(emission: Emission, subject: SetSubject, full: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const bucket = asm.label('set_evict_bucket');
  const slot = asm.label('set_evict_slot');
  const next = asm.label('set_evict_next');
  const used = asm.label('set_evict');
  const evicted = asm.label('set_evicted');
  subject.record(R3);
  asm.load('u32', R1, R3, SetRecord.flags).and(R1, SetFlag.forceAdd).jump('==', R1, 0, full);
  emitHome(emission, subject);
  emitLoopHead(emission, bucket);
  subject.settle();
  asm.store('u32', R10, at.slot, 0);
  emitLoopHead(emission, slot);
  subject.settle();
  emitNextSlot(emission, subject, next, slot, used);
  // One that somebody is writing stays.
  asm.place(used).load('u32', R1, R10, at.state).and(R1, State.full).jump('==', R1, 0, slot);
  emitTakeOut(emission, subject, 'bucket', slot);
  asm.goto(evicted);
  asm.place(next);
  asm.load('u32', R1, R10, at.wanted).rsh(R1, State.distanceShift).and(R1, MAX_DISTANCE);
  asm.jump('==', R1, MAX_DISTANCE, full);
  emitAdvance(emission, subject, bucket);
  asm.place(evicted);
}

/** Takes timed-out entries out of the next buckets. Uses r0..r5. */
function emitSweep(emission: Emission, subject: SetSubject): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const next = asm.label('set_sweep_bucket');
  const slot = asm.label('set_sweep_slot');
  const swept = asm.label('set_swept');
  subject.record(R3);
  asm.load('u32', R1, R3, SetRecord.expiryAt).jump('==', R1, 0, swept);
  asm.store('u32', R10, at.own, SWEPT_BUCKETS);
  emitLoopHead(emission, next);
  subject.settle();
  asm.load('u32', R1, R10, at.own).jump('==', R1, 0, swept).sub(R1, 1).store('u32', R10, at.own, R1);
  subject.record(R3);
  asm.mov(R1, 1).atomic('add', 'u32', R3, SetRecord.hand, R1, 'fetch');
  asm.load('u64', R2, R3, SetRecord.table).mov(R0, R2).rsh(R0, 32).and(R1, R0).mov32(R2, R2);
  asm.load('u32', R0, R3, SetRecord.bucketSize).mul(R1, R0).add(R1, R2).store('u32', R10, at.bucket, R1);
  asm.store('u32', R10, at.slot, 0);
  emitLoopHead(emission, slot);
  subject.settle();
  const claimable = asm.label('set_sweep_free');
  emitNextSlot(emission, subject, next, claimable, slot);
  asm.place(claimable).goto(slot);
  asm.place(swept);
}

/**
 * Looks at the next slot of the noted bucket, its state, place and entry noted: to `end` behind the last one, to `free` with
 * a free one, to `again` with one in use. An entry that has timed out is taken out first. Uses r0..r5.
 */
function emitNextSlot(emission: Emission, subject: SetSubject, end: Label, free: Label, again: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const timedOut = asm.label('set_slot_timed_out');
  asm.load('u32', R0, R10, at.slot).jump('>=', R0, BUCKET_SLOTS, end).mov(R1, R0).add(R1, 1);
  asm.store('u32', R10, at.slot, R1);
  asm.load('u32', R3, R10, at.bucket).mov(R1, R0).lsh(R1, 2).add(R1, R3).store('u32', R10, at.place, R1);
  asm.castToKernel(R1, R1).load('u32', R2, R1, 0).store('u32', R10, at.state, R2);
  subject.record(R1);
  asm.load('u32', R1, R1, SetRecord.entrySize).mul(R0, R1).add(R0, R3).add(R0, Bucket.entries);
  asm.store('u32', R10, at.entry, R0);
  asm
    .and(R2, State.full | State.low)
    .jump('==', R2, 0, free)
    .and(R2, State.full)
    .jump('==', R2, 0, again);
  emitUnlessExpired(emission, subject, timedOut);
  asm.goto(again);
  asm.place(timedOut);
  emitTakeOut(emission, subject, 'bucket', again);
  asm.goto(free);
}

/**
 * Takes the noted entry out, and its state becomes what is noted; to `lost` when somebody else has changed it. `home`: the
 * key is the packet's; `bucket`: the entry lies in the noted bucket. Uses r0..r5.
 */
function emitTakeOut(emission: Emission, subject: SetSubject, where: 'home' | 'bucket', lost: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const near = asm.label('set_at_home');
  if (subject.networks > 0) asm.mov(R4, 0);
  for (let network = 0; network < subject.networks; network++) {
    // The lengths lie behind the last network.
    const read = asm.label('set_lengths_read');
    subject.unlessNetwork(network, R1, read);
    asm
      .load('u32', R1, R10, at.entry)
      .castToKernel(R1, R1)
      .load('u32', R4, R1, (network + 1) * addressWords(emission.family) * 4);
    asm.place(read);
  }
  asm.load('u32', R0, R10, at.state).mov(R5, R0).mov(R2, R0).and(R2, ~0xffff).add(R2, SEQUENCE).mov32(R2, R2);
  asm.load('u32', R1, R10, at.place).castToKernel(R1, R1).compareExchange('u32', R1, 0, R2);
  asm.jump32('!=', R0, R5, lost).store('u32', R10, at.state, R2);
  subject.record(R3);
  asm.mov(R1, -1).atomic('add', 'u32', R3, SetRecord.count, R1);
  const uncounted = asm.label('set_lengths_counted');
  for (let network = 0; network < subject.networks; network++) {
    // The node of a length lies so many behind the head.
    subject.unlessNetwork(network, R2, uncounted);
    asm.mov(R2, R4);
    if (network > 0) asm.rsh(R2, 8);
    asm.and(R2, 0xff).lsh(R2, Math.log2(LENGTH_NODE_SIZE));
    asm.load('u32', R0, R3, SetRecord.lengths + network * 4);
    asm
      .sub(R0, (hostBits(emission) + 1) * LENGTH_NODE_SIZE)
      .add(R0, R2)
      .castToKernel(R0, R0);
    asm.mov(R1, -1).atomic('add', 'u32', R0, LengthNode.count, R1);
  }
  // One less that lies beyond its home bucket.
  asm.place(uncounted).rsh(R5, State.distanceShift).and(R5, MAX_DISTANCE).jump('==', R5, 0, near);
  if (where === 'home') asm.load('u32', R0, R10, at.home);
  else {
    const around = asm.label('set_not_around');
    asm.load('u32', R2, R3, SetRecord.bucketSize).mul(R5, R2).load('u32', R0, R10, at.bucket).sub(R0, R5);
    asm.load('u64', R1, R3, SetRecord.table).mov(R4, R1).rsh(R4, 32).add(R4, 1).mul(R4, R2).mov32(R1, R1);
    asm.jump('s>=', R0, R1, around).add(R0, R4).place(around);
  }
  asm.mov32(R0, R0).castToKernel(R0, R0).mov(R1, -1).atomic('add', 'u32', R0, Bucket.overflow, R1);
  asm.place(near);
}

function hostBits({ family }: Emission): number {
  return family === 'ipv4' ? 32 : 128;
}

/** Puts the key into the first free slot; the entry has been counted. Goes to one of the labels. */
function emitClaim(
  emission: Emission,
  subject: SetSubject,
  operation: SetOperation,
  full: Label,
  done: Label,
): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const bucket = asm.label('set_claim_bucket');
  const slot = asm.label('set_claim_slot');
  const next = asm.label('set_claim_next');
  const free = asm.label('set_claim');
  const none = asm.label('set_no_room');
  emitHome(emission, subject);
  emitLoopHead(emission, bucket);
  subject.settle();
  asm.store('u32', R10, at.slot, 0);
  emitLoopHead(emission, slot);
  subject.settle();
  emitNextSlot(emission, subject, next, free, slot);
  asm.place(next);
  asm.load('u32', R1, R10, at.wanted).rsh(R1, State.distanceShift).and(R1, MAX_DISTANCE);
  asm.jump('==', R1, MAX_DISTANCE, none);
  emitAdvance(emission, subject, bucket);
  asm.place(none);
  subject.record(R3);
  asm.mov(R1, -1).atomic('add', 'u32', R3, SetRecord.count, R1).goto(full);

  asm.place(free);
  asm
    .load('u32', R0, R10, at.state)
    .mov(R5, R0)
    .mov(R2, R0)
    .and(R2, ~0xffff)
    .add(R2, SEQUENCE + State.low);
  asm.mov32(R2, R2).load('u32', R1, R10, at.place).castToKernel(R1, R1).compareExchange('u32', R1, 0, R2);
  asm.jump32('!=', R0, R5, slot).store('u32', R10, at.state, R2);
  asm.load('u32', R1, R10, at.entry).castToKernel(R1, R1);
  const written = asm.label('set_key_written');
  for (let word = 0; word < subject.words; word++) {
    subject.unlessWord(word, R3, written);
    asm.load('u32', R2, R10, at.key + word * 4).store('u32', R1, word * 4, R2);
  }
  asm.place(written);
  emitWriteMac(emission, subject);
  emitExtras(emission, subject, operation.timeout);
  const counted = asm.label('set_claim_counted');
  for (let network = 0; network < subject.networks; network++) {
    subject.unlessNetwork(network, R0, counted);
    asm.load('u32', R0, R10, at.lengths[network]!).castToKernel(R0, R0);
    asm.mov(R1, 1).atomic('add', 'u32', R0, LengthNode.count, R1);
  }
  const home = asm.label('set_claimed_home');
  asm
    .place(counted)
    .load('u32', R5, R10, at.wanted)
    .mov(R1, R5)
    .rsh(R1, State.distanceShift)
    .and(R1, MAX_DISTANCE);
  asm.jump('==', R1, 0, home).load('u32', R0, R10, at.home).castToKernel(R0, R0);
  asm.mov(R1, 1).atomic('add', 'u32', R0, Bucket.overflow, R1).place(home);
  asm.load('u32', R2, R10, at.state).and(R2, ~0xffff).mov32(R2, R2).or(R2, R5);
  asm.load('u32', R1, R10, at.place).store('u32', R10, at.own, R1).castToKernel(R1, R1);
  // An exchange, so that the search for the same key behind it sees what others did before.
  asm.exchange('u32', R1, 0, R2);
  emitAgree(emission, subject, done);
}

/** Another entry of the same key, made at the same time: the one that lies first stays. */
function emitAgree(emission: Emission, subject: SetSubject, done: Label): void {
  const { asm } = emission;
  const at = setFrame(emission);
  const other = asm.label('set_twice');
  const mine = asm.label('set_mine_later');
  emitFind(emission, subject, other, done, true);
  asm.place(other);
  const distance = (to: typeof R1): void => {
    asm.rsh(to, State.distanceShift).and(to, MAX_DISTANCE);
  };
  asm.load('u32', R4, R10, at.own).castToKernel(R1, R4).load('u32', R2, R1, 0).mov(R0, R2);
  asm.load('u32', R3, R10, at.state);
  distance(R2);
  distance(R3);
  const first = asm.label('set_mine_first');
  asm.load('u32', R5, R10, at.place);
  asm.jump('<', R3, R2, mine).jump('!=', R3, R2, first).jump('<', R5, R4, mine);
  asm.place(first);
  emitTakeOut(emission, subject, 'home', done);
  asm.goto(done);
  // r0 = the state of mine, r4 its place; its key is the same, so the other's entry says what there is to say.
  asm.place(mine).store('u32', R10, at.place, R4).store('u32', R10, at.state, R0);
  emitTakeOut(emission, subject, 'home', done);
  asm.goto(done);
}
