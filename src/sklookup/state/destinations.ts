/**
 * Destinations: a label's sockets of one protocol and family of packets, in the arena. Programs read them at any time;
 * only one writer at a time changes them.
 */
import { PROTOCOL_NUMBER, type Protocol } from '../binding.ts';
import { SocketStateError } from '../error.ts';
import * as layout from '../layout.ts';
import { AF_INET, AF_INET6 } from '../program/index.ts';
import { spreadPlaces } from '../spread.ts';
import type { LabelOptions } from '../text/file.ts';
import type { ArenaMemory } from './memory.ts';

const { Destination, DestinationFlag, Member, Members } = layout;
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

export class Destinations {
  readonly #memory: ArenaMemory;
  readonly #grace: () => void;

  /** @param grace see SocketState */
  constructor(memory: ArenaMemory, grace: () => void) {
    this.#memory = memory;
    this.#grace = grace;
  }

  list(): DestinationState[] {
    return this.#indices(true).map((index) => this.at(index));
  }

  /** Indices of the places that are used, or of those that are free. */
  #indices(used: boolean): number[] {
    // One view of all of them: there are thousands.
    const places = this.#memory.bytes(
      layout.DESTINATIONS_OFFSET,
      layout.MAX_DESTINATIONS * layout.DESTINATION_SIZE,
    );
    const found: number[] = [];
    for (let index = 0; index < layout.MAX_DESTINATIONS; index++) {
      if ((places[index * layout.DESTINATION_SIZE + Destination.protocol] !== 0) === used) found.push(index);
    }
    return found;
  }

  at(index: number): DestinationState {
    const at = destinationOffset(index);
    return {
      index,
      label: this.labelOf(index),
      protocol: this.#memory.u8(at + Destination.protocol) === PROTOCOL_NUMBER.tcp ? 'tcp' : 'udp',
      family: this.#memory.u8(at + Destination.family) === AF_INET ? 'ipv4' : 'ipv6',
      members: this.#members(index),
    };
  }

  labelOf(index: number): string {
    return this.#memory.text(destinationOffset(index) + Destination.label, 64);
  }

  indexOf(label: string, protocol: Protocol, family: Family): number | undefined {
    return this.list().find(
      (each) => each.label === label && each.protocol === protocol && each.family === family,
    )?.index;
  }

  /**
   * Makes a destination, without sockets. Programs that still run must not know the place as another's: the caller has
   * waited for them.
   * @throws {SocketStateError} `SOCKETS_FULL`
   */
  add(label: string, protocol: Protocol, family: Family, options: LabelOptions): number {
    const [index] = this.#indices(false);
    if (index === undefined) {
      throw new SocketStateError(
        'SOCKETS_FULL',
        `there is room for ${layout.MAX_DESTINATIONS} labels (counted for each protocol and family)`,
        'use one label for bindings that go to the same socket',
      );
    }
    const at = destinationOffset(index);
    this.#memory.setText(at + Destination.label, 64, label);
    this.#memory.setU8(at + Destination.family, family === 'ipv4' ? AF_INET : AF_INET6);
    this.#memory.setU32(at + Destination.bindings, 0);
    this.#memory.publishU64(at, BigInt(flagsOf(options, protocol)) << 32n);
    this.#memory.setU8(at + Destination.protocol, PROTOCOL_NUMBER[protocol]);
    return index;
  }

  /** Gives a place back. What it says stays until somebody else takes it: programs may be about to read it. */
  remove(index: number): void {
    this.#memory.setU8(destinationOffset(index) + Destination.protocol, 0);
  }

  setOptions(index: number, options: LabelOptions): void {
    const at = destinationOffset(index);
    const flags = flagsOf(options, this.at(index).protocol);
    const members = this.#memory.u32(at + Destination.members);
    if (this.#memory.u32(at + Destination.flags) !== flags)
      this.#memory.publishU64(at, BigInt(members) | (BigInt(flags) << 32n));
  }

  /** Says how many bindings name a destination; one that nobody names and no socket belongs to is given back. */
  setBindings(index: number, bindings: number): void {
    this.#memory.setU32(destinationOffset(index) + Destination.bindings, bindings);
    if (bindings === 0 && this.#members(index).length === 0) this.remove(index);
  }

  /** How many bindings name a destination. */
  bindings(index: number): number {
    return this.#memory.u32(destinationOffset(index) + Destination.bindings);
  }

  #members(index: number): MemberState[] {
    const pointer = this.#memory.u32(destinationOffset(index) + Destination.members);
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

  /** @throws {SocketStateError} `SOCKETS_FULL` when a label cannot have so many members */
  requireRoom(members: number): void {
    if (members <= layout.MAX_MEMBERS) return;
    throw new SocketStateError(
      'SOCKETS_FULL',
      `a label has room for ${layout.MAX_MEMBERS} sockets`,
      'unregister some, or give the sockets SO_REUSEPORT and register one of them',
    );
  }

  /** Replaces a destination's members by one store; slots that are no longer named stay reserved (see freeSlot). */
  setMembers(index: number, members: readonly MemberState[]): void {
    this.requireRoom(members.length);
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
    const owners = this.#slotOwners();
    for (let slot = 0; slot < layout.MAX_SLOTS; slot++) {
      if (owners(slot) !== 0) continue;
      const at = layout.SLOTS_OFFSET + slot * layout.SLOT_SIZE;
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

  /** Places in the socket map that are reserved and that no destination names: a register that was ended in its middle. */
  strayedSlots(): number[] {
    const named = new Set(this.list().flatMap(({ members }) => members.map(({ slot }) => slot)));
    const strayed: number[] = [];
    const owners = this.#slotOwners();
    for (let slot = 0; slot < layout.MAX_SLOTS; slot++)
      if (owners(slot) !== 0 && !named.has(slot)) strayed.push(slot);
    return strayed;
  }

  /** Who has a place of the socket map, plus 1; 0: nobody. By one view of all of them, as there are thousands. */
  #slotOwners(): (slot: number) => number {
    const slots = this.#memory.bytes(layout.SLOTS_OFFSET, layout.MAX_SLOTS * layout.SLOT_SIZE);
    const view = new DataView(slots.buffer, slots.byteOffset, slots.byteLength);
    return (slot) => view.getUint32(slot * layout.SLOT_SIZE + 4, true);
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
