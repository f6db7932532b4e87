/**
 * Consumer of a BPF ring buffer (Linux 5.8): kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst.
 *
 * Layout of the mapping: a page with the consumer's position (ours to write), a page with the producer's, then the data
 * twice over, so that a record that wraps is still in one piece. Positions count bytes and never wrap.
 *
 * Memory order: the producer stores its position after it has reserved and clears a record's busy bit after the data is
 * complete, both with release; we load both with acquire and store our own position when we are done with the record.
 * Atomics gives sequential consistency, which is more than that.
 */
import { KernelArgumentError, KernelError } from '../sys/error.ts';
import { Mapping, PROT_READ, pageSize } from '../sys/mapping.ts';
import { pollReadable } from '../sys/poll.ts';
import type { BpfMap } from './map.ts';

const BUSY_BIT = 1 << 31;
const DISCARD_BIT = 1 << 30;
const LENGTH_MASK = DISCARD_BIT - 1;
const HEADER_BYTES = 8;

export class RingBuffer {
  readonly map: BpfMap;
  readonly #consumer: Mapping;
  readonly #producer: Mapping;
  readonly #consumed: BigInt64Array;
  readonly #produced: BigInt64Array;
  /** Headers as words, for atomic loads. */
  readonly #words: Int32Array;
  readonly #data: Uint8Array;
  readonly #mask: number;

  /** Maps the buffer. It has one consumer: a second one would steal records. The map stays the caller's. */
  constructor(map: BpfMap) {
    if (map.type !== 'BPF_MAP_TYPE_RINGBUF')
      throw new KernelArgumentError(`${map.fd.label} is no ring buffer`);
    const page = pageSize();
    this.map = map;
    this.#mask = map.maxEntries - 1;
    this.#consumer = new Mapping({ fd: map.fd.number, length: page, label: map.fd.label });
    try {
      const length = page + 2 * map.maxEntries;
      this.#producer = new Mapping({
        fd: map.fd.number,
        length,
        offset: page,
        protection: PROT_READ,
        label: map.fd.label,
      });
    } catch (error) {
      this.#consumer.unmap();
      throw error;
    }
    this.#consumed = new BigInt64Array(this.#consumer.buffer, 0, 1);
    this.#produced = new BigInt64Array(this.#producer.buffer, 0, 1);
    this.#words = new Int32Array(this.#producer.buffer, page);
    this.#data = new Uint8Array(this.#producer.buffer, page);
  }

  /** Bytes that wait, headers and records that are still being written included. */
  get pendingBytes(): number {
    return Number(Atomics.load(this.#produced, 0) - Atomics.load(this.#consumed, 0));
  }

  /**
   * Hands each complete record to `consume`, at most `limit` of them, and frees its room. The bytes are the ring's own:
   * copy what should outlive the call. Returns how many were handed over.
   * @throws {KernelError} `RINGBUF_CORRUPT` when a header cannot be true
   */
  drain(consume: (record: Uint8Array) => void, limit = 4096): number {
    let handed = 0;
    let position = Number(Atomics.load(this.#consumed, 0));
    const end = Number(Atomics.load(this.#produced, 0));
    while (position < end && handed < limit) {
      const offset = position & this.#mask;
      const header = Atomics.load(this.#words, offset >> 2);
      // Records are completed in any order but consumed in theirs: wait for the one that is being written.
      if ((header & BUSY_BIT) !== 0) break;
      const length = header & LENGTH_MASK;
      const room = (length + HEADER_BYTES + 7) & ~7;
      if (room > end - position) {
        throw new KernelError(
          'RINGBUF_CORRUPT',
          `${this.map.fd.label}: a record of ${length} bytes at ${position} is impossible`,
        );
      }
      position += room;
      try {
        if ((header & DISCARD_BIT) === 0) {
          handed++;
          consume(this.#data.subarray(offset + HEADER_BYTES, offset + HEADER_BYTES + length));
        }
      } finally {
        Atomics.store(this.#consumed, 0, BigInt(position));
      }
    }
    return handed;
  }

  /** Waits, without blocking the thread, until there is something to drain; false after `timeoutMs`. */
  wait(timeoutMs: number): Promise<boolean> {
    return pollReadable(this.map.fd, timeoutMs);
  }

  close(): void {
    this.#producer.unmap();
    this.#consumer.unmap();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
