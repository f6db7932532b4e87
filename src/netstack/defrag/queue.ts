/**
 * Incomplete datagrams: the directory that finds them by key, charges their memory and lets them time out.
 * Source: net/ipv4/inet_fragment.c, include/net/inet_frag.h.
 */
import { type Clock, Timer, type TimerQueue } from '../clock.ts';
import { NetstackError } from '../errno.ts';
import { FragmentRuns } from './run.ts';

/** Bounds and times of one directory; the sysctls of net.ipv4.ipfrag_*, net.ipv6.ip6frag_*, net.netfilter.nf_conntrack_frag6_*. */
export interface FragmentLimits {
  /** Above this much memory no fragment is taken in; 0 takes in none. Bytes. */
  highThresh: number;
  /** Only a bound of highThresh since Linux 4.17. Bytes. */
  lowThresh: number;
  timeoutMs: number;
  /** IPv4: how many fragments of the same source may lie between two of one datagram; 0 for any number. */
  maxDist: number;
}

/** Fields common to the queues of both families (struct inet_frag_queue). */
export class FragmentQueue {
  readonly key: string;
  readonly user: number;
  readonly runs: FragmentRuns = new FragmentRuns();
  readonly timer: Timer;
  /** End of the datagram as far as it is known, bytes of fragmentable part. */
  len = 0;
  /** Bytes that have come. */
  meat = 0;
  firstIn = false;
  lastIn = false;
  /** Completed, killed or timed out: no longer in the directory. */
  complete = false;
  /** Set of ECN codepoints seen, see ecnBit. */
  ecn = 0;
  /** Largest fragment so far; what it counts differs by family. */
  maxSize = 0;
  /** Device of the fragment that came last. */
  iif = 0;
  /** When the last one came. */
  stampNs = 0n;

  constructor(key: string, user: number, expire: (queue: FragmentQueue) => void) {
    this.key = key;
    this.user = user;
    this.timer = new Timer(() => expire(this));
  }

  /** FIRST and LAST have come, and every byte between them. */
  get whole(): boolean {
    return this.firstIn && this.lastIn && this.meat === this.len;
  }
}

/** All incomplete datagrams of one kind in one namespace (struct fqdir). */
export class FragmentDirectory<Q extends FragmentQueue> {
  readonly #queues = new Map<string, Q>();
  readonly #queueBytes: number;
  readonly #limits: FragmentLimits;
  readonly #clock: Clock;
  readonly #timers: TimerQueue;
  #memory = 0;
  #dead = false;

  /**
   * @param queueBytes what one queue is charged with besides its fragments (sizeof struct ipq, frag_queue)
   */
  constructor(queueBytes: number, limits: FragmentLimits, clock: Clock, timers: TimerQueue) {
    this.#queueBytes = queueBytes;
    this.#limits = { ...limits };
    this.#clock = clock;
    this.#timers = timers;
  }

  /** Bytes charged now: what /proc/net/sockstat shows behind FRAG memory. */
  get memory(): number {
    return this.#memory;
  }

  /** Incomplete datagrams now. */
  get size(): number {
    return this.#queues.size;
  }

  get limits(): Readonly<FragmentLimits> {
    return this.#limits;
  }

  /**
   * Changes limits as a write to the sysctls would.
   * @throws NetstackError EINVAL when low would exceed high, or a value is no unsigned integer
   */
  configure(change: Partial<FragmentLimits>): void {
    const next = { ...this.#limits, ...change };
    for (const [name, value] of Object.entries(next))
      if (!Number.isSafeInteger(value) || value < 0)
        throw new NetstackError(
          'EINVAL',
          `${name} ${value} is not an unsigned integer`,
          'use a whole number >= 0',
        );
    if (next.lowThresh > next.highThresh)
      throw new NetstackError(
        'EINVAL',
        `low threshold ${next.lowThresh} exceeds high threshold ${next.highThresh}`,
        'raise the high threshold first, or lower the low one',
      );
    Object.assign(this.#limits, next);
  }

  /** What is incomplete now, oldest first. */
  queues(): Iterable<Q> {
    return this.#queues.values();
  }

  /** The queue of this key, made by `create` when there is none; `undefined` when memory is over the threshold. */
  find(key: string, create: () => Q): Q | undefined {
    const { highThresh, timeoutMs } = this.#limits;
    if (this.#dead || highThresh === 0 || this.#memory > highThresh) return undefined;
    const found = this.#queues.get(key);
    if (found !== undefined) return found;
    const queue = create();
    this.#memory += this.#queueBytes;
    this.#timers.arm(queue.timer, this.#clock.nowMs() + timeoutMs);
    this.#queues.set(key, queue);
    return queue;
  }

  /** Charges for a fragment that was stored. */
  charge(truesize: number): void {
    this.#memory += truesize;
  }

  /** Drops the fragments of a queue that stays, and gives it a full lifetime again. */
  restart(queue: Q): void {
    this.#timers.arm(queue.timer, this.#clock.nowMs() + this.#limits.timeoutMs);
    this.#memory -= queue.runs.purge();
  }

  /** Takes a queue out of the directory: nothing finds it any more, and its timer is off. Its fragments stay. */
  kill(queue: Q): void {
    this.#timers.cancel(queue.timer);
    if (queue.complete) return;
    queue.complete = true;
    this.#queues.delete(queue.key);
  }

  /** Frees a killed queue with all it holds. */
  release(queue: Q): void {
    this.#memory -= queue.runs.purge() + this.#queueBytes;
  }

  /** Kills and frees at once. */
  discard(queue: Q): void {
    this.kill(queue);
    this.release(queue);
  }

  /** The namespace goes: everything is freed and nothing taken in any more. */
  destroy(): void {
    this.#dead = true;
    for (const queue of [...this.#queues.values()]) this.discard(queue);
  }
}
