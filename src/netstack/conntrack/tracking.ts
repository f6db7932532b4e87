import { type Direction, type Entry, IPS } from './entry.ts';
import type { Tuple } from './tuple.ts';

/** What a rule can match of a packet's connection (`--ctstate`; `skb->_nfct` and its ctinfo). */
export type TrackingState = 'NEW' | 'ESTABLISHED' | 'RELATED' | 'INVALID' | 'UNTRACKED';

const NOWHERE: Tuple = {
  family: 'ipv4',
  protocol: 0,
  source: new Uint8Array(4),
  destination: new Uint8Array(4),
  sourcePort: 0,
  destinationPort: 0,
};

const NOTHING_SEEN: Entry['accounting'] = {
  original: { packets: 0, bytes: 0 },
  reply: { packets: 0, bytes: 0 },
};

/**
 * What conntrack said of one packet. It is live: status, mark and expiry are those of the connection at the time of
 * asking. INVALID and UNTRACKED packets have no connection; their status is 0 and their tuples are empty.
 */
export class Tracking {
  readonly state: TrackingState;
  readonly direction: Direction;
  readonly connection: Entry | undefined;
  readonly #nowMs: () => number;

  constructor(state: TrackingState, direction: Direction, entry: Entry | undefined, nowMs: () => number) {
    this.state = state;
    this.direction = direction;
    this.connection = entry;
    this.#nowMs = nowMs;
  }

  get status(): number {
    return this.connection?.status ?? 0;
  }

  get mark(): number {
    return this.connection?.mark ?? 0;
  }

  get zone(): number {
    return this.connection?.zone ?? 0;
  }

  get accounting(): Entry['accounting'] {
    return this.connection?.accounting ?? NOTHING_SEEN;
  }

  /** nf_ct_expires() in whole seconds; what an unconfirmed connection will live. */
  get expiresSec(): number {
    if (this.connection === undefined) return 0;
    const { timeoutMs, status } = this.connection;
    const leftMs = (status & IPS.CONFIRMED) === 0 ? timeoutMs : timeoutMs - this.#nowMs();
    return Math.max(0, Math.floor(leftMs / 1000));
  }

  get original(): Tuple {
    return this.connection?.original ?? NOWHERE;
  }

  get reply(): Tuple {
    return this.connection?.reply ?? NOWHERE;
  }
}
