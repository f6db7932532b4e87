/** A compiled policy in the user-space machine: programs behind their dispatchers, clock and chance injected. */
import {
  ACTIONS_MAP,
  type ArenaBytes,
  type AttachPoint,
  buildDispatcher,
  COUNTER_SIZE,
  type CompiledPolicy,
  type CompiledProgram,
  type EditRoom,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  GENERATIONS_OFFSET,
  Generation,
  type GenerationParts,
  generationImage,
  initializeArena,
  Record as PolicyRecord,
  programArrayName,
  recordHome,
  type SetTable,
} from '../../compile/index.ts';
import type { Family } from '../../net/index.ts';
import type { ConntrackView, SetContents } from '../../rules/index.ts';
import {
  ARENA_PAGE_BYTES,
  type ArenaMap,
  type Clock,
  type Environment,
  type HashMap,
  jiffies,
  type KernelObject,
  Machine,
  NetfilterContext,
  type Packet,
  type Program,
  type ProgramArrayMap,
} from '../../vm/index.ts';
import type { ProgramRun } from './compiled.ts';
import { makeSets, setsRoom } from './sets.ts';

/** Jiffies a second of the user-space machine: compile for it. */
export const MACHINE_HZ = 1000;
/** Cookie of the machine's one namespace. */
const COOKIE = 1n;
/** Bytes of `struct net_device` names. */
const NAME_BYTES = 16;
const ARPHRD_ETHER = 1;
const ETH_HLEN = 14;
const AF_INET = 2;
const AF_INET6 = 10;

/** A packet at a hook, as the kernel's structures tell programs of it. */
export interface MachinePacket {
  readonly family: Family;
  readonly bytes: Uint8Array;
  readonly hook: number;
  /** Empty: none. */
  readonly inDevice: string;
  readonly outDevice: string;
  readonly packetType?: number;
  readonly mark?: number;
  readonly ethernet?: Uint8Array | undefined;
  /** Bytes that lie together; all when absent. */
  readonly linearBytes?: number | undefined;
  /** What conntrack said; absent: it has not seen the packet. */
  readonly conntrack?: Omit<ConntrackView, 'zone' | 'accounting'> | undefined;
}

export interface PolicyMachineOptions {
  readonly clock?: Clock;
  /** A u32 each call. */
  readonly random?: () => number;
  readonly surroundings?: Partial<GenerationParts>;
  /** What programs at xdp and tcx ask the host for: routes, connections. */
  readonly environment?: Environment;
  /** For edits of the tables. */
  readonly room?: EditRoom;
  /** What hangs at an attach point; absent: the dispatcher of a policy whose packets meet one hook only. */
  readonly dispatcher?: (point: AttachPoint) => CompiledProgram;
  /** IP sets, each in the slot of its place in the list. */
  readonly sets?: readonly SetContents[];
  /** A u64 each call: by these keys find their places in sets. Absent: no run is like another. */
  readonly secrets?: () => bigint;
}

/** Compile the policy with `hz: MACHINE_HZ`. */
export class PolicyMachine {
  readonly policy: CompiledPolicy;
  /** Its IP sets by name. */
  readonly sets: ReadonlyMap<string, SetTable>;
  /** Where all of it lies. */
  readonly machine: Machine;
  readonly #dispatchers = new Map<number, Program>();
  readonly #beginnings: (() => void)[] = [];
  readonly #packet: Packet;
  readonly #context: NetfilterContext;
  readonly #net: KernelObject;
  readonly #connection: KernelObject;
  readonly #devices = new Map<string, KernelObject>();
  readonly #actions: HashMap | undefined;
  #root: number;
  readonly #arena: ArenaMap;

  constructor(policy: CompiledPolicy, options: PolicyMachineOptions = {}) {
    this.policy = policy;
    const { clock, random, environment, dispatcher: built = onlyHook } = options;
    const machine = new Machine({
      ...(clock === undefined ? {} : { clock }),
      ...(random === undefined ? {} : { random }),
      environment: { ...environment, netnsCookie: () => COOKIE },
    });
    this.machine = machine;
    const entries = new Map(
      policy.programs.map(({ point }, index) => [entryIndex(point), FIRST_PROGRAM_INDEX + index]),
    );
    const image = generationImage(
      policy.counters,
      policy.state,
      { cpus: 1, number: 1n, addresses: [], devices: new Map(), ...options.surroundings, entries },
      policy.classifier,
      options.room,
    );
    const arena = machine.createMap({
      name: 'arena',
      type: 'BPF_MAP_TYPE_ARENA',
      keySize: 0,
      valueSize: 0,
      maxEntries: (GENERATIONS_OFFSET + image.size + setsRoom(options.sets)) / ARENA_PAGE_BYTES,
    }) as ArenaMap;
    for (const map of policy.maps) machine.createMap(map);
    const known = new Map<CompiledProgram['code'], Program>();
    for (const [index, { point, type, name, code }] of policy.programs.entries()) {
      const array = machine.map(programArrayName(point)) as ProgramArrayMap;
      const loaded = known.get(code) ?? machine.load(code, { type, name });
      known.set(code, loaded);
      array.put(FIRST_PROGRAM_INDEX + index, loaded);
      const { code: dispatching, ...as } = built(point);
      const dispatcher = machine.load(dispatching, { type: as.type, name: as.name });
      array.put(entryIndex(point), dispatcher);
      this.#dispatchers.set(entryIndex(point), dispatcher);
    }
    const handsOn = policy.maps.some(({ name }) => name === ACTIONS_MAP);
    this.#actions = handsOn ? (machine.map(ACTIONS_MAP) as HashMap) : undefined;
    this.#packet = machine.createPacket();
    this.#context = new NetfilterContext(machine, this.#packet);
    this.#net = machine.kernel.create('net', { net_cookie: COOKIE });
    this.#connection = machine.kernel.create('nf_conn');
    this.#arena = arena;
    this.#root = arena.base + GENERATIONS_OFFSET;
    const memory = arena.bytes;
    initializeArena(memory, 1);
    memory.set(image.build(this.#root), GENERATIONS_OFFSET);
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    view.setUint32(recordHome(COOKIE) + PolicyRecord.root, this.#root, true);
    view.setBigUint64(recordHome(COOKIE) + PolicyRecord.cookie, COOKIE, true);
    const sets = makeSets(
      machine.memory.u8.buffer,
      arena.base,
      GENERATIONS_OFFSET + image.size,
      options.sets,
      () => clock?.monotonicNs() ?? 0n,
      options.secrets,
    );
    // Timeouts begin with the first packet.
    for (const { table, elements } of sets) this.#beginnings.push(() => table.load(elements));
    this.sets = new Map(sets.map(({ table }) => [table.definition.name, table]));
  }

  /** Pointer to the generation that runs. */
  get root(): number {
    return this.#root;
  }

  /** The arena's bytes as they lie now, and the pointer to the first. */
  get arena(): ArenaBytes {
    return this.#arena;
  }

  /** Lets the generation at `root` run from now on. */
  commit(root: number): void {
    this.#root = root;
    const { bytes } = this.#arena;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    view.setUint32(recordHome(COOKIE) + PolicyRecord.root, root, true);
  }

  /** What hangs at a place of any kind; `undefined` when the policy has nothing there. */
  dispatcher(place: number): Program | undefined {
    return this.#dispatchers.get(place);
  }

  /** Runs the dispatcher of a netfilter place; `undefined` when the policy has nothing there. */
  run(place: number, input: MachinePacket): ProgramRun | undefined {
    for (const begin of this.#beginnings.splice(0)) begin();
    const dispatcher = this.#dispatchers.get(place);
    if (dispatcher === undefined) return undefined;
    this.#packet.set(input.bytes, 0);
    if (input.ethernet !== undefined) this.#packet.setLinkHeader(input.ethernet);
    if (input.linearBytes !== undefined) this.#packet.linearBytes = input.linearBytes;
    const inDevice = this.device(input.inDevice);
    const outDevice = this.device(input.outDevice);
    this.#context.state
      .set('hook', input.hook)
      .set('pf', input.family === 'ipv4' ? AF_INET : AF_INET6)
      .set('in', inDevice)
      .set('out', outDevice)
      .set('net', this.#net);
    this.#context.skb
      .set('dev', inDevice ?? outDevice)
      .set('mark', input.mark ?? 0)
      .set('data_len', Math.max(0, input.bytes.length - (input.linearBytes ?? input.bytes.length)))
      .set('__pkt_type_offset', input.packetType ?? 0)
      .set('_nfct', this.connectionWord(input.conntrack));
    const accepted = dispatcher.run(this.#context) !== 0;
    return { accepted, handed: this.#takeHanded() };
  }

  /** Packets and bytes of every counter, one after the other. */
  readCounters(into: BigUint64Array): void {
    const { buffer } = this.machine.memory.u8;
    into.set(new BigUint64Array(buffer, this.#countersAt(), this.policy.counters * 2));
  }

  counter(index: number): { readonly packets: bigint; readonly bytes: bigint } {
    const { memory } = this.machine;
    const at = this.#countersAt() + index * COUNTER_SIZE;
    return { packets: memory.readU64(at), bytes: memory.readU64(at + 8) };
  }

  #countersAt(): number {
    return this.machine.memory.view.getUint32(this.#root + Generation.counters, true);
  }

  /** `skb->_nfct`: the connection, and enum ip_conntrack_info in its low three bits. */
  connectionWord(view: MachinePacket['conntrack']): number {
    if (view === undefined || view.state === 'INVALID') return 0;
    if (view.state === 'UNTRACKED') return IP_CT_UNTRACKED;
    const timeout = jiffies(this.machine) + BigInt(view.expiresSec * MACHINE_HZ);
    this.#connection.set('status', view.status).set('mark', view.mark).set('timeout', timeout);
    this.#connection.set('tuplehash', tupleHashes(view));
    const reply = view.direction === 'reply' ? IP_CT_IS_REPLY : 0;
    return this.#connection.address | (CONNTRACK_INFO[view.state] + reply);
  }

  /** An Ethernet device by its name, made when it is first asked for; none for the empty name. */
  device(name: string): KernelObject | undefined {
    if (name === '') return undefined;
    let device = this.#devices.get(name);
    if (device === undefined) {
      const bytes = new Uint8Array(NAME_BYTES);
      bytes.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1));
      device = this.machine.kernel.create('net_device', {
        ifindex: this.#devices.size + 1,
        name: bytes,
        type: ARPHRD_ETHER,
        hard_header_len: ETH_HLEN,
        'nd_net.net': this.#net,
      });
      this.#devices.set(name, device);
    }
    return device;
  }

  /**
   * What the program handed on to the action chain, which is not there. The note stays where it is, saying nothing, as
   * notes do that no chain has carried out.
   */
  #takeHanded(): bigint {
    const actions = this.#actions;
    if (actions === undefined) return 0n;
    const key = new Uint8Array(8);
    new DataView(key.buffer).setBigInt64(0, BigInt(this.#context.skb.address - actions.handle), true);
    const note = actions.get(key);
    if (note === undefined) return 0n;
    actions.set(key, new Uint8Array(note.length));
    return new DataView(note.buffer, note.byteOffset, 8).getBigUint64(0, true);
  }
}

function onlyHook(point: AttachPoint): CompiledProgram {
  return buildDispatcher(point, 'only');
}

/** struct nf_conntrack_tuple_hash of both directions: a list node, then source and destination with their ports. */
function tupleHashes({ original, reply }: Pick<ConntrackView, 'original' | 'reply'>): Uint8Array {
  const bytes = new Uint8Array(112);
  const view = new DataView(bytes.buffer);
  for (const [direction, tuple] of [original, reply].entries()) {
    const at = direction * 56 + 16;
    bytes.set(tuple.source, at);
    view.setUint16(at + 16, tuple.sourcePort);
    bytes.set(tuple.destination, at + 20);
    view.setUint16(at + 36, tuple.destinationPort);
    view.setUint8(at + 38, tuple.protocol);
  }
  return bytes;
}

/** enum ip_conntrack_info (uapi/linux/netfilter/nf_conntrack_common.h). */
const CONNTRACK_INFO = { ESTABLISHED: 0, RELATED: 1, NEW: 2 } as const;
const IP_CT_IS_REPLY = 3;
const IP_CT_UNTRACKED = 7;
