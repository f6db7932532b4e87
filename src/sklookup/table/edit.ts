/**
 * Changing a set in force: what is new is appended behind it, and one store makes it hold. Programs that run meanwhile
 * see the prefix as it was or as it is now, never without its bindings.
 */
import type { Prefix } from '../../net/index.ts';
import type { Protocol } from '../binding.ts';
import {
  alignUp,
  BindingRecord,
  BindingSet,
  BLOCK_PLACES,
  EACH,
  PrefixLength,
  PrefixTable,
  REGION_LENGTH,
  regionBit,
  tableIndex,
} from '../layout.ts';
import {
  blockWords,
  boundBit,
  boundField,
  loadBlock,
  placeInBlock,
  recordField,
  storeBound,
  writeBlock,
  writeEach,
} from './block.ts';
import { regionOf } from './hash.ts';
import { isUnconditional, type NumberedBinding, RecordWriter } from './records.ts';
import {
  claimSlot,
  findSlot,
  forEachSlot,
  initializeLength,
  isCrowded,
  lengthPointer,
  placesFor,
  reserveSlots,
  reserveTable,
  slotWords,
} from './slots.ts';
import { ImageWriter, type TableMemory } from './writer.ts';

/** Memory that programs are reading. */
export interface LiveMemory extends TableMemory {
  /** Copies bytes to a pointer. */
  storeBytes(pointer: number, bytes: Uint8Array): void;
  /** One aligned store, after everything that was stored before it. */
  publishPointer(pointer: number, value: number): void;
  /** Likewise, of a pointer and the word behind it. */
  publishPair(pointer: number, first: number, second: number): void;
}

/** Greatest alignment in tables. */
const ALIGNMENT = 128;

/**
 * Puts these bindings in the place of those that a prefix has; none at all take it out.
 * @param set pointer to the set
 * @param room bytes that the set may have at most
 * @throws {RangeError} when there is not room enough; nothing has changed then
 */
export function replaceGroup(
  memory: LiveMemory,
  set: number,
  room: number,
  protocol: Protocol,
  prefix: Prefix,
  bindings: readonly NumberedBinding[],
): void {
  const size = alignUp(memory.loadU32(set + BindingSet.size), ALIGNMENT);
  const writer = new ImageWriter(set + size, room - size);
  const commit = new Placement(memory, writer, set, protocol, prefix).place(bindings);
  if (writer.length > 0) {
    memory.storeBytes(writer.origin, writer.bytes());
    memory.storeU32(set + BindingSet.size, size + writer.length);
  }
  commit();
}

/** Where the record of a prefix goes: prepared out of programs' sight, with the one store that remains to be done. */
class Placement {
  readonly #memory: LiveMemory;
  readonly #writer: ImageWriter;
  readonly #set: number;
  readonly #root: number;
  readonly #prefix: Prefix;
  readonly #words: Uint32Array = new Uint32Array(4);
  readonly #count: 1 | 4;
  readonly #place: number;

  constructor(memory: LiveMemory, writer: ImageWriter, set: number, protocol: Protocol, prefix: Prefix) {
    this.#memory = memory;
    this.#writer = writer;
    this.#set = set;
    this.#root = BindingSet.tables + 4 * tableIndex(protocol, prefix.address.family);
    this.#prefix = prefix;
    this.#count = blockWords(prefix, this.#words);
    this.#place = placeInBlock(prefix);
  }

  /** @returns the store that remains to be done; there is none when nothing is bound and nothing was */
  place(bindings: readonly NumberedBinding[]): () => void {
    const memory = this.#memory;
    const table = memory.loadU32(this.#set + this.#root);
    if (table === 0) return bindings.length === 0 ? () => {} : this.#newTable(this.#records(bindings));
    const at = lengthPointer(table, this.#prefix.length);
    // Lengths lie in their order, and are linked from the longest on.
    let link = table + PrefixTable.first;
    for (let next = memory.loadU32(link); next > at; next = memory.loadU32(link))
      link = next + PrefixLength.next;
    const occurs = memory.loadU32(link) === at;
    if (bindings.length === 0) return occurs ? this.#remove(at) : () => {};
    this.#markRegion(table);
    return occurs ? this.#inLength(at, bindings) : this.#newLength(link, at, this.#records(bindings));
  }

  #records(bindings: readonly NumberedBinding[]): number {
    return new RecordWriter(this.#writer).write(bindings);
  }

  #newTable(record: number): () => void {
    const { family } = this.#prefix.address;
    const table = reserveTable(this.#writer, family);
    const at = lengthPointer(table, this.#prefix.length);
    this.#fillLength(this.#writer, at, record);
    this.#writer.storeU32(table + PrefixTable.first, at);
    return () => this.#memory.publishPointer(this.#set + this.#root, table);
  }

  /** A length that did not occur goes between its longer and its shorter neighbours. */
  #newLength(link: number, at: number, record: number): () => void {
    const memory = this.#memory;
    this.#fillLength(memory, at, record);
    memory.storeU32(at + PrefixLength.next, memory.loadU32(link));
    return () => memory.publishPointer(link, at);
  }

  #fillLength(memory: TableMemory, at: number, record: number): void {
    const { address, length } = this.#prefix;
    const places = placesFor(1);
    const slots = reserveSlots(this.#writer, address.family, places);
    initializeLength(memory, at, address.family, length, slots, places);
    memory.storeU32(at + PrefixLength.used, 1);
    memory.storeU32(at + PrefixLength.usual, record);
    writeBlock(this.#writer, this.#freeSlot(slots, places, this.#words), this.#count, this.#alone(record));
  }

  /** A block in which this prefix alone is bound. */
  #alone(record: number): Uint32Array {
    const records = new Uint32Array(BLOCK_PLACES);
    records[this.#place] = record;
    return records;
  }

  #remove(at: number): () => void {
    const memory = this.#memory;
    const slot = this.#find(at);
    if (slot === undefined || memory.loadU32(recordField(slot, this.#count)) === 0) return () => {};
    return this.#inBlock(slot, 0);
  }

  #find(at: number): number | undefined {
    const memory = this.#memory;
    const [slots, places] = [
      memory.loadU32(at + PrefixLength.slots),
      memory.loadU32(at + PrefixLength.places),
    ];
    return findSlot(memory, slots, places, this.#words, this.#count);
  }

  #inLength(at: number, bindings: readonly NumberedBinding[]): () => void {
    const memory = this.#memory;
    const [places, used] = [memory.loadU32(at + PrefixLength.places), memory.loadU32(at + PrefixLength.used)];
    const slot = this.#find(at);
    if (slot !== undefined) {
      const field = recordField(slot, this.#count);
      const bound = memory.loadU32(field);
      if (bound !== 0) {
        const says = (bound & EACH) === 0 && this.#saysAlready(bound, bindings);
        return this.#inBlock(slot, says ? bound : this.#records(bindings));
      }
      const record = this.#records(bindings);
      if (!isCrowded(used + 1, places)) {
        claimSlot(memory, slot, this.#words, this.#count);
        const [low, high] = boundBit(this.#place);
        storeBound(memory, slot, this.#count, low, high);
        return () => {
          memory.storeU32(at + PrefixLength.used, used + 1);
          memory.publishPointer(field, record);
        };
      }
      return this.#grow(at, record);
    }
    return this.#grow(at, this.#records(bindings));
  }

  /** True when a record in force is what would be written for the only binding of a prefix. */
  #saysAlready(record: number, bindings: readonly NumberedBinding[]): boolean {
    const memory = this.#memory;
    const [only] = bindings;
    if (only === undefined || bindings.length > 1 || !isUnconditional(only)) return false;
    const { min, max } = only.binding.ports;
    return (
      memory.loadU32(record + BindingRecord.flags) === 0 &&
      memory.loadU32(record + BindingRecord.next) === 0 &&
      memory.loadU32(record + BindingRecord.portMin) === min + max * 2 ** 16 &&
      memory.loadU32(record + BindingRecord.destination) === only.destination
    );
  }

  /** The prefix gets another record in its block, or with 0 none. A block that lists records goes on listing them. */
  #inBlock(slot: number, record: number): () => void {
    const memory = this.#memory;
    const field = recordField(slot, this.#count);
    const bits = boundField(slot, this.#count);
    const common = memory.loadU32(field);
    if ((common & EACH) !== 0) return () => memory.publishPointer(common - EACH + 4 * this.#place, record);
    const [low, high] = [memory.loadU32(bits), memory.loadU32(bits + 4)];
    const own = boundBit(this.#place);
    if (record === 0) return () => memory.publishPair(bits, (low & ~own[0]) >>> 0, (high & ~own[1]) >>> 0);
    if (record === common) return () => memory.publishPair(bits, (low | own[0]) >>> 0, (high | own[1]) >>> 0);
    if (low === own[0] && high === own[1]) return () => memory.publishPointer(field, record);
    const records = new Uint32Array(BLOCK_PLACES);
    loadBlock(memory, slot, this.#count, records);
    records[this.#place] = record;
    const each = writeEach(this.#writer, records);
    return () => memory.publishPointer(field, each + EACH);
  }

  /** A bigger table of what is bound, and the new prefix, whose block is none of them. */
  #grow(at: number, record: number): () => void {
    const memory = this.#memory;
    const [slots, places] = [
      memory.loadU32(at + PrefixLength.slots),
      memory.loadU32(at + PrefixLength.places),
    ];
    const records = new Uint32Array(BLOCK_PLACES);
    const live: number[] = [];
    forEachSlot(memory, slots, places, this.#count, (slot) => {
      loadBlock(memory, slot, this.#count, records);
      if (records.some((found) => found !== 0)) live.push(slot);
    });
    const bigger = placesFor(2 * (live.length + 1));
    const to = reserveSlots(this.#writer, this.#prefix.address.family, bigger);
    const words = new Uint32Array(4);
    for (const slot of live) {
      slotWords(memory, slot, words, this.#count);
      loadBlock(memory, slot, this.#count, records);
      writeBlock(this.#writer, this.#freeSlot(to, bigger, words), this.#count, records);
    }
    writeBlock(this.#writer, this.#freeSlot(to, bigger, this.#words), this.#count, this.#alone(record));
    return () => {
      memory.publishPair(at + PrefixLength.slots, to, bigger);
      memory.storeU32(at + PrefixLength.used, live.length + 1);
    };
  }

  /** The slot of a block in a table that is being written. */
  #freeSlot(slots: number, places: number, words: Uint32Array): number {
    const slot = findSlot(this.#writer, slots, places, words, this.#count);
    if (slot === undefined) throw new RangeError('too many prefixes have neighbouring hashes');
    claimSlot(this.#writer, slot, words, this.#count);
    return slot;
  }

  /** A region that says too much costs a search in vain; so it may be marked before, and stays. */
  #markRegion(table: number): void {
    const memory = this.#memory;
    const { address, length } = this.#prefix;
    const regions = memory.loadU32(table + PrefixTable.regions);
    if (regions === 0 || length < REGION_LENGTH[address.family]) return;
    const at = regions + 4 * regionOf(address);
    memory.storeU32(at, (memory.loadU32(at) | regionBit(length)) >>> 0);
  }
}
