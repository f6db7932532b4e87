/**
 * Counting a packet: packets += 1, bytes += the packet's length.
 *
 * Plain loads and stores on this CPU's copy where only softirq runs; atomic additions where process context can be
 * interrupted between the two (design decision 14).
 */
import { R1, R2, R3, R8, R10, type Register } from '../../isa/index.ts';
import { COUNTER_SIZE } from '../arena/layout.ts';
import type { Emission } from './emission.ts';

/** Loads and stores take 16-bit offsets. */
const REACH = 0x7ff0;

/** Counts the packet at a counter of the generation. Uses r1, r2, r3. */
export function emitCount(emission: Emission, counter: number): void {
  const { asm } = emission;
  const offset = counter * COUNTER_SIZE;
  let base: Register = R8;
  let at = offset;
  if (offset > REACH) {
    base = R3;
    at = 0;
    asm.mov(R3, R8).add(R3, offset);
  }
  emitCountAt(emission, base, at);
}

/** Counts the packet at the counter `at` bytes behind `base` (not r1, r2). Uses r1, r2. */
export function emitCountAt(emission: Emission, base: Register, at: number): void {
  const { asm, hook } = emission;
  if (!hook.preemptible) addPlainly(emission, base, at);
  else if (hook.askPreemptible === undefined) addAtomically(emission, base, at);
  else {
    const preemptible = asm.label('preemptible');
    const counted = asm.label('counted');
    hook.askPreemptible(asm, preemptible);
    addPlainly(emission, base, at);
    asm.goto(counted).place(preemptible);
    addAtomically(emission, base, at);
    asm.place(counted);
  }
}

function addAtomically({ asm, facts }: Emission, base: Register, at: number): void {
  asm.mov(R1, 1).atomic('add', 'u64', base, at, R1);
  asm.load('u32', R1, R10, facts.offset('length')).atomic('add', 'u64', base, at + 8, R1);
}

function addPlainly({ asm, facts }: Emission, base: Register, at: number): void {
  asm.load('u64', R1, base, at).add(R1, 1).store('u64', base, at, R1);
  asm.load('u64', R1, base, at + 8).load('u32', R2, R10, facts.offset('length'));
  asm.add(R1, R2).store('u64', base, at + 8, R1);
}

/** Counts one packet without its bytes: for events before the length is known. Uses r1, r3. */
export function emitTick(emission: Pick<Emission, 'asm' | 'hook'>, counter: number): void {
  const { asm, hook } = emission;
  const at = counter * COUNTER_SIZE;
  if (hook.preemptible) {
    asm.mov(R1, 1).atomic('add', 'u64', R8, at, R1);
    return;
  }
  asm.load('u64', R1, R8, at).add(R1, 1).store('u64', R8, at, R1);
}
