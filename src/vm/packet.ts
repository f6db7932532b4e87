/** A packet in the machine's memory, with room before and behind it, so that programs can move its ends. */
import { VmError } from './error.ts';
import type { LinearMemory } from './memory.ts';

/** Room before the packet (XDP_PACKET_HEADROOM). */
export const HEADROOM_BYTES = 256;
/** Room behind it. */
export const TAILROOM_BYTES = 320;

export class Packet {
  readonly #memory: LinearMemory;
  /** First byte of the buffer; `limit` is the byte after its last. */
  readonly hardStart: number;
  readonly limit: number;
  /** First byte of the packet, and the byte after its last. */
  data: number;
  end: number;
  /** First byte of the metadata before the packet; equal to `data` when there is none. */
  meta: number;
  /** Where the network header begins, from `data`; 14 for Ethernet frames, 0 for packets at layer 3. */
  networkOffset = 0;
  /** Bytes of link header right before `data`: of packets at layer 3 that came with one. */
  linkHeaderBytes = 0;
  /** Bytes of the packet that lie together (skb_headlen); the kernel may have the others in pages of their own. */
  linearBytes: number = Number.POSITIVE_INFINITY;
  /** False for packets that this host makes; the link headers of some devices are empty. */
  hasLinkHeader = false;

  constructor(memory: LinearMemory, capacity: number) {
    this.#memory = memory;
    const bytes = HEADROOM_BYTES + capacity + TAILROOM_BYTES;
    this.hardStart = memory.allocate(bytes);
    this.limit = this.hardStart + bytes;
    this.data = this.hardStart + HEADROOM_BYTES;
    this.end = this.data;
    this.meta = this.data;
  }

  get length(): number {
    return this.end - this.data;
  }
  /** The packet's bytes: a view, valid until the machine's memory grows. */
  get bytes(): Uint8Array {
    return this.#memory.u8.subarray(this.data, this.end);
  }

  /** Replaces the packet. @throws VmError `VM_CONTEXT` when it is longer than the buffer */
  set(bytes: Uint8Array, networkOffset = 0): this {
    const data = this.hardStart + HEADROOM_BYTES;
    if (data + bytes.length + TAILROOM_BYTES > this.limit) {
      throw new VmError('VM_CONTEXT', `a packet of ${bytes.length} bytes is larger than the buffer`);
    }
    this.#memory.u8.set(bytes, data);
    this.data = data;
    this.meta = data;
    this.end = data + bytes.length;
    this.networkOffset = networkOffset;
    this.linearBytes = Number.POSITIVE_INFINITY;
    this.linkHeaderBytes = 0;
    this.hasLinkHeader = networkOffset !== 0;
    return this;
  }

  /** Puts a link header before a packet at layer 3, where `skb->mac_header` points to it. At most {@link HEADROOM_BYTES}. */
  setLinkHeader(bytes: Uint8Array): this {
    if (bytes.length > HEADROOM_BYTES)
      throw new VmError('VM_CONTEXT', `a link header of ${bytes.length} bytes is larger than the headroom`);
    this.#memory.u8.set(bytes, this.data - bytes.length);
    this.linkHeaderBytes = bytes.length;
    this.hasLinkHeader = true;
    return this;
  }
}
