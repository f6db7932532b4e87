/** A compiled policy in the user-space machine: netfilter programs behind their dispatchers, clock and chance injected. */
import {
  ACTIONS_MAP,
  buildDispatcher,
  COUNTER_SIZE,
  type CompiledPolicy,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  GENERATIONS_OFFSET,
  Generation,
  generationImage,
  initializeArena,
  Record as PolicyRecord,
  programArrayName,
  recordHome,
  type Surroundings,
} from '../../src/compile/index.ts';
import {
  ARENA_PAGE_BYTES,
  type ArenaMap,
  type HashMap,
  type KernelObject,
  Machine,
  NetfilterContext,
  type Packet,
  type Program,
  type ProgramArrayMap,
} from '../../src/vm/index.ts';

const COOKIE = 4711n;
/** Jiffies a second of the user-space machine: compile for it. */
export const MACHINE_HZ = 1000;
/** bytes of `struct net_device` names */
const NAME_BYTES = 16;
const ARPHRD_ETHER = 1;

export interface MachinePacket {
  readonly family: 'ipv4' | 'ipv6';
  readonly bytes: Uint8Array;
  readonly hook: number;
  readonly inDevice: string;
  readonly outDevice: string;
  readonly packetType?: number;
  readonly mark?: number;
  readonly conntrack?: { readonly info: number; readonly status: number; readonly mark: number };
}

export class MachinePolicy {
  readonly policy: CompiledPolicy;
  readonly machine: Machine;
  readonly #arena: ArenaMap;
  readonly #dispatchers = new Map<number, Program>();
  readonly #packet: Packet;
  readonly #net: KernelObject;
  readonly #devices = new Map<string, KernelObject>();
  readonly #root: number;

  constructor(
    policy: CompiledPolicy,
    options: {
      readonly clock?: { ms: number };
      readonly random?: () => number;
      readonly surroundings?: Partial<Surroundings>;
    } = {},
  ) {
    this.policy = policy;
    const { clock, random } = options;
    this.machine = new Machine({
      clock: { monotonicNs: () => BigInt(clock?.ms ?? 0) * 1_000_000n },
      ...(random === undefined ? {} : { random }),
    });
    const entries = new Map<number, number>();
    for (const [index, { point }] of policy.programs.entries())
      entries.set(entryIndex(point), FIRST_PROGRAM_INDEX + index);
    const surroundings: Surroundings = {
      cpus: 1,
      number: 1n,
      addresses: [],
      devices: new Map(),
      ...options.surroundings,
      entries,
    };
    const image = generationImage(policy.counters, policy.state, surroundings, policy.classifier);
    this.#arena = this.machine.createMap({
      name: 'arena',
      type: 'BPF_MAP_TYPE_ARENA',
      keySize: 0,
      valueSize: 0,
      maxEntries: (GENERATIONS_OFFSET + image.size) / ARENA_PAGE_BYTES,
    }) as ArenaMap;
    for (const map of policy.maps) this.machine.createMap(map);
    for (const [index, program] of policy.programs.entries()) {
      const array = this.machine.map(programArrayName(program.point)) as ProgramArrayMap;
      const loaded = this.machine.load(program.code, { type: program.type, name: program.name });
      array.put(FIRST_PROGRAM_INDEX + index, loaded);
      const built = buildDispatcher(program.point, 'only');
      const dispatcher = this.machine.load(built.code, { type: built.type, name: built.name });
      array.put(entryIndex(program.point), dispatcher);
      this.#dispatchers.set(entryIndex(program.point), dispatcher);
    }
    this.#packet = this.machine.createPacket();
    this.#net = this.machine.kernel.create('net', { net_cookie: COOKIE });
    this.#root = this.#arena.base + GENERATIONS_OFFSET;
    const memory = this.#arena.bytes;
    initializeArena(memory, 1);
    memory.set(image.build(this.#root), GENERATIONS_OFFSET);
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    view.setUint32(recordHome(COOKIE) + PolicyRecord.root, this.#root, true);
    view.setBigUint64(recordHome(COOKIE) + PolicyRecord.cookie, COOKIE, true);
  }

  #device(name: string): KernelObject | undefined {
    if (name === '') return undefined;
    let device = this.#devices.get(name);
    if (device === undefined) {
      const bytes = new Uint8Array(NAME_BYTES);
      for (let at = 0; at < name.length; at++) bytes[at] = name.charCodeAt(at);
      device = this.machine.kernel.create('net_device', {
        ifindex: this.#devices.size + 1,
        name: bytes,
        type: ARPHRD_ETHER,
        'nd_net.net': this.#net,
      });
      this.#devices.set(name, device);
    }
    return device;
  }

  /** Runs the dispatcher of a netfilter place; `undefined` when the policy has nothing there. */
  run(place: number, input: MachinePacket): 'ACCEPT' | 'DROP' | 'REJECT' | undefined {
    const dispatcher = this.#dispatchers.get(place);
    if (dispatcher === undefined) return undefined;
    this.#packet.set(input.bytes, 0);
    const context = new NetfilterContext(this.machine, this.#packet);
    const { conntrack } = input;
    let nfct = 0;
    if (conntrack !== undefined) {
      const { status, mark } = conntrack;
      nfct = this.machine.kernel.create('nf_conn', { status, mark }).address | conntrack.info;
    }
    context.state
      .set('hook', input.hook)
      .set('pf', input.family === 'ipv4' ? 2 : 10)
      .set('in', this.#device(input.inDevice))
      .set('out', this.#device(input.outDevice))
      .set('net', this.#net);
    context.skb
      .set('mark', input.mark ?? 0)
      .set('__pkt_type_offset', input.packetType ?? 0)
      .set('_nfct', nfct);
    const accepted = dispatcher.run(context) !== 0;
    const handed = this.policy.maps.some(({ name }) => name === ACTIONS_MAP) ? this.#takeHanded() : 0n;
    if (!accepted) return 'DROP';
    return (handed & 0xffn) !== 0n ? 'REJECT' : 'ACCEPT';
  }

  #takeHanded(): bigint {
    const map = this.machine.map(ACTIONS_MAP) as HashMap;
    let handed = 0n;
    for (const [key, value] of [...map.entries()]) {
      handed = new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true);
      map.remove(key);
    }
    return handed;
  }

  counter(index: number): { readonly packets: bigint; readonly bytes: bigint } {
    const { memory } = this.machine;
    const base = memory.view.getUint32(this.#root + Generation.counters, true) + index * COUNTER_SIZE;
    return { packets: memory.view.getBigUint64(base, true), bytes: memory.view.getBigUint64(base + 8, true) };
  }
}
