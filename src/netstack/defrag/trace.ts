/** What reassembly did, for reports and explanations. */
import type { SkBuff } from '../skb.ts';

/** Why a fragment, or a datagram with all its fragments, was given up. */
export type DiscardReason =
  /** Memory over the threshold, or the namespace is going. */
  | 'memory'
  /** Two ends, or bytes beyond the end. */
  | 'mismatch'
  /** A fragment without payload. */
  | 'empty'
  /** Not a multiple of 8 bytes though more are to come (IPv6). */
  | 'unaligned'
  /** Reaches beyond byte 65535. */
  | 'beyond-end'
  /** Crosses a fragment that came before (RFC 5722). */
  | 'overlap'
  /** Its range was there before; the datagram lives on. */
  | 'duplicate'
  /** ECN codepoints that no sender mixes (RFC 3168 §5.3). */
  | 'ecn'
  /** Whole, but longer than 65535 bytes. */
  | 'oversize'
  /** Too many fragments of the same source in between (ipfrag_max_dist). */
  | 'too-far'
  /** Not complete in time. */
  | 'timeout'
  /** First fragment without all headers (RFC 7112). */
  | 'incomplete-header'
  /** Fragment header truncated, nested, or in a jumbogram. */
  | 'header';

/** One event. `queueKept` tells whether the datagram can still complete. */
export type DefragEvent =
  | { readonly kind: 'queued'; readonly skb: SkBuff }
  | { readonly kind: 'completed'; readonly skb: SkBuff; readonly fragments: number }
  | {
      readonly kind: 'discarded';
      readonly reason: DiscardReason;
      /** The fragment that brought it about; for a timeout the first one, when it had come. */
      readonly skb: SkBuff | undefined;
      readonly queueKept: boolean;
      /** Fragments that were stored and are gone now, this one not counted. */
      readonly stored: number;
      /** Key of the queue, when there was one: tells events of one datagram together. */
      readonly key: string | undefined;
    };

export type DefragTrace = (event: DefragEvent) => void;
