/**
 * What a protocol's tracker makes of a packet of a known or new connection:
 * `accept` part of it; `invalid` (the packet goes on as INVALID); `drop`;
 * `repeat` the connection was removed, look again so that a new one is made.
 */
export type TrackOutcome = 'accept' | 'invalid' | 'drop' | 'repeat';

/** What trackers may ask of the table. */
export interface TableAccess {
  /** Milliseconds, monotonic, in steps of a jiffy (4 ms at HZ=250). */
  readonly nowMs: number;
  /** Takes the entry out of the table (nf_ct_kill). */
  remove(): void;
  /** nf_ct_refresh_acct(): the packet counts, and the entry now lives this long. */
  refresh(timeoutMs: number): void;
  /** The entry now lives this long; the packet does not count. */
  shorten(timeoutMs: number): void;
  /** nf_ct_acct_update(): the packet counts. */
  count(): void;
}
