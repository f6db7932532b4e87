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

const ARENA_PAGES = 32_768;

export class SkLookupMachine {
  readonly machine: Machine;
  readonly state: SocketState;
  readonly sockets: SocketMap;
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
    this.state = new SocketState(new ArenaMemory(() => arena.bytes, arena.base), () => undefined);
    this.state.initialize({ netnsCookie: 1n, netnsInode: 1, netnsName: '' });
    this.#program = machine.load(assembleSkLookup(), { type: 'BPF_PROG_TYPE_SK_LOOKUP' });
    this.#context = new SkLookupContext(machine);
  }

  /** Puts bindings in force; each label gets one socket a protocol and family. */
  install(bindings: readonly Binding[], labels: BindingFile['labels'] = new Map()): void {
    this.state.install({ bindings, labels }, (device) => DEVICES[device]!);
    for (const destination of this.state.destinations()) {
      if (destination.members.length > 0) continue;
      const slot = this.state.reserveSlot(destination.index);
      this.putSocket(slot, destination.label);
      this.state.setMembers(destination.index, [{ slot, weight: 1, address: new Uint8Array(4), port: 1 }]);
    }
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
