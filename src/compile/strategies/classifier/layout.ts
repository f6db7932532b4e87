/**
 * Layout of the classifier's tables, what `Generation.tables` points to. Little endian; pointers are arena offsets.
 *
 * Header -> entry (attach point and family) -> lists of chains -> chain: its rules, and how to find those that fit.
 *
 * Chains are named by number; the header's table says where each lies. A chain is a list of *parts*, one behind the other:
 * rules from one place to another among records, with what finds those that fit. Parts may share records and all that
 * finds them, so that a chain whose middle has changed is its old tables in two parts, with a new part between. So a
 * generation with one chain changed shares all else with the one before.
 *
 * A *vector* names a set of a chain's rules, as bits in three levels; words without a bit are left out at every level, so
 * the place of what is there is the rank of its bit in the level above:
 *
 * - vector: u64 blocks that are there, then a u32 pointer to each
 * - block of 4,096 rules: u64 words that are there, then the u64 words
 *
 * A set of one rule has no vector: its number, shifted left by two, with tag 2, stands where a vector's pointer would.
 *
 * A *trie* turns an address into a vector. A cell is 0 (the empty vector), a vector or a single rule, a node's pointer
 * (tag 1), or the pointer of a comparison (tag 3): first and last address, then the cells inside and outside. The root
 * is an array of 2^rootBits cells; a node is one of 2^8, for the next eight bits. For IPv4 a comparison has the first
 * address and how many come after it instead, and there are searches (tag 7), a line of memory that is searched without
 * branches: seven addresses in ascending order, and the eight cells for what is above none to all of them.
 *
 * A *service* turns numbers (ports, protocol, state, ...) into a vector: for each of its fields a class by a page table,
 * and the classes folded into one number by a table for each field after the first.
 */

/** "SLUC", first word of the tables. */
export const TABLES_MAGIC = 0x43554c53;
export const TABLES_VERSION = 4;

export const TablesHeader = {
  magic: 0,
  version: 4,
  /** u32 pointer to u32 pointers to each {@link Chain}'s first part, by number; number 0 is none */
  chains: 8,
  /** u32 how many, number 0 included */
  chainCount: 12,
  /** u32 bits of the packet's mark that any rule changes, and u32 1: some rule sets it whole (actions/handed.ts) */
  markBits: 16,
  markWhole: 20,
  /** u8[64]: place of a word's only bit, by its product with {@link DE_BRUIJN} shifted right by 58 */
  bitPlaces: 64,
  /** u32[128]: {@link Entry} by attach point place * 2 + (ipv6 ? 1 : 0); 0: no chains */
  entries: 128,
} as const;
export const ENTRY_LISTS = 128;
export const TABLES_HEADER_SIZE: number = TablesHeader.entries + ENTRY_LISTS * 4;

export const DE_BRUIJN = 0x03f79d71b4cb0a89n;

/** The low two bits of a cell, of a search's three. */
export const CellTag = { vector: 0, node: 1, single: 2, comparison: 3, search: 7 } as const;
export const CELL_TAGS = 3;
export const SINGLE_SHIFT = 2;

/** An IPv4 search: u32 addresses, those behind the last all ones; then u32 cells, one more than addresses. */
export const SEARCH_KEYS = 7;
export const SEARCH_SIZE = 64;

/** Bits of an address that a node of a trie takes. */
export const NODE_BITS = 8;

/** What one attach point runs for one family. */
export const Entry = {
  /** u32 {@link Need} bits */
  needs: 0,
  /** u32 lists of u32 numbers of chains, each ended by 0 */
  before: 4,
  local: 8,
  forward: 12,
  /** u8[256]: by protocol, the least transport bytes with which no rule's header is cut short */
  headerBytes: 16,
  /** u32 {@link ProgramFeature} bits: what the entry's program can do that not every one can */
  features: 272,
} as const;
export const ENTRY_SIZE = 276;

/** What programs leave out where no rule asks for it, because it is long. */
export const ProgramFeature = {
  looksUpSets: 1,
  changesSets: 2,
} as const;

/** Facts that cost something to find, and that not every ruleset asks for. */
export const Need = {
  devices: 1,
  mac: 2,
  connection: 4,
  mark: 8,
  tcpFlags: 16,
  /** Ports, ICMP type and code. */
  ports: 64,
  /** The routing decision: chains for packets to other hosts. */
  route: 32,
} as const;

export const ChainKind = { linear: 0, vectors: 1 } as const;

/** Services that a chain can have: more than one when their product would be too large. */
export const CHAIN_SERVICES = 2;

/** A part of a chain. The chain's policy is that of its first part. */
export const Chain = {
  /** u32 {@link ChainKind} */
  kind: 0,
  /** u32 behind the last of the records that are the part's */
  count: 4,
  /** u32 records. Parts of vectors with the same records have the same vectors */
  rules: 8,
  /** u32 {@link PolicyVerdict}, and byte offset of the policy's counter */
  policy: 12,
  policyCounter: 16,
  /** u32 tries, 0 where no rule asks for the address; root bits */
  source: 20,
  sourceBits: 24,
  destination: 28,
  destinationBits: 32,
  /** u32[CHAIN_SERVICES] services, 0 where there is none */
  services: 36,
  /** u32 the next part; 0: the chain ends */
  next: 44,
  /** u32 first of the records that are the part's */
  first: 48,
  /** u32 1: one vector is all that the chain has, whose rule is at hand where it is a single one */
  simple: 52,
} as const;
export const CHAIN_SIZE = 64;

export const PolicyVerdict = { none: 0, accept: 1, drop: 2 } as const;

/** A service: u32 number of fields, u32 vectors by class, then the fields. */
export const Service = { fields: 0, vectors: 4, first: 8 } as const;

/** How one field of a service becomes a class, and the class a part of the service's. */
export const ServiceField = {
  /** u32 place of the fact */
  fact: 0,
  /** u32 page table: u32 pointers by value >> 8, to pages of 256 u32 classes */
  pages: 4,
  /** u32 the largest value that has a page; those above are all in the class of this one */
  maximum: 8,
  /** u32 by {@link PacketKind}: the value that stands for the field in such packets; 0: its own */
  overrides: 12,
  /** u32 classes of this field, and u32[] of folded classes by folded * classes + class; 0 in the first field */
  classes: 28,
  fold: 32,
} as const;
export const SERVICE_FIELD_SIZE = 36;

/**
 * Packets whose headers are not what rules take for granted ("odd" ones). Vectors name more rules than fit them, and every
 * named rule is asked all its conditions in order, so that the packet is dropped at the rule that would drop it.
 */
export const PacketKind = {
  regular: 0,
  /** Behind the first fragment, at an offset above 1: no condition on a transport header holds. */
  laterFragment: 1,
  /** At fragment offset 1, or a header shorter than some rule of this protocol asks for. */
  short: 2,
  /** IPv6: the extension chain has no end, so that the protocol is not known. */
  noProtocol: 3,
} as const;

/** A rule's record. */
export const RuleRecord = {
  /** u32 byte offset of the counter among a CPU's */
  counter: 0,
  /** u32 {@link RuleAction} */
  action: 4,
  /** u32 conditions to ask at the rule's turn when the vectors named it; 0: none */
  rest: 8,
  /** u32 all its conditions, for linear chains and odd packets */
  all: 12,
  /**
   * u32 by action. jump, goto: number of the chain; jump: also of the own chain. reject: 1 + enum; log: point; mark: value, mask
   */
  a: 16,
  b: 20,
} as const;
export const RULE_RECORD_SHIFT = 5;
export const RULE_RECORD_SIZE: number = 1 << RULE_RECORD_SHIFT;

export const RuleAction = {
  continue: 0,
  accept: 1,
  drop: 2,
  return: 3,
  jump: 4,
  goto: 5,
  reject: 6,
  log: 7,
  mark: 8,
} as const;

/** Jumps that can be under way in a packet's walk. */
export const MAX_DEPTH = 16;
/** Rules that a chain can have: bits of three levels. */
export const MAX_CHAIN_RULES: number = 64 * 64 * 64 - 1;

/**
 * A condition: a node with two ways out. Ways are nodes, or one of {@link Way}. All numbers u32; what follows the two
 * ways depends on the operation.
 */
export const Node = { operation: 0, yes: 4, no: 8, a: 12, b: 16, c: 20, d: 24 } as const;

export const Way = { fails: 0, holds: 1, hotdrop: 2 } as const;

export const Operation = {
  /** fact a, masked by b, in one of c ranges that follow (min, max) */
  ranges: 1,
  /** as `ranges`, of the header field number a; see headers.ts */
  headerField: 2,
  /** the word of fact a, masked by b, equals c */
  word: 3,
  /** four words from fact a on: masks, then values */
  words: 4,
  /** b words of fact a, network order, from a minimum on: minima, then maxima, host order */
  addressRange: 5,
  /** TCP option a */
  tcpOption: 6,
  /** address type: variant a, types b */
  addressType: 7,
  /** extension header: variant a */
  extensionHeader: 8,
  /** token bucket in the state word at byte offset a: cost b, cap c */
  limit: 9,
  /** random draw below a */
  random: 10,
  /** every a-th packet by the state word at byte offset b */
  nth: 11,
  /** the packet is in a set: {@link SetNode} */
  set: 12,
  /** a set gets the packet's key or loses it: {@link SetChangeNode}; `yes`: it did */
  changeSet: 13,
} as const;

/** A set, and what of a packet is its key in it: u32 bytes of its record behind the first set's, u32 {@link SetSource} for each word. */
export const SetSpec = { record: 0, sources: 4 } as const;

/** Place of the fact in the low byte, above it 0, or 1 + the part's place in {@link SET_PARTS} in a part's first word. */
export const SetSource = { place: 0xff, partShift: 8 } as const;
/** What a packet can lack. */
export const SET_PARTS = ['device', 'mac', 'port', 'tcp-port'] as const;

/** What follows the ways of a node that asks for a set. */
export const SetNode = {
  /** u32: bits, and above them 1 + the place in {@link SET_COMPARISONS} of what is asked of packets and bytes, 0: nothing */
  flags: 12,
  returnNoMatch: 1,
  keepCounters: 2,
  packetsShift: 2,
  bytesShift: 5,
  /** u32 low and high half */
  packets: 16,
  bytes: 24,
  spec: 32,
} as const;
export const SET_COMPARISONS: readonly ('eq' | 'ne' | 'lt' | 'gt')[] = ['eq', 'ne', 'lt', 'gt'];

/** What follows the ways of a node that changes a set. */
export const SetChangeNode = {
  /** u32: bits */
  flags: 12,
  /** Adds the key; else takes it out. */
  adds: 1,
  /** An entry that is there is made anew. */
  exist: 2,
  hasTimeout: 4,
  /** u32 low and high half: nanoseconds that the entry stays */
  timeoutNs: 16,
  spec: 24,
} as const;
