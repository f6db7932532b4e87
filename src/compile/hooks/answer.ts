/**
 * What a hook that can answer a packet by itself does for it: cuts the packet to size, overwrites its head with the
 * answer's and sends it back where it came from. Used by actions/reply.
 */
import type { Label } from '../../isa/index.ts';
import type { Emission } from '../emit/emission.ts';

/** Bytes of an Ethernet header: where the link header of an answer begins in its block, and its IP header. */
export const ANSWER_LINK = 2;
export const ANSWER_IP = 16;

export interface Answering {
  /**
   * Goes to `no` for packets that were not sent to this host alone at the link layer. Else leaves the link header of the
   * answer at `block + ANSWER_LINK`. Uses r0..r5.
   */
  begin(emission: Emission, block: number, no: Label): void;
  /** Goes to `yes` where the packet's transport checksum is left to the device that sends it. Uses r0..r5. */
  unfinished(emission: Emission, yes: Label): void;
  /**
   * Leaves `room` bytes, then the first `keep` bytes of the packet behind the link header; `keep` is a number or the frame
   * offset of a word. Goes to `no` when that cannot be done. Uses r0..r5.
   */
  reshape(emission: Emission, room: number, keep: number | { readonly word: number }, no: Label): void;
  /** Writes the link header and `bytes` bytes behind it from the block, and ends the program. Uses r0..r5. */
  send(emission: Emission, block: number, bytes: number, no: Label): void;
}
