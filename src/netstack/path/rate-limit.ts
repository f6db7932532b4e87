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

/** ip_rt_redirect_number, _load and _silence: so many redirects to a host that does not listen, ever more slowly. */
const MOST_REDIRECTS = 9;
const REDIRECT_LOAD_MS = 20;
const REDIRECT_SILENCE_MS = REDIRECT_LOAD_MS << (MOST_REDIRECTS + 1);

/** struct inet_peer: errors and redirects share the time of the last one. */
interface Bucket {
  tokensMs: number;
  lastMs: number;
  redirects: number;
}

/** One bucket for each host. A token is a millisecond of silence; an error costs `costMs`, no more than `burstMs` are saved. */
export class PeerLimit {
  readonly #peers = new Map<string, Bucket>();

  allow(peer: string, nowMs: number, costMs: number, burstMs: number): boolean {
    const bucket = this.#bucket(peer, nowMs);
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

  /** Whether a host may be told of a better next hop (ip_rt_send_redirect). */
  allowRedirect(peer: string, nowMs: number): boolean {
    const bucket = this.#bucket(peer, nowMs);
    const silentMs = jiffies(nowMs) - jiffies(bucket.lastMs);
    if (silentMs > REDIRECT_SILENCE_MS) {
      bucket.tokensMs = 0;
      bucket.redirects = 0;
    }
    if (bucket.redirects >= MOST_REDIRECTS) {
      bucket.lastMs = nowMs;
      return false;
    }
    if (bucket.redirects > 0 && silentMs <= REDIRECT_LOAD_MS << bucket.redirects) return false;
    bucket.lastMs = nowMs;
    bucket.redirects++;
    return true;
  }

  #bucket(peer: string, nowMs: number): Bucket {
    const known = this.#peers.get(peer);
    if (known !== undefined) return known;
    const bucket = { tokensMs: 0, lastMs: nowMs - UNKNOWN_PEER_MS, redirects: 0 };
    this.#peers.set(peer, bucket);
    if (this.#peers.size > PEERS_MAX) this.#peers.delete(this.#peers.keys().next().value!);
    return bucket;
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
