/**
 * The socket arena: what the sk_lookup program, user space and the netstack share. Written up in docs/sklookup.md.
 *
 * All numbers are little endian. A *pointer* is the low half of a user address: in the kernel, where arenas lie at
 * multiples of 4 GiB, the offset in the arena; in a virtual machine the address in its memory.
 */

/** "SLUS", first word of the arena. */
export const SOCKET_ARENA_MAGIC = 0x53554c53;
/** "SLSG", first word of a generation. */
export const BINDING_SET_MAGIC = 0x47534c53;
/** Changes whenever a program built for the old layout could misread the new one. */
export const SOCKET_LAYOUT_VERSION = 3;

/** Header at offset 0. */
export const SocketArena = {
  magic: 0,
  version: 4,
  /** u32 pointer to the generation that answers; 0: none, all pass. Storing it swaps the whole set of bindings. */
  root: 8,
  /** u32 inode of the network namespace */
  netnsInode: 12,
  /** u64 cookie of the network namespace */
  netnsCookie: 16,
  /** char[64] what the namespace was called when it was loaded */
  netnsName: 24,
  /** u32 1: a change is under way, or was ended in its middle; programs do not read it */
  unsettled: 88,
} as const;

/** Destinations: a label's sockets of one protocol and family, 128 bytes each. */
export const DESTINATIONS_OFFSET = 0x1000;
export const MAX_DESTINATIONS = 4096;
export const DESTINATION_SIZE = 128;
export const Destination = {
  /** u32 pointer to the members, 0 for none. With `flags` one aligned u64: storing it changes both at once. */
  members: 0,
  /** u32 of {@link DestinationFlag} */
  flags: 4,
  /** u8 IPPROTO_TCP or IPPROTO_UDP; 0: this place is free */
  protocol: 8,
  /** u8 AF_INET or AF_INET6: the family of the packets */
  family: 9,
  /** u32 bindings that name it; programs do not read it */
  bindings: 12,
  /** char[64] the label, ended by NUL */
  label: 16,
} as const;
export const DestinationFlag = {
  /** Without a live socket the packet goes on to the ordinary look-up; otherwise it is dropped. */
  PASS_WHEN_EMPTY: 1,
  /** UDP flows stay with the socket that they met first. */
  KEEP_FLOWS: 2,
} as const;

/** Slots of the socket map, 8 bytes each: u32 epoch (changes when the slot gets another socket), u32 destination + 1. */
export const SLOTS_OFFSET: number = DESTINATIONS_OFFSET + MAX_DESTINATIONS * DESTINATION_SIZE;
export const MAX_SLOTS = 16_384;
export const SLOT_SIZE = 8;

/** Members of a destination: two blocks each, used in turn. */
export const MEMBERS_OFFSET: number = SLOTS_OFFSET + MAX_SLOTS * SLOT_SIZE;
export const MAX_MEMBERS = 64;
/** Places of the table that spreads flows over several members; a prime. */
export const SPREAD_PLACES = 4093;
export const Members = {
  /** u32 places in the table: 0 (no active member), 1, or {@link SPREAD_PLACES} */
  places: 0,
  /** u32 members, draining ones included */
  count: 4,
  /** The members, {@link Member} each. */
  list: 16,
  /** u16 slot for each place */
  table: 0x810,
} as const;
export const MEMBER_SIZE = 32;
export const Member = {
  /** u32 */
  slot: 0,
  /** u32 0: draining */
  weight: 4,
  /** u16 local port when it was registered, host order */
  port: 8,
  /** u16 AF_INET or AF_INET6 */
  family: 10,
  /** u8[16] local address when it was registered */
  address: 16,
} as const;
export const MEMBERS_SIZE = 0x3000;

/** Generations lie from here on, each one contiguous extent at a multiple of 4,096. */
export const GENERATIONS_OFFSET: number = alignUp(MEMBERS_OFFSET + 2 * MAX_DESTINATIONS * MEMBERS_SIZE, 4096);

/** A generation's header. */
export const BindingSet = {
  magic: 0,
  version: 4,
  /** u64 counts up with each change */
  number: 8,
  /** u32 size of the extent; bindings that come one by one are appended */
  size: 16,
  /** u32 bindings in it */
  bindings: 20,
  /** u32[4] {@link PrefixTable}s: TCP over IPv4, UDP over IPv4, TCP over IPv6, UDP over IPv6; 0: nothing bound */
  tables: 24,
  /** u32 pointer to the lines that say the labels' options, and their bytes */
  labels: 40,
  labelBytes: 44,
} as const;
export const BINDING_SET_HEADER = 64;

/** Bindings of one protocol and family, by their destination prefix. */
export const PrefixTable = {
  /** u32 pointer to the {@link PrefixLength} of the longest prefixes, 0 for none */
  first: 0,
  /** u32 pointer to u32[65,536]: which lengths occur near an address, see {@link PrefixLength.region}; 0: any may */
  regions: 4,
  /** u32 0: IPv4, 1: IPv6 */
  wide: 8,
  /** A {@link PrefixLength} for every length from 0 on. */
  lengths: 64,
} as const;

/**
 * The prefixes of one length, in blocks of up to 64 neighbours: a hash table of blocks with linear probing, at most three
 * quarters full, its last slot empty.
 */
export const PrefixLength = {
  /** u32 pointer to the next shorter length that occurs, 0 for none */
  next: 0,
  /** u32 the bit of a region's word that says that this length may occur there; {@link ANY_REGION} for short ones */
  region: 4,
  /** u32 pointer to the slots; with `places` one aligned u64, so that a bigger table replaces one by one store */
  slots: 8,
  /** u32 slots that a hash can name; {@link SPARE_SLOTS} follow them */
  places: 12,
  /** u64 each: the mask of a block, as {@link KEY} says addresses */
  maskHigh: 16,
  maskLow: 24,
  /** u32 as {@link PrefixTable.wide} */
  wide: 32,
  /** u32 slots that are or were in use; programs do not read it */
  used: 36,
  /** u32 bits behind the prefix in its half of the address; its last bits, shifted and masked, are its place in the block */
  shift: 40,
  /** u32 each: the mask of a place, of the half that prefixes end in; the other half's is 0 */
  placeHigh: 44,
  placeLow: 48,
  /** u32 pointer to the record that most blocks have, 0 for none: what follows need not wait for a slot that says it */
  usual: 52,
} as const;
export const PREFIX_LENGTH_SIZE = 64;
export const SPARE_SLOTS = 256;

/** Prefixes in a block differ in this many of their last bits; an IPv6 block lies within one half of the address. */
export const BLOCK_BITS = 6;
export const BLOCK_PLACES: number = 2 ** BLOCK_BITS;
/** A slot, IPv4: u32 the block's address; u32 what is bound, 0 ends a search; u64 which neighbours are bound. */
export const NarrowSlot = { block: 0, record: 4, bound: 8 } as const;
export const NARROW_SLOT_SIZE = 16;
/** A slot, IPv6. */
export const WideSlot = { high: 0, low: 8, bound: 16, record: 24 } as const;
export const WIDE_SLOT_SIZE = 32;
/**
 * A slot's `record` is a pointer to the first record of all that are bound; or, with this bit, to u32[64]: the first record
 * of each neighbour, 0 if it is not bound, and `bound` means nothing.
 */
export const EACH = 1;

/** Regions: IPv4 by the upper 16 bits, IPv6 by a hash of the upper 48. Shorter prefixes are in {@link ANY_REGION}. */
export const REGIONS = 65_536;
export const REGION_LENGTH = { ipv4: 16, ipv6: 48 } as const;
export const ANY_REGION = 0x8000_0000;

/** The bit of lengths that are not shorter than a region; several share one, which costs a search in vain at worst. */
export function regionBit(length: number): number {
  return 2 ** (length % 31);
}

/** Multipliers of {@link hashWords} (from Murmur3's mixing and finalizer). */
export const HASH_WORD = 0x9e3779b1;
export const HASH_LAST = 0x85ebca6b;

/** Kinds and conditions of a record, in its first word. */
export const RecordFlag = {
  /** Continues with what a search tree gives; else the record is a binding. */
  SEARCH: 1,
  SOURCE: 2,
  DEVICE: 4,
  REMOTE_PORT: 8,
  /** Matches nothing; `next` is a search, and `all` the list of what it finds among: for people who ask. */
  GROUP: 16,
} as const;
/** A binding. Without SOURCE, DEVICE and REMOTE_PORT it ends after 32 bytes, else after 64. */
export const BindingRecord = {
  flags: 0,
  /** u32 pointer to the record to go on with when this one does not match; 0: on to the next shorter prefix */
  next: 4,
  /** u16 first and last port */
  portMin: 8,
  portMax: 10,
  /** u32 index of the destination */
  destination: 12,
  /** u32 pointer to u16[16], the device's name in UTF-16; of a GROUP, pointer to the first record of its list */
  deviceName: 16,
  all: 16,
  ifindex: 20,
  remotePort: 24,
  /** u64 value and mask of the source's upper and lower half, as {@link KEY} says them */
  sourceHigh: 32,
  maskHigh: 40,
  sourceLow: 48,
  maskLow: 56,
} as const;
export const DEVICE_NAME_BYTES = 32;
export const SMALL_RECORD = 32;
export const RECORD = 64;

/** A search: the interval that a key lies in names the next record. */
export const SearchRecord = {
  flags: 0,
  /** u32 byte offset of the key among the packet's keys, see {@link KEY} */
  key: 4,
  levels: 8,
  /** u32 pointer to the values: u32 pointers to records, 0 for nothing */
  values: 12,
  /** u32 pointers to the levels of the tree, the topmost first */
  level: 16,
} as const;
/** Separators of one tree node: u64 each; 1.. of them are the last key of the interval before. */
export const FANOUT = 16;
export const NODE_SIZE: number = FANOUT * 8;
export const MAX_LEVELS = 7;

/** The keys of a packet, u64 each in this order. Addresses: IPv4 as a number, IPv6 in halves; ports in host order. */
export const KEY = {
  localHigh: 0,
  localLow: 8,
  remoteHigh: 16,
  remoteLow: 24,
  localPort: 32,
  remotePort: 40,
  ifindex: 48,
} as const;
export type KeyName = keyof typeof KEY;
export const KEY_BYTES = 56;

/**
 * Counters of a destination (and, at index 0 of the map, of what no binding took): u64 each, one line of a cache;
 * destination i is at i + 1. Each look-up counts once in one of them, `keptFlows` apart.
 */
export const Metric = {
  assigned: 0,
  /** No live socket. At index 0: no binding. */
  misses: 8,
  /** Of `assigned`, those that a kept flow decided. */
  keptFlows: 16,
  /** The socket is of another protocol, or family. */
  wrongProtocol: 24,
  wrongFamily: 32,
  /** The socket no longer listens, or has been connected. */
  wrongState: 40,
  /** Another program had chosen a socket before; its choice stands. */
  taken: 48,
  otherError: 56,
} as const;
export type MetricName = keyof typeof Metric;
export const METRIC_BYTES = 64;

/** A kept UDP flow. */
export const FlowKey = {
  remote: 0,
  local: 16,
  /** u16 each, host order */
  remotePort: 32,
  localPort: 34,
  destination: 36,
} as const;
export const FLOW_KEY_BYTES = 40;
export const FlowValue = {
  slot: 0,
  epoch: 4,
  /** u64 bpf_ktime_get_ns of the last datagram */
  seenNs: 8,
} as const;
export const FLOW_VALUE_BYTES = 16;
/** A flow that has been silent for so long is a new one (as conntrack's udp_timeout_stream). */
export const FLOW_IDLE_NS = 120_000_000_000;

/** Names by which the program refers to its objects. */
export const SOCKET_ARENA = 'arena';
export const SOCKETS_MAP = 'sockets';
export const METRICS_MAP = 'metrics';
export const FLOWS_MAP = 'flows';

export function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** Position of a table in {@link BindingSet.tables}. */
export function tableIndex(protocol: 'tcp' | 'udp', family: 'ipv4' | 'ipv6'): number {
  return (protocol === 'udp' ? 1 : 0) + (family === 'ipv6' ? 2 : 0);
}
