/** The kernel's clock as it was at its last tick: jiffies move with it, and on a busy machine both may lag behind real time. */
import { syscall } from '../../src/kernel/sys/syscall.ts';

const CLOCK_MONOTONIC_COARSE = 6;
const time = new BigInt64Array(2);

/** Milliseconds at the last tick. */
export function tickMs(): number {
  syscall('clock_gettime', CLOCK_MONOTONIC_COARSE, time);
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}

/** Sleeps until ticks say that it is `atMs` or later. @throws {Error} when the clock stands still */
export function waitForTick(atMs: number): void {
  const word = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0; tickMs() < atMs; tries++) {
    if (tries > 10_000) throw new Error('the clock stands still');
    Atomics.wait(word, 0, 0, 1);
  }
}
