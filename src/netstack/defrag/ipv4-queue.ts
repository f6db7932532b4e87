/** IPv4's own part of a fragment queue, and the per-source counters behind ipfrag_max_dist. */
import { type FragmentLimits, FragmentQueue } from './queue.ts';

/** sizeof(struct ipq), Linux 6.18 on x86_64. */
export const IPQ_BYTES = 200;

/** net/ipv4/ip_fragment.c, ipv4_frags_init_net. */
export const IPV4_FRAGMENT_LIMITS: FragmentLimits = {
  highThresh: 4_194_304,
  lowThresh: 3_145_728,
  timeoutMs: 30_000,
  maxDist: 64,
};

/** Fragments that one source has sent, over all its datagrams (struct inet_peer, rid). */
export interface Ipv4Peer {
  readonly key: string;
  fragments: number;
  queues: number;
}

export class Ipv4FragmentQueue extends FragmentQueue {
  /** Largest fragment with DF set, header included. */
  maxDfSize = 0;
  /** The peer's counter when this queue was last touched. */
  lastFragment = 0;
  /** Absent when max_dist was 0 at creation. */
  peer: Ipv4Peer | undefined;
}

/**
 * Peers by source address and VRF. One lives as long as a queue refers to it: only differences of its counter matter, so
 * that forgetting an idle peer changes nothing, and their number is bounded by that of the queues.
 */
export class Ipv4Peers {
  readonly #peers = new Map<string, Ipv4Peer>();

  get size(): number {
    return this.#peers.size;
  }

  acquire(key: string): Ipv4Peer {
    let peer = this.#peers.get(key);
    if (peer === undefined) {
      peer = { key, fragments: 0, queues: 0 };
      this.#peers.set(key, peer);
    }
    peer.queues++;
    return peer;
  }

  release(peer: Ipv4Peer): void {
    if (--peer.queues === 0) this.#peers.delete(peer.key);
  }
}
