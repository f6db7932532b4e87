/** Token buckets for ICMP errors. Sources: net/ipv4/inetpeer.c (inet_peer_xrlim_allow), net/ipv4/icmp.c (icmp_global_allow). */

/** A silent host has saved up this many errors. */
const XRLIM_BURST_FACTOR = 6;
/** Peers beyond this are forgotten, the oldest first (inet_peer_threshold, about 64 KiB of them a GiB of memory). */
const PEERS_MAX = 65_536;

interface Bucket {
  tokensMs: number;
  lastMs: number;
}

/** One bucket for each destination. A token is a millisecond of silence; an error costs `costMs` of them. */
export class PeerLimit {
  readonly #peers = new Map<string, Bucket>();

  allow(peer: string, nowMs: number, costMs: number): boolean {
    if (costMs === 0) return true;
    let bucket = this.#peers.get(peer);
    if (bucket === undefined) {
      bucket = { tokensMs: XRLIM_BURST_FACTOR * costMs, lastMs: nowMs };
      this.#peers.set(peer, bucket);
      if (this.#peers.size > PEERS_MAX) this.#peers.delete(this.#peers.keys().next().value!);
    }
    bucket.tokensMs = Math.min(bucket.tokensMs + nowMs - bucket.lastMs, XRLIM_BURST_FACTOR * costMs);
    bucket.lastMs = nowMs;
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
