/**
 * Predicates: what the conditions of a rule lower to, and what a backend compiles.
 *
 * A predicate has three outcomes: true, false, and *hotdrop* (the packet is dropped at once: the kernel's
 * `xt_action_param.hotdrop`, net/ipv4/netfilter/ip_tables.c). Hotdrop comes from {@link TransportPredicate},
 * {@link TcpOptionPredicate}, {@link SctpChunksPredicate} and {@link ExtensionHeaderPredicate} only, and every combinator passes it on as soon as it meets it, left to right.
 * A rule's predicates are evaluated in order and stop at the first that is not true: stateful ones (limit,
 * statistic) must not be reordered before others, nor evaluated when an earlier one failed.
 */

/**
 * Scalar packet fields, unsigned. Widths in bits stand beside each name.
 *
 * - `ip.protocol` IPv4 protocol, or for IPv6 the transport protocol at the end of the extension chain
 * - `ip.fragmentOffset` IPv4 and IPv6: offset field in units of 8 bytes; 0 in first fragments and whole packets
 * - `ip.length` IPv4 total length; IPv6 payload length + 40
 * - `ip.tos` the IPv4 TOS byte or IPv6 traffic class; `ip.ttl` TTL or hop limit
 * - `l4.sourcePort`, `l4.destinationPort` host order, first 4 bytes of the transport header
 * - `tcp.flags` byte 13 of the TCP header; `icmp.type`, `icmp.code` bytes 0 and 1 of ICMP or ICMPv6
 * - `esp.spi`, `ah.spi`, `ah.reserved` as their headers have them, host order; `ah.length` the header's length in bytes
 * - `frag.id` host order; `frag.more` the M flag; `frag.reserved` the reserved bits where they lie in the header's first four
 *   bytes, host order: the second byte, and the two bits beside the M flag
 * - `meta.mark` skb->mark; `meta.packetType` PACKET_HOST 0, BROADCAST 1, MULTICAST 2
 * - `ct.state` one bit: the bits of {@link CtStateBit}; `ct.status` the kernel's IPS_* bits;
 *   `ct.direction` 0 original, 1 reply; `ct.mark`; `ct.expires` seconds left
 */
export const SCALAR_WIDTH = {
  'ip.protocol': 8,
  'ip.fragmentOffset': 13,
  'ip.length': 16,
  'ip.tos': 8,
  'ip.ttl': 8,
  'l4.sourcePort': 16,
  'l4.destinationPort': 16,
  'tcp.flags': 8,
  'icmp.type': 8,
  'icmp.code': 8,
  'esp.spi': 32,
  'ah.spi': 32,
  'ah.length': 11,
  'ah.reserved': 16,
  'frag.id': 32,
  'frag.length': 16,
  'frag.reserved': 24,
  'frag.more': 1,
  'meta.mark': 32,
  'meta.packetType': 3,
  'ct.state': 16,
  'ct.status': 32,
  'ct.direction': 1,
  'ct.mark': 32,
  'ct.expires': 32,
  'ct.protocol': 8,
  'ct.originalSourcePort': 16,
  'ct.originalDestinationPort': 16,
  'ct.replySourcePort': 16,
  'ct.replyDestinationPort': 16,
} as const;
export type ScalarField = keyof typeof SCALAR_WIDTH;

/** Bits of `ct.state`; the values of xt_conntrack (XT_CONNTRACK_STATE_*), one of the low five plus SNAT and DNAT. */
export const CtStateBit = {
  INVALID: 1,
  ESTABLISHED: 2,
  RELATED: 4,
  NEW: 8,
  SNAT: 0x40,
  DNAT: 0x80,
  UNTRACKED: 0x100,
} as const;

/** Inclusive, unsigned, min <= max. */
export type ScalarRange = readonly [min: number, max: number];

/** `((field & mask) in any of ranges) xor negate`. Reading a transport field needs a {@link TransportPredicate} before it. */
export interface ScalarPredicate {
  readonly kind: 'scalar';
  readonly field: ScalarField;
  readonly mask: number;
  readonly ranges: readonly ScalarRange[];
  readonly negate: boolean;
}

export type AddressField =
  | 'ip.source'
  | 'ip.destination'
  | 'ct.originalSource'
  | 'ct.originalDestination'
  | 'ct.replySource'
  | 'ct.replyDestination';

/** `((address & mask) == value) xor negate`; 4 or 16 bytes in network order; masks need not be contiguous. */
export interface AddressPredicate {
  readonly kind: 'address';
  readonly field: AddressField;
  readonly value: Uint8Array;
  readonly mask: Uint8Array;
  readonly negate: boolean;
}

/** `(min <= address <= max) xor negate`, compared in network order. */
export interface AddressRangePredicate {
  readonly kind: 'address-range';
  readonly field: AddressField;
  readonly min: Uint8Array;
  readonly max: Uint8Array;
  readonly negate: boolean;
}

/** Device name: exact, or a prefix when `wildcard` ("eth+"). A missing device has the empty name. */
export interface DevicePredicate {
  readonly kind: 'device';
  readonly side: 'in' | 'out';
  readonly name: string;
  readonly wildcard: boolean;
  readonly negate: boolean;
}

/**
 * The transport header is there: false on a later fragment, hotdrop when fewer than `minimumBytes` follow the
 * IP header (and, for TCP, also when the fragment offset is exactly 1: xt_tcpudp.c tcp_mt).
 */
export interface TransportPredicate {
  readonly kind: 'transport';
  readonly minimumBytes: number;
  /** Drop packets of fragment offset 1 (8 bytes), as tcp_mt does. */
  readonly dropOffsetOne: boolean;
  /** What a missing header means: hotdrop (tcp, udp, icmp, …), or simply no match (e.g. `esp` on later kernels keeps hotdrop too). */
  readonly onShort: 'hotdrop' | 'false';
}

/** A TCP option of this kind is among the header's options (hotdrop when they are cut short); xor negate. */
export interface TcpOptionPredicate {
  readonly kind: 'tcp-option';
  readonly option: number;
  readonly negate: boolean;
}

/**
 * SCTP chunk conditions (xt_sctp.c match_packet). A chunk of length 0, or one cut short, is hotdrop; with `negate` the
 * rule still counts the packet and runs its target before it is dropped.
 * `chunkMap` is 256 bits; flag triples compare (flags & mask) == value. Hotdrop when a chunk's head is cut short or its length 0. */
export interface SctpChunksPredicate {
  readonly kind: 'sctp-chunks';
  readonly match: 'any' | 'all' | 'only';
  readonly chunkMap: Uint8Array;
  readonly flags: readonly { readonly chunk: number; readonly mask: number; readonly value: number }[];
  readonly negate: boolean;
}

/** FIB address type: bit 1 << RTN_x of the type is in `types`; with `limitTo`, local means local to that device. xor negate. */
export interface AddressTypePredicate {
  readonly kind: 'address-type';
  readonly field: 'ip.source' | 'ip.destination';
  readonly types: number;
  readonly limitTo: 'in' | 'out' | 'none';
  readonly negate: boolean;
}

/** Source MAC address of the Ethernet header; false where there is none; xor negate. */
export interface MacSourcePredicate {
  readonly kind: 'mac-source';
  readonly address: Uint8Array;
  readonly negate: boolean;
}

/**
 * IPv6 only: an extension header of this protocol number is in the chain (frag, ah, …), else false. Hotdrop when the
 * chain is cut short before it is found, when fewer than `minimumBytes` bytes of it are there (ipv6_find_hdr), or when
 * `whole` and fewer are there than its own length field says (ip6t_ah; checked on Linux 6.18).
 * The fields `ah.*` and `frag.*` read the header that was found.
 */
export interface ExtensionHeaderPredicate {
  readonly kind: 'extension-header';
  readonly protocol: number;
  readonly minimumBytes: number;
  readonly whole?: true;
}

/** Token bucket of xt_limit: every packet costs `cost`, credit grows by CREDITS_PER_JIFFY up to `cap`; starts full. */
export interface LimitPredicate {
  readonly kind: 'limit';
  readonly cost: number;
  readonly cap: number;
}

/** xt_statistic: random: (prandom_u32 >> 1) < probability; nth: a counter shared by all CPUs. xor negate. */
export interface StatisticPredicate {
  readonly kind: 'statistic';
  readonly mode:
    | { readonly kind: 'random'; readonly probability: number }
    | { readonly kind: 'nth'; readonly every: number; readonly packet: number };
  readonly negate: boolean;
}

/** Where a word of a set's key comes from; `lengths` stands where the prefix lengths of its networks are. */
export type SetKeySource =
  | {
      readonly from: 'ip.source' | 'ip.destination' | 'in' | 'out' | 'mac.source' | 'mac.destination';
      readonly word: number;
    }
  /** Port and protocol of the side, or none: then the set has nothing for the packet. */
  | { readonly from: 'port.source' | 'port.destination'; readonly word: 0 }
  /** The same of TCP and UDP only. */
  | { readonly from: 'tcp-port.source' | 'tcp-port.destination'; readonly word: 0 }
  | { readonly from: 'mark'; readonly word: 0 }
  | { readonly from: 'lengths'; readonly word: 0 };

/** What of a packet is looked up in the set whose record has this number. */
export interface SetKey {
  readonly slot: number;
  /** In the order of the key's words; networks first. */
  readonly words: readonly SetKeySource[];
  /** The first so many tell entries apart; those behind them are the MAC address that entries of the set hold. */
  readonly identity: number;
  readonly networks: 0 | 1 | 2;
}

/** Comparison of an entry's counter, after the packet has been counted. */
export interface SetCounterCondition {
  readonly compare: 'eq' | 'ne' | 'lt' | 'gt';
  readonly value: bigint;
}

/** The packet's key is in the set (xt_set.c, ip_set_test), xor negate. A part that the packet lacks: it is not. */
export interface SetPredicate {
  readonly kind: 'set';
  readonly key: SetKey;
  /** An entry marked nomatch is what is looked for. */
  readonly returnNoMatch: boolean;
  readonly keepCounters: boolean;
  readonly packets: SetCounterCondition | undefined;
  readonly bytes: SetCounterCondition | undefined;
  readonly negate: boolean;
}

/** Conjunction or disjunction, left to right, stopping as soon as the outcome is known. */
export interface CombinedPredicate {
  readonly kind: 'all' | 'any';
  readonly of: readonly Predicate[];
}

export interface NotPredicate {
  readonly kind: 'not';
  readonly of: Predicate;
}

export type Predicate =
  | ScalarPredicate
  | AddressPredicate
  | AddressRangePredicate
  | DevicePredicate
  | TransportPredicate
  | TcpOptionPredicate
  | SctpChunksPredicate
  | AddressTypePredicate
  | MacSourcePredicate
  | ExtensionHeaderPredicate
  | LimitPredicate
  | StatisticPredicate
  | SetPredicate
  | CombinedPredicate
  | NotPredicate;
