/** Token buckets for ICMP errors. Sources: net/ipv4/inetpeer.c (inet_peer_xrlim_allow), net/ipv4/icmp.c (icmp_global_allow). */

/** A silent host has saved up this many ICMP errors. */
export const XRLIM_BURST_FACTOR = 6;
/** Peers beyond this are forgotten, the oldest first (inet_peer_threshold, about 64 KiB of them a GiB of memory). */
const PEERS_MAX = 65_536;
/** A host that was never spoken to counts as silent for so long. */
const UNKNOWN_PEER_MS = 60_000;

/** At HZ=250. */
const JIFFY_MS = 4;

function jiffies(nowMs: number): number {
  return Math.floor(nowMs / JIFFY_MS) * JIFFY_MS;
}

interface Bucket {
  tokensMs: number;
  lastMs: number;
}

/** One bucket for each host. A token is a millisecond of silence; an error costs `costMs`, no more than `burstMs` are saved. */
export class PeerLimit {
  readonly #peers = new Map<string, Bucket>();

  allow(peer: string, nowMs: number, costMs: number, burstMs: number): boolean {
    let bucket = this.#peers.get(peer);
    if (bucket === undefined) {
      bucket = { tokensMs: 0, lastMs: nowMs - UNKNOWN_PEER_MS };
      this.#peers.set(peer, bucket);
      if (this.#peers.size > PEERS_MAX) this.#peers.delete(this.#peers.keys().next().value!);
    }
    // Time is counted in jiffies: within one of them nothing is added, and nothing cut off.
    const silentMs = jiffies(nowMs) - jiffies(bucket.lastMs);
    if (silentMs > 0) {
      bucket.tokensMs = Math.min(bucket.tokensMs + silentMs, burstMs);
      bucket.lastMs = nowMs;
    }
    if (bucket.tokensMs < costMs) return false;
    bucket.tokensMs -= costMs;
    return true;
  }
}

/** One bucket for all destinations together. The kernel adds a little randomness against probing; this does not. */
export class GlobalLimit {
  #credit: number | undefined;
  #lastMs = 0;

  allow(nowMs: number, perSec: number, burst: number): boolean {
    const credit =
      this.#credit === undefined ? burst : this.#credit + ((nowMs - this.#lastMs) * perSec) / 1000;
    this.#credit = Math.min(credit, burst);
    this.#lastMs = nowMs;
    if (this.#credit < 1) return false;
    this.#credit--;
    return true;
  }
}
