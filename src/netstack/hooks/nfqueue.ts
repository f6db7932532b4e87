/**
 * Queues by number with a limit each: what nfnetlink_queue offers to programs in user space.
 * Source: net/netfilter/nfnetlink_queue.c.
 */
import { Errno, NetstackError } from '../errno.ts';
import type { QueueEntry, QueueHandler } from './queue.ts';
import { NF_ACCEPT, NF_DROP } from './verdict.ts';

/** NFQNL_QMAX_DEFAULT. */
export const QUEUE_MAX_DEFAULT = 1024;
/** NFQNL_MAX_COPY_RANGE and the highest queue number are both 16-bit. */
const QUEUE_NUMBER_MAX = 0xffff;

export interface QueueOptions {
  /** Packets that may wait; more are dropped, or pass with `failOpen`. */
  readonly maxLength?: number;
  /** NFQA_CFG_F_FAIL_OPEN. */
  readonly failOpen?: boolean;
}

/** A packet as its listener gets it. */
export interface QueuedPacket {
  readonly id: number;
  readonly entry: QueueEntry;
}

/** What a listener may change together with its verdict. */
export interface PacketChange {
  readonly data?: Uint8Array;
  readonly mark?: number;
}

interface Instance {
  readonly waiting: Map<number, QueueEntry>;
  readonly listener: (packet: QueuedPacket) => void;
  readonly maxLength: number;
  readonly failOpen: boolean;
  nextId: number;
  dropped: number;
}

/** All queues of one namespace. */
export class PacketQueues implements QueueHandler {
  readonly #instances = new Map<number, Instance>();
  readonly #reinject: (entry: QueueEntry, verdict: number) => void;

  constructor(reinject: (entry: QueueEntry, verdict: number) => void) {
    this.#reinject = reinject;
  }

  /**
   * Begins to listen on a queue.
   * @throws NetstackError EINVAL for a number beyond 65535, EBUSY when somebody listens already
   */
  bind(number: number, listener: (packet: QueuedPacket) => void, options: QueueOptions = {}): void {
    if (!Number.isInteger(number) || number < 0 || number > QUEUE_NUMBER_MAX)
      throw new NetstackError('EINVAL', `no queue number: ${number}`, 'use 0 to 65535');
    if (this.#instances.has(number))
      throw new NetstackError(
        'EBUSY',
        `queue ${number} has a listener`,
        'use another number, or unbind that one',
      );
    this.#instances.set(number, {
      waiting: new Map(),
      listener,
      maxLength: options.maxLength ?? QUEUE_MAX_DEFAULT,
      failOpen: options.failOpen ?? false,
      nextId: 1,
      dropped: 0,
    });
  }

  /** Stops listening: what waits is dropped. @throws NetstackError ENODEV when nobody listens */
  unbind(number: number): void {
    const instance = this.#instance(number);
    this.#instances.delete(number);
    this.#flush(instance);
  }

  /** Packets that wait in a queue, and packets dropped because it was full. @throws NetstackError ENODEV */
  status(number: number): { readonly waiting: number; readonly dropped: number } {
    const { waiting, dropped } = this.#instance(number);
    return { waiting: waiting.size, dropped };
  }

  /**
   * The verdict on one packet, in any order.
   * @throws NetstackError ENODEV when nobody listens on this queue, ENOENT when no such packet waits
   */
  verdict(number: number, id: number, verdict: number, change: PacketChange = {}): void {
    const { waiting } = this.#instance(number);
    const entry = waiting.get(id);
    if (entry === undefined)
      throw new NetstackError(
        'ENOENT',
        `no packet ${id} in queue ${number}`,
        'each packet takes one verdict',
      );
    waiting.delete(id);
    if (change.data !== undefined) {
      entry.skb.data = change.data;
      entry.skb.fragmentLengths = undefined;
    }
    if (change.mark !== undefined) entry.skb.mark = change.mark;
    this.#reinject(entry, verdict);
  }

  /** One verdict for all packets up to and with this id. @throws NetstackError ENODEV, ENOENT when there is none */
  batchVerdict(number: number, maxId: number, verdict: number): void {
    const { waiting } = this.#instance(number);
    const ids = [...waiting.keys()].filter((id) => id <= maxId);
    if (ids.length === 0)
      throw new NetstackError('ENOENT', `no packet up to ${maxId} in queue ${number}`, 'nothing waits there');
    for (const id of ids) {
      const entry = waiting.get(id)!;
      waiting.delete(id);
      this.#reinject(entry, verdict);
    }
  }

  enqueue(entry: QueueEntry, number: number): number {
    const instance = this.#instances.get(number);
    if (instance === undefined) return -Errno.ESRCH;
    if (instance.waiting.size >= instance.maxLength) {
      if (!instance.failOpen) {
        instance.dropped++;
        return -Errno.ENOBUFS;
      }
      this.#reinject(entry, NF_ACCEPT);
      return 0;
    }
    const id = instance.nextId++;
    instance.waiting.set(id, entry);
    instance.listener({ id, entry });
    return 0;
  }

  flush(): void {
    for (const instance of this.#instances.values()) this.#flush(instance);
  }

  #flush(instance: Instance): void {
    const entries = [...instance.waiting.values()];
    instance.waiting.clear();
    for (const entry of entries) this.#reinject(entry, NF_DROP);
  }

  #instance(number: number): Instance {
    const instance = this.#instances.get(number);
    if (instance === undefined)
      throw new NetstackError('ENODEV', `nobody listens on queue ${number}`, 'bind it first');
    return instance;
  }
}
