/**
 * Changing a set in force: what is new is appended behind it, and one store makes it hold. Programs that run meanwhile
 * see the prefix as it was or as it is now, never without its bindings.
 */
import type { Prefix } from '../../net/index.ts';
import type { Protocol } from '../binding.ts';
import {
  alignUp,
  BindingSet,
  PrefixLength,
  PrefixTable,
  REGION_LENGTH,
  REMOVED,
  regionBit,
  tableIndex,
} from '../layout.ts';
import { prefixWords, regionOf } from './hash.ts';
import { type NumberedBinding, RecordWriter } from './records.ts';
import {
  claimSlot,
  findSlot,
  forEachSlot,
  initializeLength,
  isCrowded,
  lengthPointer,
  placesFor,
  recordField,
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
  const record = bindings.length === 0 ? REMOVED : new RecordWriter(writer).write(bindings);
  const commit = new Placement(memory, writer, set, protocol, prefix).place(record);
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

  constructor(memory: LiveMemory, writer: ImageWriter, set: number, protocol: Protocol, prefix: Prefix) {
    this.#memory = memory;
    this.#writer = writer;
    this.#set = set;
    this.#root = BindingSet.tables + 4 * tableIndex(protocol, prefix.address.family);
    this.#prefix = prefix;
    this.#count = prefixWords(prefix, this.#words);
  }

  place(record: number): () => void {
    const memory = this.#memory;
    const table = memory.loadU32(this.#set + this.#root);
    if (table === 0) return this.#newTable(record);
    this.#markRegion(table);
    const at = lengthPointer(table, this.#prefix.length);
    // Lengths lie in their order, and are linked from the longest on.
    let link = table + PrefixTable.first;
    for (let next = memory.loadU32(link); next > at; next = memory.loadU32(link))
      link = next + PrefixLength.next;
    return memory.loadU32(link) === at ? this.#inLength(at, record) : this.#newLength(link, at, record);
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
    this.#fillSlot(slots, places, this.#words, record);
  }

  #inLength(at: number, record: number): () => void {
    const memory = this.#memory;
    const [slots, places, used] = [PrefixLength.slots, PrefixLength.places, PrefixLength.used].map((field) =>
      memory.loadU32(at + field),
    ) as [number, number, number];
    const slot = findSlot(memory, slots, places, this.#words, this.#count);
    if (slot !== undefined) {
      const field = recordField(slot, this.#count);
      if (memory.loadU32(field) !== 0) return () => memory.publishPointer(field, record);
      if (!isCrowded(used + 1, places)) {
        claimSlot(memory, slot, this.#words, this.#count);
        return () => {
          memory.storeU32(at + PrefixLength.used, used + 1);
          memory.publishPointer(field, record);
        };
      }
    }
    return this.#grow(at, slots, places, record);
  }

  /** A bigger table of what is bound, and the new prefix. */
  #grow(at: number, slots: number, places: number, record: number): () => void {
    const memory = this.#memory;
    const live: number[] = [];
    forEachSlot(memory, slots, places, this.#count, (slot, found) => {
      if (found !== REMOVED) live.push(slot);
    });
    const bigger = placesFor(2 * (live.length + 1));
    const to = reserveSlots(this.#writer, this.#prefix.address.family, bigger);
    const words = new Uint32Array(4);
    for (const slot of live) {
      slotWords(memory, slot, words, this.#count);
      this.#fillSlot(to, bigger, words, memory.loadU32(recordField(slot, this.#count)));
    }
    this.#fillSlot(to, bigger, this.#words, record);
    return () => {
      memory.publishPair(at + PrefixLength.slots, to, bigger);
      memory.storeU32(at + PrefixLength.used, live.length + 1);
    };
  }

  #fillSlot(slots: number, places: number, words: Uint32Array, record: number): void {
    const slot = findSlot(this.#writer, slots, places, words, this.#count);
    if (slot === undefined) throw new RangeError('too many prefixes have neighbouring hashes');
    claimSlot(this.#writer, slot, words, this.#count);
    this.#writer.storeU32(recordField(slot, this.#count), record);
  }

  /** A region that says too much costs a search in vain; so it may be marked before, and stays. */
  #markRegion(table: number): void {
    const memory = this.#memory;
    const { address, length } = this.#prefix;
    const regions = memory.loadU32(table + PrefixTable.regions);
    if (regions === 0 || length < REGION_LENGTH[address.family]) return;
    const at = regions + 4 * regionOf(this.#words, this.#count);
    memory.storeU32(at, (memory.loadU32(at) | regionBit(length)) >>> 0);
  }
}
