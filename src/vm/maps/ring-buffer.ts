/**
 * Ring buffer (`kernel/bpf/ringbuf.c`): records in the order they were reserved; the consumer waits at the first that
 * is not committed yet.
 *
 * The kernel maps its data pages twice in a row so that a record never wraps. Here the data area is simply twice as
 * long: a record that begins near the end of the first half goes on in the second.
 */
import { EAGAIN, EINVAL, type MapHost, type MapSpec, round8, UnkeyedMap } from './map.ts';

const HEADER_BYTES = 8;
const BUSY = 0x80000000;
const DISCARD = 0x40000000;

export class RingBufferMap extends UnkeyedMap {
  readonly #data: number;
  readonly #mask: number;
  #produced = 0;
  #consumed = 0;

  constructor(host: MapHost, spec: MapSpec, handle: number) {
    super(host, spec, handle);
    this.#mask = spec.maxEntries - 1;
    this.#data = this.allocateRegion(spec.maxEntries * 2);
  }

  /** Address of a new record's bytes; 0 when there is no room. */
  reserve(bytes: number): number {
    const length = round8(bytes + HEADER_BYTES);
    if (length > this.spec.maxEntries || this.#produced + length - this.#consumed > this.#mask) return 0;
    const header = this.#data + (this.#produced & this.#mask);
    this.#produced += length;
    this.host.memory.u32[header >> 2] = bytes | BUSY;
    return header + HEADER_BYTES;
  }

  /** Ends a reservation; the record at `address` becomes visible, or is skipped. `false` when it is not a reserved record. */
  commit(address: number, discard: boolean): boolean {
    const header = address - HEADER_BYTES;
    const offset = header - this.#data;
    if (offset < 0 || offset > this.#mask || (offset & 7) !== 0) return false;
    const word = this.host.memory.u32[header >> 2]!;
    if (word < BUSY) return false;
    this.host.memory.u32[header >> 2] = (word - BUSY) | (discard ? DISCARD : 0);
    return true;
  }

  /** Copies a record in. 0 or a negative error number. */
  output(from: number, bytes: number): number {
    const address = this.reserve(bytes);
    if (address === 0) return -EAGAIN;
    this.host.memory.u8.copyWithin(address, from, from + bytes);
    this.commit(address, false);
    return 0;
  }

  /** `BPF_RB_AVAIL_DATA`, `…RING_SIZE`, `…CONS_POS`, `…PROD_POS`; 0 for other questions. */
  query(question: number): number {
    return (
      [this.#produced - this.#consumed, this.spec.maxEntries, this.#consumed, this.#produced][question] ?? 0
    );
  }

  /** Takes the committed records out, oldest first, up to the first that is still open. */
  *drain(): Generator<Uint8Array> {
    while (this.#consumed < this.#produced) {
      const header = this.#data + (this.#consumed & this.#mask);
      const word = this.host.memory.u32[header >> 2]!;
      if (word >= BUSY) return;
      const bytes = word & ~DISCARD;
      const record = this.host.memory.copy(header + HEADER_BYTES, bytes);
      this.#consumed += round8(bytes + HEADER_BYTES);
      if ((word & DISCARD) === 0) yield record;
    }
  }

  override updateAt(): number {
    return -EINVAL;
  }
}
