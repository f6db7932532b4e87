/** What a translation may choose from. Source: uapi/linux/netfilter/nf_nat.h (struct nf_nat_range2). */
export interface NatRange {
  /** Inclusive, network order; absent: the address stays (no NF_NAT_RANGE_MAP_IPS). */
  readonly addresses?: { readonly min: Uint8Array; readonly max: Uint8Array } | undefined;
  /** Inclusive, host order; ICMP identifiers for ICMP. Absent: the port stays where it can. */
  readonly ports?:
    | {
        readonly min: number;
        readonly max: number;
        /** NF_NAT_RANGE_PROTO_OFFSET: this destination port becomes `min`, the others follow in order. */
        readonly base: number | undefined;
      }
    | undefined;
  /** NF_NAT_RANGE_PROTO_RANDOM and _RANDOM_FULLY: what is chosen depends on chance. */
  readonly random?: boolean;
  readonly randomFully?: boolean;
  /** NF_NAT_RANGE_PERSISTENT: a client gets the same address whomever it speaks to. */
  readonly persistent?: boolean;
}

/** Which end of a connection is changed, seen from its first packet. */
export type Manip = 'source' | 'destination';

/** True when the kernel asks its random generator in any case. */
export function isRandom(range: NatRange): boolean {
  return range.random === true || range.randomFully === true;
}
