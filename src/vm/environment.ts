/**
 * The world around a program: everything that a helper asks of the host. All of it is injected, so that a run is a
 * function of its inputs. What an environment leaves out answers as an empty system would.
 */
import type { KernelObject } from './kernel-objects.ts';
import type { Packet } from './packet.ts';

/** The part of `struct bpf_fib_lookup` that a route decides on. */
export interface FibRequest {
  readonly family: 'ipv4' | 'ipv6';
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Network order. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly totalLength: number;
  readonly tos: number;
  readonly ifindex: number;
  readonly flags: number;
}

/** Answer to a route look-up; `code` is one of BPF_FIB_LKUP_RET_*. */
export interface FibResult {
  readonly code: number;
  readonly ifindex?: number;
  readonly mtu?: number;
  readonly metric?: number;
  readonly gateway?: Uint8Array;
  readonly gatewayFamily?: 'ipv4' | 'ipv6';
  /** What this host sends from towards the destination: told when BPF_FIB_LOOKUP_SRC asks. */
  readonly sourceAddress?: Uint8Array;
  readonly sourceMac?: Uint8Array;
  readonly destinationMac?: Uint8Array;
}

/** A five-tuple as helpers give it: remote end as the packet's source. Addresses in network order. */
export interface TupleRequest {
  readonly protocol: number;
  readonly sourceAddress: Uint8Array;
  readonly destinationAddress: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Namespace id; -1 for the packet's own. */
  readonly netns: number;
  readonly flags: bigint;
}

export interface Environment {
  /** Cookie of the namespace that the program runs for. */
  netnsCookie?(): bigint;
  fibLookup?(request: FibRequest): FibResult;
  /** A listening, connected or bound socket, as a `sock` object. */
  lookupSocket?(request: TupleRequest): KernelObject | undefined;
  /** bpf_sk_assign at tc: 0 or a negative error number. */
  assignSocket?(socket: number, flags: number): number;
  /** A connection that the tuple belongs to, as an `nf_conn` object, and on which side of it the sender is. */
  lookupConnection?(
    request: TupleRequest,
  ): { readonly connection: KernelObject; readonly direction: 'original' | 'reply' } | undefined;
  socketCookie?(): bigint;
  socketUid?(): number;
  /** Sends a copy of the packet; 0 or a negative error number. */
  cloneRedirect?(packet: Packet, ifindex: number, flags: number): number;
  perfEvent?(map: string, cpu: number, data: Uint8Array): void;
  trace?(text: string): void;
}

/** Where bpf_redirect sends the packet after the program. */
export interface Redirection {
  readonly ifindex: number;
  readonly flags: number;
}
