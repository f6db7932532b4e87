/**
 * The contents of a socket arena: destinations, and the set of bindings in force. What the kernel host and the netstack
 * share. Only one writer at a time; programs read at any time and never wait.
 */
import { samePrefix } from '../../net/index.ts';
import { type Binding, type Protocol, trafficKey } from '../binding.ts';
import { SocketStateError } from '../error.ts';
import * as layout from '../layout.ts';
import { findConflicts } from '../precedence.ts';
import { replaceGroup } from '../table/edit.ts';
import { buildImage, numbered } from '../table/image.ts';
import { SetReader } from '../table/read.ts';
import type { NumberedBinding } from '../table/records.ts';
import { type BindingFile, formatBindingFile, labelOptions } from '../text/file.ts';
import { parseBindings } from '../text/parse.ts';
import { type DestinationState, Destinations } from './destinations.ts';
import { type ArenaMemory, decodeAscii, encodeAscii } from './memory.ts';
import { DestinationNames } from './names.ts';

const { BindingSet, SocketArena } = layout;
type Family = 'ipv4' | 'ipv6';

/** Who an arena belongs to. */
export interface ArenaOwner {
  readonly netnsCookie: bigint;
  readonly netnsInode: number;
  readonly netnsName: string;
}

/** The bindings of one prefix, and the one of them that means the same traffic as a given one. */
interface Group {
  readonly all: readonly NumberedBinding[];
  readonly same: NumberedBinding | undefined;
}

export class SocketState {
  readonly destinations: Destinations;
  readonly #memory: ArenaMemory;
  readonly #grace: () => void;
  /** Changes that are under way, one within the other. */
  #changes = 0;

  /** @param grace returns when every program that was running has ended; memory that they may read is reused after it */
  constructor(memory: ArenaMemory, grace: () => void) {
    this.#memory = memory;
    this.#grace = grace;
    this.destinations = new Destinations(memory, grace);
  }

  /** Writes a new arena's header and makes the pages exist that programs read (absent ones are slow to read). */
  initialize(owner: ArenaOwner): void {
    const memory = this.#memory;
    for (let page = 0; page < layout.MEMBERS_OFFSET; page += 4096) memory.setU8(page, 0);
    memory.setU64(SocketArena.netnsCookie, owner.netnsCookie);
    memory.publishU32(SocketArena.netnsInode, owner.netnsInode);
    memory.setText(SocketArena.netnsName, 64, owner.netnsName);
    memory.publishU32(SocketArena.version, layout.SOCKET_LAYOUT_VERSION);
    memory.publishU32(SocketArena.magic, layout.SOCKET_ARENA_MAGIC);
  }

  /** @throws {SocketStateError} `SOCKETS_LAYOUT` */
  check(): void {
    const [magic, version] = [this.#memory.u32(SocketArena.magic), this.#memory.u32(SocketArena.version)];
    if (magic === layout.SOCKET_ARENA_MAGIC && version === layout.SOCKET_LAYOUT_VERSION) return;
    throw new SocketStateError(
      'SOCKETS_LAYOUT',
      magic === layout.SOCKET_ARENA_MAGIC
        ? `the loaded tables have layout ${version}, this build has ${layout.SOCKET_LAYOUT_VERSION}`
        : 'the loaded tables are none of Sluice',
      'save the bindings with the build that loaded them (bindings), then unload and load anew',
    );
  }

  get owner(): ArenaOwner {
    return {
      netnsCookie: this.#memory.u64(SocketArena.netnsCookie),
      netnsInode: this.#memory.u32(SocketArena.netnsInode),
      netnsName: this.#memory.text(SocketArena.netnsName, 64),
    };
  }

  /** Offset of the set in force; `undefined` before the first. */
  get #set(): number | undefined {
    const root = this.#memory.u32(SocketArena.root);
    return root === 0 ? undefined : root - this.#memory.base;
  }

  /** Counts up with each change; 0 before the first. */
  get generation(): number {
    const set = this.#set;
    return set === undefined ? 0 : Number(this.#memory.u64(set + BindingSet.number));
  }

  /** How many bindings are in force. */
  get bindingCount(): number {
    if (this.unsettled) return this.bindings().bindings.length;
    const set = this.#set;
    return set === undefined ? 0 : this.#memory.u32(set + BindingSet.bindings);
  }

  /**
   * Makes changes. Programs meet each one whole; what is written about them beside (numbers of bindings, labels' options, places
   * that are free) is right at the end only: until then, and for good if the process ends meanwhile, the state is unsettled.
   */
  change<T>(use: () => T): T {
    this.#memory.publishU32(SocketArena.unsettled, 1);
    this.#changes++;
    try {
      const result = use();
      if (this.#changes === 1) this.#memory.publishU32(SocketArena.unsettled, 0);
      return result;
    } finally {
      this.#changes--;
    }
  }

  /** A change is under way, or one failed or was ended in its middle, which {@link repair} puts right. */
  get unsettled(): boolean {
    return this.#memory.u32(SocketArena.unsettled) !== 0;
  }

  /**
   * Writes anew, from the bindings in force, what is written about them beside.
   * @param empty takes the socket, if any, out of a place of the socket map that no label names
   */
  repair(empty: (slot: number) => void): void {
    this.change(() => {
      const { bindings, labels } = this.bindings();
      const set = this.#set;
      if (set !== undefined) this.#memory.setU32(set + BindingSet.bindings, bindings.length);
      const key = (label: string, protocol: Protocol, family: Family): string =>
        `${label} ${protocol} ${family}`;
      const uses = new Map<string, number>();
      for (const { label, protocol, prefix } of bindings) {
        const name = key(label, protocol, prefix.address.family);
        uses.set(name, (uses.get(name) ?? 0) + 1);
      }
      for (const { index, label, protocol, family } of this.destinations.list()) {
        this.destinations.setOptions(index, labelOptions(labels, label));
        this.destinations.setBindings(index, uses.get(key(label, protocol, family)) ?? 0);
      }
      for (const slot of this.destinations.strayedSlots()) {
        empty(slot);
        this.destinations.freeSlot(slot);
      }
    });
  }

  /** The options of labels that the set in force gives. */
  labels(): BindingFile['labels'] {
    const set = this.#set;
    if (set === undefined) return new Map();
    const memory = this.#memory;
    const lines = memory.u32(set + BindingSet.labels) - memory.base;
    const text = decodeAscii(memory.bytes(lines, memory.u32(set + BindingSet.labelBytes)));
    return parseBindings(text, 'loaded labels').labels;
  }

  /** The set in force; bindings in no particular order. */
  bindings(): BindingFile {
    for (;;) {
      const set = this.#set;
      try {
        const bindings = set === undefined ? [] : this.#reader(set).bindings();
        const labels = this.labels();
        if (this.#set === set) return { bindings, labels };
      } catch (error) {
        if (this.#set === set) throw error;
      }
      // A writer has replaced the set meanwhile, and what was read may be of another one: anew.
    }
  }

  /** A label's destination, made if there is none; within a {@link change}. @throws {SocketStateError} `SOCKETS_FULL` */
  destination(label: string, protocol: Protocol, family: Family): DestinationState {
    let index = this.destinations.indexOf(label, protocol, family);
    if (index === undefined) {
      this.#grace();
      index = this.destinations.add(label, protocol, family, labelOptions(this.labels(), label));
    }
    return this.destinations.at(index);
  }

  /** The binding in force that means the same traffic. */
  sameTraffic(binding: Binding): Binding | undefined {
    const set = this.#set;
    return set === undefined ? undefined : this.#group(set, binding).same?.binding;
  }

  #reader(set: number): SetReader {
    const labels = new Map<number, string>();
    return new SetReader(this.#memory, this.#memory.base + set, (destination) => {
      let label = labels.get(destination);
      if (label === undefined) {
        label = this.destinations.labelOf(destination);
        labels.set(destination, label);
      }
      return label;
    });
  }

  #group(set: number, binding: Binding): Group {
    const all = this.#reader(set).group(binding.protocol, binding.prefix);
    const key = trafficKey(binding);
    return { all, same: all.find((other) => trafficKey(other.binding) === key) };
  }

  /**
   * Puts a whole set in force by one store. It must be free of conflicts.
   * @param ifindex index of a device, above 0
   * @throws {SocketStateError} `SOCKETS_FULL`; nothing has changed then
   */
  install(file: BindingFile, ifindex: (device: string) => number): void {
    this.change(() => this.#install(file, ifindex));
  }

  #install(file: BindingFile, ifindex: (device: string) => number): void {
    // Programs may still be reading the set before this one, and places that it alone named.
    this.#grace();
    const { origin, room } = this.#largestHole();
    const labels = encodeAscii(formatBindingFile({ bindings: [], labels: file.labels }));
    const { base } = this.#memory;
    const number = this.generation + 1;
    const names = new DestinationNames(this.destinations, file.labels, ifindex);
    const image = names.during(file.bindings.length, () =>
      buildImage(file.bindings, names, { origin: base + origin, room, number, labels }),
    );
    this.#memory.setBytes(origin, image);
    this.#memory.publishU32(SocketArena.root, base + origin);
    for (const { index, label } of this.destinations.list()) {
      this.destinations.setOptions(index, labelOptions(file.labels, label));
      this.destinations.setBindings(index, names.uses[index]!);
    }
  }

  /**
   * Adds a binding to the set in force, or gives the traffic of one that means the same to another label: one store.
   * @returns the binding that gave way
   * @throws {BindingsError} when it ties with another; {SocketStateError} `SOCKETS_FULL`; nothing has changed then
   */
  bind(binding: Binding, ifindex: (device: string) => number): Binding | undefined {
    const set = this.#set;
    if (set === undefined) {
      this.install({ bindings: [binding], labels: new Map() }, ifindex);
      return undefined;
    }
    const { all, same } = this.#group(set, binding);
    const others = all.filter((other) => other !== same);
    const together = [...others.map((other) => other.binding), binding];
    // Only bindings of one prefix can tie. Parsing says their lines.
    if (findConflicts(together).length > 0)
      parseBindings(formatBindingFile({ bindings: together, labels: new Map() }), 'bindings');
    return this.change(() => {
      // A new label may get a place that programs still know as another's.
      this.#grace();
      const names = new DestinationNames(this.destinations, this.labels(), ifindex);
      const added = names.during(1, () => numbered(names, binding));
      if (this.#replaceGroup(set, binding, [...others, added])) {
        this.#count(added.destination, 1);
        if (same !== undefined) this.#count(same.destination, -1);
        this.#changed(set, same === undefined ? 1 : 0);
      } else this.#rebuild(set, binding, together, ifindex);
      return same?.binding;
    });
  }

  /** Takes a binding out of the set in force by one store; `false` when its label has no such one. */
  unbind(binding: Binding, ifindex: (device: string) => number): boolean {
    const set = this.#set;
    if (set === undefined) return false;
    const { all, same } = this.#group(set, binding);
    if (same?.binding.label !== binding.label) return false;
    const others = all.filter((other) => other !== same);
    this.change(() => {
      if (this.#replaceGroup(set, binding, others)) {
        this.#count(same.destination, -1);
        this.#changed(set, -1);
      } else {
        const left = others.map((other) => other.binding);
        this.#rebuild(set, binding, left, ifindex);
      }
    });
    return true;
  }

  /** False: there is no room behind the set; nothing has changed then. */
  #replaceGroup(set: number, { protocol, prefix }: Binding, group: readonly NumberedBinding[]): boolean {
    const memory = this.#memory;
    // A set grows to half of the space at most, so that the next one has the other half.
    const room = Math.min(memory.length - set, (memory.length - layout.GENERATIONS_OFFSET) / 2);
    try {
      replaceGroup(memory, memory.base + set, room, protocol, prefix, group);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }

  /** Writes the whole set anew, which leaves behind what changes have left; bindings of one prefix are these. */
  #rebuild(
    set: number,
    { protocol, prefix }: Binding,
    group: readonly Binding[],
    ifindex: (device: string) => number,
  ): void {
    const others = this.#reader(set)
      .bindings()
      .filter((other) => other.protocol !== protocol || !samePrefix(other.prefix, prefix));
    this.#install({ bindings: [...others, ...group], labels: this.labels() }, ifindex);
  }

  #count(destination: number, more: number): void {
    this.destinations.setBindings(destination, this.destinations.bindings(destination) + more);
  }

  #changed(set: number, more: number): void {
    const number = this.generation + 1;
    const bindings = this.#memory.u32(set + BindingSet.bindings) + more;
    this.#memory.setU32(set + BindingSet.bindings, bindings);
    this.#memory.setU64(set + BindingSet.number, BigInt(number));
  }

  /** The longest free extent beside the set in force. */
  #largestHole(): { origin: number; room: number } {
    const end = this.#memory.length;
    const set = this.#set;
    if (set === undefined)
      return { origin: layout.GENERATIONS_OFFSET, room: end - layout.GENERATIONS_OFFSET };
    const after = layout.alignUp(set + this.#memory.u32(set + BindingSet.size), 4096);
    const before = set - layout.GENERATIONS_OFFSET;
    return before >= end - after
      ? { origin: layout.GENERATIONS_OFFSET, room: before }
      : { origin: after, room: end - after };
  }
}
