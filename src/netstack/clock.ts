/**
 * Time for the netstack, injected, and timers on it.
 *
 * Nothing here reads a real clock: a replay sets the capture's time, a test moves it by hand, a live host
 * passes a monotonic one. Timers fire only when somebody calls {@link TimerQueue.runDue}, in order of expiry.
 */

/** A monotonic clock. The unit is the millisecond; fractions are allowed. */
export interface Clock {
  nowMs(): number;
}

/** A clock that stands still until it is told to move. */
export class ManualClock implements Clock {
  #nowMs: number;

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** Sets the time. A step backwards (captures have them) is ignored, because the clock is monotonic. */
  moveTo(nowMs: number): void {
    if (nowMs > this.#nowMs) this.#nowMs = nowMs;
  }

  advance(byMs: number): void {
    this.moveTo(this.#nowMs + byMs);
  }
}

/** One timer: embed it in what it belongs to. It is pending exactly while `position` is not negative. */
export class Timer {
  /** When it fires; meaningful while it is pending. */
  expiresMs = 0;
  /** Index in the heap, -1 when not pending. Owned by {@link TimerQueue}. */
  position = -1;
  /** Ties fire in the order in which they were armed. Owned by {@link TimerQueue}. */
  sequence = 0;
  readonly fire: () => void;

  constructor(fire: () => void) {
    this.fire = fire;
  }

  get pending(): boolean {
    return this.position >= 0;
  }
}

/** A binary heap of timers: arm, cancel and fire in O(log n); a cancelled timer leaves nothing behind. */
export class TimerQueue {
  readonly #heap: Timer[] = [];
  #sequence = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** When the next timer fires, or `undefined` when none is armed. */
  get nextMs(): number | undefined {
    return this.#heap[0]?.expiresMs;
  }

  /** Arms a timer, or moves one that is armed (mod_timer). True when it was pending before. */
  arm(timer: Timer, expiresMs: number): boolean {
    const wasPending = this.cancel(timer);
    timer.expiresMs = expiresMs;
    timer.sequence = this.#sequence++;
    timer.position = this.#heap.length;
    this.#heap.push(timer);
    this.#siftUp(timer.position);
    return wasPending;
  }

  /** Disarms (timer_delete). True when it was pending. */
  cancel(timer: Timer): boolean {
    const at = timer.position;
    if (at < 0) return false;
    const last = this.#heap.pop()!;
    timer.position = -1;
    if (last !== timer) {
      this.#heap[at] = last;
      last.position = at;
      this.#siftDown(at);
      this.#siftUp(last.position);
    }
    return true;
  }

  /** Fires every timer due at `nowMs`, earliest first; timers armed meanwhile fire too when they are due. */
  runDue(nowMs: number): number {
    let fired = 0;
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.expiresMs > nowMs) return fired;
      this.cancel(first);
      first.fire();
      fired++;
    }
  }

  #before(a: Timer, b: Timer): boolean {
    return a.expiresMs < b.expiresMs || (a.expiresMs === b.expiresMs && a.sequence < b.sequence);
  }

  #siftUp(start: number): void {
    const heap = this.#heap;
    const timer = heap[start]!;
    let at = start;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt]!;
      if (!this.#before(timer, parent)) break;
      heap[at] = parent;
      parent.position = at;
      at = parentAt;
    }
    heap[at] = timer;
    timer.position = at;
  }

  #siftDown(start: number): void {
    const heap = this.#heap;
    const timer = heap[start]!;
    let at = start;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= heap.length) break;
      if (childAt + 1 < heap.length && this.#before(heap[childAt + 1]!, heap[childAt]!)) childAt++;
      const child = heap[childAt]!;
      if (!this.#before(child, timer)) break;
      heap[at] = child;
      child.position = at;
      at = childAt;
    }
    heap[at] = timer;
    timer.position = at;
  }
}
