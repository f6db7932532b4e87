/**
 * Token bucket of xt_limit.c, its arithmetic to the bit: credit grows by CREDITS_PER_JIFFY a jiffy, in 32 bits that may
 * wrap, up to the cap; a packet costs `cost`. Credit and clock are one 64-bit word, exchanged atomically, so that all
 * CPUs share one bucket. All zero is a bucket nobody has used: full, with the clock at now.
 */

import type { LimitPredicate } from '../../ir/index.ts';
import { type Label, R0, R1, R2, R3, R4, R5, R7, type Register } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';
import { emitLoopHead } from '../emit/loop.ts';
import { emitStatePointer } from '../emit/state.ts';

const REFERENCE_HZ = 250;
const SECONDS_A_DAY = 86400;

/** The largest power of two of credits a jiffy that a day of jiffies does not overflow. */
export function creditsPerJiffy(hz: number): number {
  return 2 ** Math.floor(Math.log2(0xffffffff / (hz * SECONDS_A_DAY)));
}

/** The predicate's numbers are of HZ=250; other clocks have other credits a second. */
function rescale(credits: number, hz: number): number {
  const perSecond = hz * creditsPerJiffy(hz);
  const reference = REFERENCE_HZ * creditsPerJiffy(REFERENCE_HZ);
  return Math.min(0xffffffff, Math.floor((credits * perSecond) / reference));
}

/** Cost and cap of the predicate in credits of a machine of that clock. */
export function limitCredits(predicate: LimitPredicate, hz: number): { cost: number; cap: number } {
  return { cost: rescale(predicate.cost, hz), cap: rescale(predicate.cap, hz) };
}

/** `key` names the rule's bucket. Uses r0..r5. */
export function emitLimit(emission: Emission, predicate: LimitPredicate, key: string, fail: Label): void {
  const { asm, hz } = emission;
  const { cost, cap } = limitCredits(predicate, hz);
  const word = emission.state.allot(key, 0n);
  emitBucket(
    emission,
    {
      pointer: () => emitStatePointer(asm, R7, word),
      cap: (to) => asm.loadConstant(to, cap),
      jumpUnless: (condition, number, to) => asm.jump32(condition, R2, number === 'cap' ? cap : cost, to),
      setCap: () => asm.mov32(R2, cap | 0),
      spend: () => asm.sub32(R2, cost),
    },
    fail,
  );
}

/** Where a bucket is, and its numbers: constants of the program, or found by it. */
export interface Bucket {
  /** r3 = the state word. Uses r1; keeps r4. */
  pointer(): void;
  /** register = cap */
  cap(to: Register): void;
  /** Compares the credit in r2. May use r1. */
  jumpUnless(condition: '<=' | '<', number: 'cap' | 'cost', to: Label): void;
  /** r2 = cap, r2 -= cost. May use r1. */
  setCap(): void;
  spend(): void;
}

/** Takes a packet's cost from the bucket; goes to `fail` when there is too little. Uses r0..r5. */
export function emitBucket(emission: Emission, bucket: Bucket, fail: Label): void {
  const { asm, hz } = emission;
  const again = asm.label('limit_again');
  const used = asm.label('limit_used');
  const capped = asm.label('limit_capped');
  const compare = asm.label('limit_exchange');

  // A failed exchange means that another CPU took a packet in between; the kernel's budget bounds the loop.
  emitLoopHead(emission, again);
  asm.call('bpf_jiffies64').mov32(R4, R0);
  bucket.pointer();
  asm.load('u64', R0, R3, 0);
  // r2 = credit before, r1 = jiffies then, r4 = jiffies now.
  asm.mov32(R2, R0).mov(R1, R0).rsh(R1, 32);
  asm.jump('!=', R0, 0, used);
  bucket.cap(R2);
  asm.mov(R1, R4);
  asm.place(used);
  asm
    .mov32(R5, R4)
    .sub32(R5, R1)
    .lsh32(R5, Math.log2(creditsPerJiffy(hz)))
    .add32(R2, R5);
  bucket.jumpUnless('<=', 'cap', capped);
  bucket.setCap();
  asm.place(capped);
  // r5 = whether the packet has its credit.
  asm.mov(R5, 0);
  bucket.jumpUnless('<', 'cost', compare);
  bucket.spend();
  asm.mov(R5, 1);
  asm.place(compare);
  asm.lsh(R4, 32).or(R2, R4);
  asm.mov(R4, R0).compareExchange('u64', R3, 0, R2).jump('!=', R0, R4, again);
  asm.jump('==', R5, 0, fail);
}
