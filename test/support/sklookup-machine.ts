/** The socket program in the virtual machine: arena, maps, and one socket for each destination. */
import {
  ArenaMemory,
  assembleSkLookup,
  type Binding,
  type BindingFile,
  FLOW_KEY_BYTES,
  FLOW_VALUE_BYTES,
  type LookupTuple,
  MAX_DESTINATIONS,
  MAX_SLOTS,
  METRIC_BYTES,
  PROTOCOL_NUMBER,
  SocketState,
} from '../../src/sklookup/index.ts';
import {
  type ArenaMap,
  type KernelObject,
  Machine,
  type Program,
  SkLookupContext,
  type SocketMap,
} from '../../src/vm/index.ts';
import { DEVICES } from './bindings.ts';

/** An arena's memory that tells of every store, so that a test can look at each moment. */
class WatchedMemory extends ArenaMemory {
  stored: () => void = () => undefined;
  override setU8(offset: number, value: number): void {
    super.setU8(offset, value);
    this.stored();
  }
  override setU32(offset: number, value: number): void {
    super.setU32(offset, value);
    this.stored();
  }
  override setU64(offset: number, value: bigint): void {
    super.setU64(offset, value);
    this.stored();
  }
  override setBytes(offset: number, bytes: Uint8Array): void {
    super.setBytes(offset, bytes);
    this.stored();
  }
  override storeU32(pointer: number, value: number): void {
    super.storeU32(pointer, value);
    this.stored();
  }
  override publishU32(offset: number, value: number): void {
    super.publishU32(offset, value);
    this.stored();
  }
  override publishU64(offset: number, value: bigint): void {
    super.publishU64(offset, value);
    this.stored();
  }
}

const ARENA_PAGES = 32_768;

export class SkLookupMachine {
  readonly machine: Machine;
  readonly state: SocketState;
  readonly sockets: SocketMap;
  /** Called after every store into the arena. */
  set stored(call: () => void) {
    this.#memory.stored = call;
  }
  readonly #memory: WatchedMemory;
  nowNs = 1_000_000_000n;
  readonly #program: Program;
  readonly #context: SkLookupContext;
  readonly #labels = new Map<number, string>();

  constructor() {
    const machine = new Machine({ clock: { monotonicNs: () => this.nowNs } });
    this.machine = machine;
    const arena = machine.createMap({
      name: 'arena',
      type: 'BPF_MAP_TYPE_ARENA',
      keySize: 0,
      valueSize: 0,
      maxEntries: ARENA_PAGES,
    }) as ArenaMap;
    this.sockets = machine.createMap({
      name: 'sockets',
      type: 'BPF_MAP_TYPE_SOCKMAP',
      keySize: 4,
      valueSize: 8,
      maxEntries: MAX_SLOTS,
    }) as SocketMap;
    machine.createMap({
      name: 'metrics',
      type: 'BPF_MAP_TYPE_PERCPU_ARRAY',
      keySize: 4,
      valueSize: METRIC_BYTES,
      maxEntries: MAX_DESTINATIONS + 1,
    });
    machine.createMap({
      name: 'flows',
      type: 'BPF_MAP_TYPE_LRU_HASH',
      keySize: FLOW_KEY_BYTES,
      valueSize: FLOW_VALUE_BYTES,
      maxEntries: 1024,
    });
    this.#memory = new WatchedMemory(() => arena.bytes, arena.base);
    this.state = new SocketState(this.#memory, () => undefined);
    this.state.initialize({ netnsCookie: 1n, netnsInode: 1, netnsName: '' });
    this.#program = machine.load(assembleSkLookup(), { type: 'BPF_PROG_TYPE_SK_LOOKUP' });
    this.#context = new SkLookupContext(machine);
  }

  /** Puts bindings in force; each label gets one socket a protocol and family. */
  install(bindings: readonly Binding[], labels: BindingFile['labels'] = new Map()): void {
    this.state.install({ bindings, labels }, (device) => DEVICES[device]!);
    for (const { index } of this.state.destinations.list()) this.#giveSocket(index);
  }

  /** Gives the destination that a binding names a socket, before or after it is bound. */
  prepare({ label, protocol, prefix }: Binding): void {
    this.#giveSocket(this.state.destination(label, protocol, prefix.address.family).index);
  }

  #giveSocket(index: number): void {
    const { destinations } = this.state;
    const { label, members } = destinations.at(index);
    if (members.length > 0) return;
    const slot = destinations.reserveSlot(index);
    this.putSocket(slot, label);
    destinations.setMembers(index, [{ slot, weight: 1, address: new Uint8Array(4), port: 1 }]);
  }

  /** A new socket in a slot. */
  putSocket(slot: number, name: string): KernelObject {
    const socket = this.machine.kernel.create('sock');
    this.#labels.set(socket.address, name);
    this.sockets.put(slot, socket);
    return socket;
  }

  /** Name of the selected socket; "" when the packet passes, "drop" when it is dropped. */
  lookup(tuple: LookupTuple): string {
    const context = this.#context.set({
      ...tuple,
      protocol: PROTOCOL_NUMBER[tuple.protocol],
      ingressIfindex: DEVICES[tuple.device] ?? 0,
    });
    const verdict = this.#program.run(context);
    if (verdict === 0) return 'drop';
    return context.selected === 0 ? '' : this.#labels.get(context.selected)!;
  }
}
