/**
 * The arena: the memory that programs, user space and the netstack share. Written up in docs/arena.md.
 *
 * One arena belongs to one policy (a name), whatever the number of namespaces and hooks it is enforced at. All numbers
 * are little endian. Every pointer in it is the low half (32 bits) of a user address, which is all that
 * `addr_space_cast` looks at. Where an arena is mapped at a multiple of 4 GiB that is the offset from its first byte.
 */

/** "SLUA", first word of an arena. */
export const ARENA_MAGIC = 0x41554c53;
/** "SLUG", first word of a generation. */
export const GENERATION_MAGIC = 0x47554c53;
/** "SLUN", first word of a namespace's surroundings. */
export const SURROUNDINGS_MAGIC = 0x4e554c53;
/** Changes whenever a program built for the old layout could misread the new one. */
export const ARENA_VERSION = 5;

/** Header at offset 0. */
export const ArenaHeader = {
  /** u32 {@link ARENA_MAGIC} */
  magic: 0,
  /** u32 {@link ARENA_VERSION} */
  version: 4,
  /** u32 possible CPUs of this machine: copies of per-CPU areas */
  cpus: 8,
  /** u32 size of the arena in bytes; 0 means 4 GiB */
  size: 12,
  /** u32 number of the last generation that was written */
  lastNumber: 16,
} as const;

/**
 * Gates: u64 words that several records share, so that one store changes what all of them run. A gate holds the
 * bpf_ktime_get_ns at which it closes: 0 is closed, {@link GATE_OPEN} never closes. Records name gates by number, from 1.
 */
export const GATES_OFFSET = 0x100;
export const GATE_SIZE = 8;
export const GATE_OPEN: bigint = 2n ** 64n - 1n;

/** CPUs whose hand-over word has a place. */
export const MAX_CPUS = 1024;

/**
 * Hand-over words, one per CPU, a cache line each: what a dispatcher tells the program that it tail-calls.
 * Bits 0..19 the generation's root / 4096, bits 20..63 the packet's identity / 8 (see docs/arena.md).
 */
export const HANDOVER_OFFSET = 0x1000;
export const HANDOVER_STRIDE = 64;
/** Numbers of gates are below this: they fit the low bits of a root. */
export const GATE_SLOTS: number = (HANDOVER_OFFSET - GATES_OFFSET) / GATE_SIZE;

/** Records, one per namespace, found by its cookie: open addressing, {@link RECORD_PROBES} places from the home place. */
export const RECORDS_OFFSET: number = HANDOVER_OFFSET + MAX_CPUS * HANDOVER_STRIDE;
export const RECORD_SLOTS = 4096;
export const RECORD_SIZE = 64;
export const RECORD_PROBES = 4;

export const Record = {
  /** u64 netns cookie; 0: free */
  cookie: 0,
  /**
   * u32 root of the generation that runs, its low bits the number of a gate; 0: no gate. With `previous` one aligned
   * u64: storing it is the commit in one namespace.
   */
  root: 8,
  /** u32 root that runs while the gate is closed; 0: none */
  previous: 12,
  /** u32 root that packets may still hold while a commit is under way or waits for confirmation; 0: neither */
  inFlight: 16,
} as const;

/** Flight words: which root a packet met first, while a commit is under way. Same bits as hand-over words. */
export const FLIGHTS_OFFSET: number = RECORDS_OFFSET + (RECORD_SLOTS + RECORD_PROBES) * RECORD_SIZE;
export const FLIGHT_SLOTS = 16384;

/** Records of IP sets (docs/sets.md). */
export const SETS_OFFSET: number = alignUp(FLIGHTS_OFFSET + FLIGHT_SLOTS * 8, 0x1000);
export const SET_SLOTS = 512;
export const SET_RECORD_SIZE = 256;

/** Generations lie from here on, each one contiguous extent, and what the records of sets point to. */
export const GENERATIONS_OFFSET: number = alignUp(SETS_OFFSET + SET_SLOTS * SET_RECORD_SIZE, 0x1000);
/** Roots are multiples of this. */
export const ROOT_ALIGNMENT = 0x1000;
/** Bits of a hand-over or flight word that hold root / ROOT_ALIGNMENT; the packet's identity is above them. */
export const ROOT_BITS = 20;

/** Attach points of a policy: places of {@link Generation.entries} and of dispatchers in the program arrays. */
export const ENTRY_SLOTS = 64;

/** A generation's header, at its root. */
export const Generation = {
  /** u32 {@link GENERATION_MAGIC} */
  magic: 0,
  /** u32 {@link ARENA_VERSION} */
  version: 4,
  /** u64 counts up with every generation of the arena */
  number: 8,
  /** u32 bytes of the whole extent in which it lies, see `extent` */
  size: 16,
  /** u32 copies of the counters */
  cpus: 20,
  /** u32 offset of the live counters: `cpus` copies, `counterStride` bytes apart, of `counterCount` counters */
  counters: 24,
  counterStride: 28,
  counterCount: 32,
  /** u32 offset of `counterCount` counters to subtract from the sum of the live ones: -Z, and counts carried over */
  baselines: 36,
  /** u32 offset and number of 8-byte state words (limit, statistic), shared by all CPUs */
  state: 40,
  stateCount: 44,
  /** u32 offset of the {@link Surroundings} that count: storing it is the change to new ones */
  surroundings: 48,
  /** u32 offset of those that packets may still look at while they are being changed; 0: none */
  formerSurroundings: 52,
  /** u32 offset of the classifier's tables, 0 where rules are code; their layout is the strategy's own */
  tables: 72,
  /** u32 bytes of them */
  tablesSize: 76,
  /** u32 always 0, which the verifier cannot know */
  zero: 80,
  /**
   * u32 root of the generation that was loaded whole, at the first byte of the extent: the own root, unless this generation
   * is an edit of that one. What follows is kept there alone, and is for those who edit: what of the extent's room, counters
   * and state words has not been in use yet.
   */
  extent: 84,
  /** u32 pointer to the first free byte, and behind the last */
  roomNext: 88,
  roomEnd: 92,
  counterNext: 96,
  stateNext: 100,
  /** u32 root of the last edit that was written there, in force or not; 0: none */
  lastEdit: 104,
  /** u32 of an edit: root of the generation that it was made of, pointer to the text that says what it changed, and its bytes */
  before: 108,
  note: 112,
  noteSize: 116,
  /** u32[ENTRY_SLOTS]: program-array index of the program of each attach point; 0: nothing to run, the packet passes */
  entries: 128,
} as const;
export const GENERATION_HEADER_SIZE = 512;

/** What a namespace adds to its generation: a header, then the tables that it names. */
export const Surroundings = {
  /** u32 {@link SURROUNDINGS_MAGIC} */
  magic: 0,
  /** u32 bytes of header and tables */
  size: 4,
  /** u32 offset and number of IPv4 {@link AddressType4} entries */
  addresses4: 8,
  addresses4Count: 12,
  /** u32 offset and number of IPv6 {@link AddressType6} entries */
  addresses6: 16,
  addresses6Count: 20,
  /** u32 offset and number of 16-byte device names, by ifindex */
  devices: 24,
  devicesCount: 28,
} as const;
export const SURROUNDINGS_HEADER_SIZE = 64;

/** A counter: u64 packets, u64 bytes. */
export const COUNTER_SIZE = 16;
/** A state word. */
export const STATE_SIZE = 8;
/** Copies of the counters start on lines of their own, so that CPUs do not share them. */
export const COUNTER_ALIGNMENT = 64;

/** First counters of every generation: what programs do outside any rule. */
export const SystemCounter = {
  /** Dropped: headers that no rule could be asked about. */
  malformed: 0,
  /** Dropped by the fragment strategy. */
  fragments: 1,
  /** Passed: neither IPv4 nor IPv6, or tagged for a VLAN device. */
  notIp: 2,
  /** Passed: IP of the family that the policy has no rules for. */
  otherFamily: 3,
  /** LOG records lost because nobody read the ring. */
  logsLost: 4,
  /** Dropped: an action that could not be handed on. */
  actionsLost: 5,
  /** Dropped by hotdrop: a rule's match met a header that is cut short. */
  hotdrops: 6,
} as const;
export const SYSTEM_COUNTERS = 8;

/** Route type of IPv4 addresses: entries in the order of decreasing prefix length, the first that fits counts. */
export const AddressType4 = {
  /** 4 bytes, network order, and the mask */
  value: 0,
  mask: 4,
  /** u32 RTN_* */
  type: 8,
  /** u32 ifindex of the device that the address belongs to; 0: none */
  device: 12,
} as const;
export const ADDRESS_TYPE4_SIZE = 16;

export const AddressType6 = { value: 0, mask: 16, type: 32, device: 36 } as const;
export const ADDRESS_TYPE6_SIZE = 48;

/** Bytes of a device name, IFNAMSIZ. */
export const DEVICE_NAME_SIZE = 16;

/** The least multiple of `alignment` (a power of two) that is not below `value`. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Offset of a namespace's home record from the arena's first byte. Cookies are handed out in runs, so that neighbours do not collide. */
export function recordHome(cookie: bigint): number {
  return RECORDS_OFFSET + Number(BigInt.asUintN(64, cookie) % BigInt(RECORD_SLOTS)) * RECORD_SIZE;
}
