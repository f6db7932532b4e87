/** What happens to a packet on its path, station by station: for explanations, replays and tests. */
import type { Tracking } from '../conntrack/tracking.ts';
import type { DiscardReason } from '../defrag/trace.ts';
import type { IcmpError } from '../icmp-error.ts';
import type { InputDrop } from '../input/ipv4.ts';
import type { FibFault } from './fib.ts';

/** Why the stack itself gave a packet up. */
export type PathDrop =
  | InputDrop
  | FibFault
  /** A hook function said so; what it was is for that function to tell. */
  | 'netfilter'
  | 'xdp'
  | 'tc'
  | 'hop-limit'
  | 'too-big'
  /** A frame that was sent to many is not handed on; an IPv6 source that may not leave its link. */
  | 'not-forwarded'
  | 'conntrack-full'
  | 'conntrack-clash'
  | 'no-listener'
  /** The extension headers, or the datagram they belong to, were refused. */
  | 'extension-headers'
  | 'reassembly'
  | 'malformed';

export type PathEvent =
  | { readonly kind: 'received'; readonly device: string }
  | {
      readonly kind: 'program';
      readonly where: 'xdp' | 'tc-ingress' | 'tc-egress' | 'netfilter';
      readonly name: string;
      readonly verdict: number;
      /** Of a netfilter link: NF_INET_*. */
      readonly hook?: number;
    }
  /** What follows is about another packet: an answer of this host, or one that came back by lo. */
  | { readonly kind: 'consequence' }
  | { readonly kind: 'held' }
  | { readonly kind: 'reassembled'; readonly length: number; readonly fragments: number }
  | { readonly kind: 'conntrack'; readonly tracking: Tracking }
  | { readonly kind: 'routed'; readonly to: 'local' | 'forward' | 'out'; readonly outDevice: string }
  | { readonly kind: 'fragmented'; readonly pieces: number }
  | { readonly kind: 'icmp-error'; readonly error: IcmpError; readonly sent: boolean }
  | { readonly kind: 'delivered'; readonly protocol: number }
  | { readonly kind: 'transmitted'; readonly device: string; readonly bytes: Uint8Array }
  | {
      readonly kind: 'dropped';
      readonly reason: PathDrop;
      /** Why reassembly gave fragments up. */
      readonly discard?: DiscardReason;
    };

export type PathTrace = (event: PathEvent) => void;
