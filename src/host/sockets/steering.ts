/**
 * Socket steering in one network namespace: load, bindings, sockets, unload. All state is in pins; a process comes,
 * changes something under the namespace's lock, and goes.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Fd, findDevice, isErrno, queryPrograms, withNetns } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import {
  type Binding,
  type BindingFile,
  type BindingPlan,
  type DestinationState,
  findConflicts,
  formatBinding,
  formatBindingFile,
  type LabelOptions,
  labelOptions,
  type MemberState,
  type Protocol,
  parseBindings,
  planBindings,
} from '../../sklookup/index.ts';
import { type NamedNetns, openNamedNetns } from '../netns.ts';
import { SocketHostError } from './error.ts';
import { inspectSocket, type SteerableSocket, socketName } from './inspect.ts';
import { type LabelMetrics, readMetrics } from './metrics.ts';
import { SocketObjects } from './objects.ts';
import { collectGarbage, pinDirectory, withSocketLock } from './place.ts';

const HEAVIEST = 1000;

export interface RegisterOptions {
  readonly label: string;
  /** Share of new flows among the label's sockets, 1 to 1000; default 1. */
  readonly weight?: number;
}

/** Which of a label's sockets are meant; what is left out matches all. */
export interface SocketFilter {
  readonly label: string;
  readonly protocol?: Protocol;
  readonly family?: Family;
  /** Local address and port when it was registered. */
  readonly address?: Uint8Array;
  readonly port?: number;
}

/** One socket of a destination as status shows it. */
export interface MemberStatus extends MemberState {
  /** Unique since boot; `undefined`: the socket has been closed. */
  readonly cookie: bigint | undefined;
}

export interface DestinationStatus extends Omit<DestinationState, 'members'> {
  /** Bindings that name it. */
  readonly bindings: number;
  /** What becomes of packets while none of its sockets lives. */
  readonly whenEmpty: LabelOptions['whenEmpty'];
  readonly members: readonly MemberStatus[];
  readonly metrics: LabelMetrics;
}

export interface SteeringStatus {
  readonly netns: { readonly name: string; readonly inode: number; readonly cookie: bigint };
  /** sk_lookup programs of the namespace in the order in which they run. */
  readonly programs: readonly { readonly id: number; readonly ours: boolean }[];
  readonly generation: number;
  readonly bindings: number;
  readonly destinations: readonly DestinationStatus[];
  /** Look-ups that no binding took. */
  readonly unbound: number;
}

export class SocketSteering {
  readonly #netns: NamedNetns;
  readonly #directory: string;
  readonly #objects: SocketObjects;

  private constructor(netns: NamedNetns, directory: string, objects: SocketObjects) {
    this.#netns = netns;
    this.#directory = directory;
    this.#objects = objects;
  }

  /**
   * Loads the program into a namespace; `fresh` false: it was loaded already and nothing changed.
   * @throws {KernelError} without privilege or a kernel that can
   */
  static async load(name?: string): Promise<{ readonly steering: SocketSteering; readonly fresh: boolean }> {
    const netns = openNamedNetns(name);
    try {
      const directory = pinDirectory(netns.cookie);
      return await withSocketLock(netns.cookie, () => {
        collectGarbage();
        const existing = SocketObjects.open(directory);
        if (existing !== undefined) {
          return { steering: new SocketSteering(netns, directory, existing), fresh: false };
        }
        mkdirSync(dirname(directory), { recursive: true, mode: 0o700 });
        const objects = SocketObjects.create(netns, directory);
        return { steering: new SocketSteering(netns, directory, objects), fresh: true };
      });
    } catch (error) {
      netns.netns.close();
      throw error;
    }
  }

  /** @throws {SocketHostError} `HOST_SOCKETS_NOT_LOADED` */
  static open(name?: string): SocketSteering {
    const netns = openNamedNetns(name);
    try {
      const directory = pinDirectory(netns.cookie);
      const objects = SocketObjects.open(directory);
      if (objects !== undefined) return new SocketSteering(netns, directory, objects);
      const where = name === undefined ? 'this network namespace' : `network namespace ${name}`;
      throw new SocketHostError(
        'HOST_SOCKETS_NOT_LOADED',
        `${where} has no socket tables`,
        `run: sluice socket load${name === undefined ? '' : ` --netns ${name}`}`,
      );
    } catch (error) {
      netns.netns.close();
      throw error;
    }
  }

  /** Detaches and forgets everything; false when nothing was loaded. */
  static async unload(name?: string): Promise<boolean> {
    const netns = openNamedNetns(name);
    try {
      const directory = pinDirectory(netns.cookie);
      return await withSocketLock(netns.cookie, () => {
        collectGarbage();
        return SocketObjects.remove(directory);
      });
    } finally {
      netns.netns.close();
    }
  }

  /** Puts this build's program in place, maps and bindings kept. */
  async upgrade(): Promise<{ readonly before: number; readonly after: number }> {
    return await this.#locked(() => this.#objects.upgrade(this.#directory));
  }

  // Bindings.

  bindings(): BindingFile {
    return this.#objects.state.bindings();
  }

  /** What putting a file in force would change. */
  plan(file: BindingFile): BindingPlan {
    return planBindings(this.bindings().bindings, file.bindings);
  }

  /**
   * Replaces the whole set by one store.
   * @throws {BindingsError} for conflicts; {SocketHostError} `HOST_SOCKETS_DEVICE`; nothing has changed then
   */
  async apply(file: BindingFile): Promise<BindingPlan> {
    return await this.#locked(() => {
      const plan = this.plan(file);
      this.#install(file);
      return plan;
    });
  }

  /**
   * Adds a binding in place; one that means the same traffic gives way. Returns the one that did.
   * @throws {BindingsError} when it ties with another; {SocketHostError} `HOST_SOCKETS_DEVICE`
   */
  async bind(binding: Binding): Promise<Binding | undefined> {
    return await this.#locked(() => this.#objects.state.bind(binding, (device) => this.ifindex(device)));
  }

  /** Removes a binding in place. @throws {SocketHostError} `HOST_SOCKETS_NO_BINDING`, saying whose the traffic is */
  async unbind(binding: Binding): Promise<void> {
    await this.#locked(() => {
      const { state } = this.#objects;
      if (state.unbind(binding, (device) => this.ifindex(device))) return;
      const found = state.sameTraffic(binding);
      throw new SocketHostError(
        'HOST_SOCKETS_NO_BINDING',
        found === undefined
          ? `there is no binding ${formatBinding(binding)}`
          : `this traffic is bound to ${found.label}, not to ${binding.label}`,
        'see: sluice socket bindings',
      );
    });
  }

  #install(file: BindingFile): void {
    // A file that was parsed has none; one that a program made up may have. Parsing it says them with their lines.
    if (findConflicts(file.bindings).length > 0) parseBindings(formatBindingFile(file), 'bindings');
    this.#objects.state.install(file, (device) => this.ifindex(device));
  }

  /** @throws {SocketHostError} `HOST_SOCKETS_DEVICE` */
  ifindex(device: string): number {
    const found = withNetns(this.#netns.netns, () => findDevice(device));
    if (found !== undefined) return found.index;
    throw new SocketHostError(
      'HOST_SOCKETS_DEVICE',
      `there is no device ${device} in this network namespace`,
      'see: ip link; bindings name devices that exist when they are put in force',
    );
  }

  // Sockets.

  /**
   * Registers a socket for a label. With `spread reuseport` it takes the place of the one before, to which kept UDP flows
   * still go; with `spread hash` it joins. The new socket is in place before the old one is out.
   * @throws {SocketHostError} `HOST_SOCKET_…`
   */
  async register(fd: Fd, options: RegisterOptions): Promise<SteerableSocket> {
    const socket = inspectSocket(fd, this.#netns.cookie);
    return await this.#locked(() =>
      this.#objects.state.change(() => {
        // All that may fail comes first: a socket serves all its families, or none.
        const joined = socket.families.map((family) => this.#joined(fd, socket, family, options));
        for (const { destination, members } of joined) this.#setMembers(destination, members);
        return socket;
      }),
    );
  }

  /** Puts a socket into the map, and says what a destination's members are with it. */
  #joined(
    fd: Fd,
    socket: SteerableSocket,
    family: Family,
    { label, weight = 1 }: RegisterOptions,
  ): { readonly destination: DestinationState; readonly members: readonly MemberState[] } {
    const { state } = this.#objects;
    const behaviour = labelOptions(state.labels(), label);
    const destination = state.destination(label, socket.protocol, family);
    const live = destination.members.filter((member) => this.#cookieOf(member.slot) !== undefined);
    const again = live.find((member) => this.#cookieOf(member.slot) === socket.description.cookie);
    const slot = again?.slot ?? this.#putSocket(fd, destination.index, socket);
    const { address, port } = socket.description.local;
    const added = { slot, weight: Math.min(HEAVIEST, weight), address, port };
    const others = live.filter((member) => member !== again);
    const kept =
      behaviour.spread === 'hash'
        ? others
        : socket.protocol === 'udp' && behaviour.flows === 'keep'
          ? others.map((member) => ({ ...member, weight: 0 }))
          : [];
    const members = [...kept, added];
    state.destinations.requireRoom(members.length);
    return { destination, members };
  }

  #putSocket(fd: Fd, destination: number, socket: SteerableSocket): number {
    const { sockets } = this.#objects;
    const { destinations } = this.#objects.state;
    const slot = destinations.reserveSlot(destination);
    const value = new Uint8Array(8);
    new DataView(value.buffer).setUint32(0, fd.number, true);
    try {
      sockets.update(slot, value);
      return slot;
    } catch (cause) {
      destinations.freeSlot(slot);
      if (!isErrno(cause)) {
        throw new SocketHostError(
          'HOST_SOCKET_REFUSED',
          `the kernel refuses ${socketName(socket.description)}: ${cause instanceof Error ? cause.message : ''}`,
          'sockets that have a TLS or another upper layer cannot be registered',
          { cause },
        );
      }
      throw cause;
    }
  }

  /** Stops sending new flows to sockets; UDP flows that are kept stay. Returns how many it were. */
  async drain(filter: SocketFilter): Promise<number> {
    return await this.#change(filter, (member) => ({ ...member, weight: 0 }));
  }

  /** Takes sockets out; the bindings stay. Returns how many it were. @throws {SocketHostError} `HOST_SOCKETS_NO_SOCKET` */
  async unregister(filter: SocketFilter): Promise<number> {
    return await this.#change(filter, () => undefined);
  }

  async #change(
    filter: SocketFilter,
    change: (member: MemberState) => MemberState | undefined,
  ): Promise<number> {
    return await this.#locked(() => {
      let count = 0;
      for (const destination of this.#objects.state.destinations.list()) {
        const { label, protocol, family, members } = destination;
        if (label !== filter.label || (filter.protocol ?? protocol) !== protocol) continue;
        if ((filter.family ?? family) !== family) continue;
        const after = members.map((member) => (isMeant(member, filter) ? change(member) : member));
        const changed = after.filter((member, index) => member !== members[index]).length;
        if (changed === 0) continue;
        count += changed;
        const left = after.filter((member) => member !== undefined);
        this.#objects.state.change(() => this.#setMembers(destination, left));
      }
      if (count > 0) return count;
      throw new SocketHostError(
        'HOST_SOCKETS_NO_SOCKET',
        `label ${filter.label} has no such socket`,
        'see: sluice socket status',
      );
    });
  }

  /** Members whose socket has died, or that are no longer wanted, leave; their places are free afterwards. */
  #setMembers(destination: DestinationState, members: readonly MemberState[]): void {
    const { destinations } = this.#objects.state;
    destinations.setMembers(destination.index, members);
    for (const { slot } of destination.members) {
      if (members.some((member) => member.slot === slot)) continue;
      this.#emptySlot(slot);
      destinations.freeSlot(slot);
    }
  }

  #emptySlot(slot: number): void {
    if (this.#cookieOf(slot) !== undefined) this.#objects.sockets.delete(slot);
  }

  /** Cookie of the socket in a slot; `undefined` when there is none. */
  #cookieOf(slot: number): bigint | undefined {
    const value = this.#objects.sockets.lookup(slot);
    if (value === undefined) return undefined;
    return new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
  }

  // Reading.

  status(): SteeringStatus {
    const { state, link, metrics } = this.#objects;
    const own = link.describe().programId;
    const { programs } = queryPrograms(this.#netns.netns.number, 'BPF_SK_LOOKUP');
    const { name, inode, cookie } = this.#netns;
    const labels = state.labels();
    return {
      netns: { name, inode, cookie },
      programs: programs.map(({ programId }) => ({ id: programId, ours: programId === own })),
      generation: state.generation,
      bindings: state.bindingCount,
      destinations: state.destinations.list().map((destination) => ({
        ...destination,
        bindings: state.destinations.bindings(destination.index),
        whenEmpty: labelOptions(labels, destination.label).whenEmpty,
        members: destination.members.map((member) => ({ ...member, cookie: this.#cookieOf(member.slot) })),
        metrics: readMetrics(metrics, destination.index + 1),
      })),
      unbound: readMetrics(metrics, 0).misses,
    };
  }

  /** The kernel objects, for test runs. */
  get objects(): SocketObjects {
    return this.#objects;
  }

  get netns(): NamedNetns {
    return this.#netns;
  }

  async #locked<T>(use: () => T): Promise<T> {
    return await withSocketLock(this.#netns.cookie, () => {
      // Of a process that ended in the middle of a change.
      this.#settle();
      try {
        return use();
      } finally {
        this.#settle();
      }
    });
  }

  #settle(): void {
    const { state } = this.#objects;
    if (state.unsettled) state.repair((slot) => this.#emptySlot(slot));
  }

  close(): void {
    this.#objects.close();
    this.#netns.netns.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function isMeant(member: MemberState, { address, port }: SocketFilter): boolean {
  if (port !== undefined && port !== member.port) return false;
  return address === undefined || address.join() === member.address.join();
}
