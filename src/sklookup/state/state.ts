/**
 * The contents of a socket arena: destinations, their members, slots, and the set of bindings in force. What the kernel
 * host and the netstack share. Only one writer at a time; programs read at any time and never wait.
 */
import { bindingFamily, PROTOCOL_NUMBER, type Protocol } from '../binding.ts';
import { SocketStateError } from '../error.ts';
import * as layout from '../layout.ts';
import { AF_INET, AF_INET6 } from '../program/index.ts';
import { spreadPlaces } from '../spread.ts';
import { buildImage } from '../table/image.ts';
import {
  type BindingFile,
  EMPTY_BINDING_FILE,
  formatBindingFile,
  type LabelOptions,
  labelOptions,
} from '../text/file.ts';
import { parseBindings } from '../text/parse.ts';
import { type ArenaMemory, decodeAscii, encodeAscii } from './memory.ts';

const { Destination, DestinationFlag, Member, Members, SocketArena } = layout;
type Family = 'ipv4' | 'ipv6';

/** A label's sockets of one protocol and family of packets. */
export interface DestinationState {
  readonly index: number;
  readonly label: string;
  readonly protocol: Protocol;
  readonly family: Family;
  readonly members: readonly MemberState[];
}

export interface MemberState {
  /** Place in the socket map. */
  readonly slot: number;
  /** 0: draining. */
  readonly weight: number;
  /** Local address and port when it was registered; 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

/** Who an arena belongs to. */
export interface ArenaOwner {
  readonly netnsCookie: bigint;
  readonly netnsInode: number;
  readonly netnsName: string;
}

export class SocketState {
  readonly #memory: ArenaMemory;
  readonly #grace: () => void;

  /** @param grace returns when every program that was running has ended; memory that they may read is reused after it */
  constructor(memory: ArenaMemory, grace: () => void) {
    this.#memory = memory;
    this.#grace = grace;
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

  // The set of bindings.

  /** Offset of the generation in force; `undefined` before the first. */
  get #generation(): number | undefined {
    const root = this.#memory.u32(SocketArena.root);
    return root === 0 ? undefined : root - this.#memory.base;
  }

  /** Counts up with each change; 0 before the first. */
  get generation(): number {
    const at = this.#generation;
    return at === undefined ? 0 : Number(this.#memory.u64(at + layout.BindingSet.number));
  }

  /** How many bindings are in force. */
  get bindingCount(): number {
    const at = this.#generation;
    return at === undefined ? 0 : this.#memory.u32(at + layout.BindingSet.bindings);
  }

  /** The text that says the set in force. */
  bindingText(): string {
    const at = this.#generation;
    if (at === undefined) return '';
    const text = this.#memory.u32(at + layout.BindingSet.text) - this.#memory.base;
    return decodeAscii(this.#memory.bytes(text, this.#memory.u32(at + layout.BindingSet.textBytes)));
  }

  bindings(): BindingFile {
    const text = this.bindingText();
    return text === '' ? EMPTY_BINDING_FILE : parseBindings(text, 'loaded bindings');
  }

  /**
   * Puts a whole set in force by one store. It must be free of conflicts.
   * @param ifindex index of a device, above 0
   * @throws {SocketStateError} `SOCKETS_FULL`; nothing has changed then
   */
  install(file: BindingFile, ifindex: (device: string) => number): void {
    // Programs may still be reading the generation before this one, and places that it alone named.
    this.#grace();
    const destinations = this.#destinationIndices();
    const added: number[] = [];
    const names = {
      ifindex,
      destination: (label: string, protocol: Protocol, family: Family): number => {
        const key = destinationKey(label, protocol, family);
        let index = destinations.get(key);
        if (index === undefined) {
          index = this.#addDestination(label, protocol, family, labelOptions(file, label));
          destinations.set(key, index);
          added.push(index);
        }
        return index;
      },
    };
    const { origin, room } = this.#largestHole();
    const text = encodeAscii(formatBindingFile(file));
    const { base } = this.#memory;
    let image: Uint8Array;
    try {
      const number = this.generation + 1;
      image = buildImage(file.bindings, names, { origin: base + origin, room, number, text });
    } catch (error) {
      for (const index of added) this.#memory.setU8(destinationOffset(index) + Destination.protocol, 0);
      if (!(error instanceof RangeError)) throw error;
      throw new SocketStateError(
        'SOCKETS_FULL',
        `${file.bindings.length} bindings do not fit the arena: ${error.message}`,
        'merge prefixes or ports, or use fewer bindings',
      );
    }
    this.#memory.setBytes(origin, image);
    this.#memory.publishU32(SocketArena.root, base + origin);
    for (const index of destinations.values()) this.#setOptions(index, file);
    this.#releaseUnused(file);
  }

  /** The longest free extent beside the generation in force. */
  #largestHole(): { origin: number; room: number } {
    const end = this.#memory.length;
    const at = this.#generation;
    if (at === undefined) return { origin: layout.GENERATIONS_OFFSET, room: end - layout.GENERATIONS_OFFSET };
    const after = layout.alignUp(at + this.#memory.u32(at + layout.BindingSet.size), 4096);
    const before = at - layout.GENERATIONS_OFFSET;
    return before >= end - after
      ? { origin: layout.GENERATIONS_OFFSET, room: before }
      : { origin: after, room: end - after };
  }

  // Destinations.

  destinations(): DestinationState[] {
    const found: DestinationState[] = [];
    for (let index = 0; index < layout.MAX_DESTINATIONS; index++) {
      const at = destinationOffset(index);
      const protocol = this.#memory.u8(at + Destination.protocol);
      if (protocol === 0) continue;
      found.push({
        index,
        label: this.#memory.text(at + Destination.label, 64),
        protocol: protocol === PROTOCOL_NUMBER.tcp ? 'tcp' : 'udp',
        family: this.#memory.u8(at + Destination.family) === AF_INET ? 'ipv4' : 'ipv6',
        members: this.#members(at),
      });
    }
    return found;
  }

  #destinationIndices(): Map<string, number> {
    return new Map(
      this.destinations().map(({ label, protocol, family, index }) => [
        destinationKey(label, protocol, family),
        index,
      ]),
    );
  }

  /** The destination, made if there is none. @throws {SocketStateError} `SOCKETS_FULL` */
  destination(label: string, protocol: Protocol, family: Family, options: LabelOptions): DestinationState {
    const key = destinationKey(label, protocol, family);
    const index =
      this.#destinationIndices().get(key) ?? this.#addDestination(label, protocol, family, options);
    return { index, label, protocol, family, members: this.#members(destinationOffset(index)) };
  }

  #addDestination(label: string, protocol: Protocol, family: Family, options: LabelOptions): number {
    for (let index = 0; index < layout.MAX_DESTINATIONS; index++) {
      const at = destinationOffset(index);
      if (this.#memory.u8(at + Destination.protocol) !== 0) continue;
      this.#memory.setText(at + Destination.label, 64, label);
      this.#memory.setU8(at + Destination.family, family === 'ipv4' ? AF_INET : AF_INET6);
      this.#memory.publishU64(at, BigInt(flagsOf(options, protocol)) << 32n);
      this.#memory.setU8(at + Destination.protocol, PROTOCOL_NUMBER[protocol]);
      return index;
    }
    throw new SocketStateError(
      'SOCKETS_FULL',
      `there is room for ${layout.MAX_DESTINATIONS} labels (counted for each protocol and family)`,
      'use one label for bindings that go to the same socket',
    );
  }

  #setOptions(index: number, file: BindingFile): void {
    const at = destinationOffset(index);
    const label = this.#memory.text(at + Destination.label, 64);
    const protocol = this.#memory.u8(at + Destination.protocol) === PROTOCOL_NUMBER.tcp ? 'tcp' : 'udp';
    const flags = flagsOf(labelOptions(file, label), protocol);
    const members = this.#memory.u32(at + Destination.members);
    if (this.#memory.u32(at + Destination.flags) !== flags)
      this.#memory.publishU64(at, BigInt(members) | (BigInt(flags) << 32n));
  }

  /** Frees destinations that no binding names and no socket belongs to. */
  #releaseUnused(file: BindingFile): void {
    const used = new Set(
      file.bindings.map((binding) => destinationKey(binding.label, binding.protocol, bindingFamily(binding))),
    );
    for (const { index, label, protocol, family, members } of this.destinations()) {
      if (members.length > 0 || used.has(destinationKey(label, protocol, family))) continue;
      this.#memory.setU8(destinationOffset(index) + Destination.protocol, 0);
    }
  }

  // Members and slots.

  #members(at: number): MemberState[] {
    const pointer = this.#memory.u32(at + Destination.members);
    if (pointer === 0) return [];
    const block = pointer - this.#memory.base;
    const count = Math.min(layout.MAX_MEMBERS, this.#memory.u32(block + Members.count));
    return Array.from({ length: count }, (_, index) => {
      const member = block + Members.list + index * layout.MEMBER_SIZE;
      const width = this.#memory.u16(member + Member.family) === AF_INET6 ? 16 : 4;
      return {
        slot: this.#memory.u32(member + Member.slot),
        weight: this.#memory.u32(member + Member.weight),
        port: this.#memory.u16(member + Member.port),
        address: this.#memory.bytes(member + Member.address, width).slice(),
      };
    });
  }

  /** Replaces a destination's members by one store; slots that are no longer named stay reserved (see freeSlot). */
  setMembers(index: number, members: readonly MemberState[]): void {
    if (members.length > layout.MAX_MEMBERS) {
      throw new SocketStateError(
        'SOCKETS_FULL',
        `a label has room for ${layout.MAX_MEMBERS} sockets`,
        'unregister some, or give the sockets SO_REUSEPORT and register one of them',
      );
    }
    const memory = this.#memory;
    const at = destinationOffset(index);
    const first = layout.MEMBERS_OFFSET + index * 2 * layout.MEMBERS_SIZE;
    const inUse = memory.u32(at + Destination.members);
    const block = inUse === memory.base + first ? first + layout.MEMBERS_SIZE : first;
    if (inUse !== 0) this.#grace();
    const bytes = memberBytes(members);
    memory.setBytes(block, bytes);
    const flags = memory.u32(at + Destination.flags);
    const pointer = members.length === 0 ? 0 : memory.base + block;
    memory.publishU64(at, BigInt(pointer) | (BigInt(flags) << 32n));
  }

  /** A free place in the socket map, reserved for a destination. @throws {SocketStateError} `SOCKETS_FULL` */
  reserveSlot(destination: number): number {
    for (let slot = 0; slot < layout.MAX_SLOTS; slot++) {
      const at = layout.SLOTS_OFFSET + slot * layout.SLOT_SIZE;
      if (this.#memory.u32(at + 4) !== 0) continue;
      const epoch = BigInt((this.#memory.u32(at) + 1) >>> 0);
      this.#memory.publishU64(at, epoch | (BigInt(destination + 1) << 32n));
      return slot;
    }
    throw new SocketStateError(
      'SOCKETS_FULL',
      `there is room for ${layout.MAX_SLOTS} sockets`,
      'unregister sockets that are not needed',
    );
  }

  /** Gives a place back; flows that were kept on it are new ones from now on. */
  freeSlot(slot: number): void {
    const at = layout.SLOTS_OFFSET + slot * layout.SLOT_SIZE;
    this.#memory.publishU64(at, BigInt((this.#memory.u32(at) + 1) >>> 0));
  }
}

function destinationOffset(index: number): number {
  return layout.DESTINATIONS_OFFSET + index * layout.DESTINATION_SIZE;
}

function destinationKey(label: string, protocol: Protocol, family: Family): string {
  return `${label} ${protocol} ${family}`;
}

function flagsOf(options: LabelOptions, protocol: Protocol): number {
  return (
    (options.whenEmpty === 'pass' ? DestinationFlag.PASS_WHEN_EMPTY : 0) |
    (options.flows === 'keep' && protocol === 'udp' ? DestinationFlag.KEEP_FLOWS : 0)
  );
}

/** A block of members with its table; draining members have no places in it. */
function memberBytes(members: readonly MemberState[]): Uint8Array {
  const bytes = new Uint8Array(layout.MEMBERS_SIZE);
  const view = new DataView(bytes.buffer);
  const active = members.filter(({ weight }) => weight > 0);
  const places =
    active.length === 1
      ? Uint16Array.of(members.indexOf(active[0]!))
      : spreadPlaces(members.map(({ slot, weight }) => ({ seed: slot, weight })));
  view.setUint32(Members.places, places.length, true);
  view.setUint32(Members.count, members.length, true);
  for (const [index, { slot, weight, port, address }] of members.entries()) {
    const at = Members.list + index * layout.MEMBER_SIZE;
    view.setUint32(at + Member.slot, slot, true);
    view.setUint32(at + Member.weight, weight, true);
    view.setUint16(at + Member.port, port, true);
    view.setUint16(at + Member.family, address.length === 16 ? AF_INET6 : AF_INET, true);
    bytes.set(address, at + Member.address);
  }
  for (const [place, index] of places.entries())
    view.setUint16(Members.table + place * 2, members[index]!.slot, true);
  return bytes;
}
