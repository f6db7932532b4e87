/** A set of bindings as the bytes of a generation. */
import { type Binding, bindingFamily, type Protocol } from '../binding.ts';
import {
  BINDING_SET_HEADER,
  BINDING_SET_MAGIC,
  BindingSet,
  BLOCK_PLACES,
  PrefixLength,
  PrefixTable,
  REGION_LENGTH,
  REGIONS,
  regionBit,
  SOCKET_LAYOUT_VERSION,
  tableIndex,
} from '../layout.ts';
import { blockWords, boundBit, placeInBlock, recordField, storeBound, writeBlock } from './block.ts';
import { hashWords, regionOf } from './hash.ts';
import { type NumberedBinding, RecordWriter } from './records.ts';
import {
  claimSlot,
  findSlot,
  forEachSlot,
  initializeLength,
  lengthCount,
  lengthPointer,
  placesFor,
  reserveSlots,
  reserveTable,
} from './slots.ts';
import { ImageWriter } from './writer.ts';

type Family = 'ipv4' | 'ipv6';

/** What the builder asks of its surroundings. */
export interface ImageNames {
  /** Index of the destination for a label's sockets; asked once for each binding. */
  destination(label: string, protocol: Protocol, family: Family): number;
  /** Index of a device, above 0. */
  ifindex(device: string): number;
}

export interface ImageOptions {
  /** Pointer at which the bytes will lie; a multiple of 4,096. */
  readonly origin: number;
  /** Bytes that there is room for. */
  readonly room: number;
  readonly number: number;
  /** The lines that say the labels' options. */
  readonly labels: Uint8Array;
}

/** Sets of more prefixes than this, of several lengths, say by region which lengths occur. */
const WITHOUT_REGIONS = 4096;

/**
 * Builds a generation. The set must be free of conflicts (see findConflicts).
 * @throws {RangeError} when there is not room enough
 */
export function buildImage(
  bindings: readonly Binding[],
  names: ImageNames,
  options: ImageOptions,
): Uint8Array<ArrayBuffer> {
  const writer = new ImageWriter(options.origin, options.room);
  writer.reserve(BINDING_SET_HEADER, 64);
  const tables = [0, 1, 2, 3].map((): Binding[] => []);
  for (const binding of bindings) tables[tableIndex(binding.protocol, bindingFamily(binding))]!.push(binding);
  const pointers = tables.map((table) => (table.length === 0 ? 0 : writeTable(writer, table, names)));
  const labels = writer.reserve(options.labels.length, 8);
  writer.setBytes(labels, options.labels);
  writer.setU32(BindingSet.magic, BINDING_SET_MAGIC);
  writer.setU32(BindingSet.version, SOCKET_LAYOUT_VERSION);
  writer.setU64(BindingSet.number, BigInt(options.number));
  writer.setU32(BindingSet.size, writer.length);
  writer.setU32(BindingSet.bindings, bindings.length);
  for (const [index, pointer] of pointers.entries()) writer.setU32(BindingSet.tables + index * 4, pointer);
  writer.setU32(BindingSet.labels, writer.pointer(labels));
  writer.setU32(BindingSet.labelBytes, options.labels.length);
  return writer.bytes();
}

/**
 * All bindings of one protocol and family. First every binding finds its block's slot, where bindings of one block become a
 * list; then each list becomes records. Nothing but numbers is sorted.
 */
function writeTable(writer: ImageWriter, bindings: readonly Binding[], names: ImageNames): number {
  const { family } = bindings[0]!.prefix.address;
  const count = family === 'ipv4' ? 1 : 4;
  const table = reserveTable(writer, family);
  const lengths = linkLengths(writer, table, family, bindings);
  const regions =
    lengths.length > 1 && bindings.length > WITHOUT_REGIONS
      ? writer.pointer(writer.reserve(REGIONS * 4, 64))
      : 0;
  writer.storeU32(table + PrefixTable.regions, regions);
  const words = new Uint32Array(4);
  // In a slot, until it is written: the last binding of its block, counted from 1; the others in `before`.
  const before = new Int32Array(bindings.length);
  for (let index = 0; index < bindings.length; index++) {
    const { prefix } = bindings[index]!;
    const at = lengthPointer(table, prefix.length);
    blockWords(prefix, words);
    const slots = writer.loadU32(at + PrefixLength.slots);
    const slot = findSlot(writer, slots, writer.loadU32(at + PrefixLength.places), words, count);
    if (slot === undefined) throw new RangeError('too many prefixes have neighbouring hashes');
    const field = recordField(slot, count);
    before[index] = writer.loadU32(field);
    if (before[index] === 0) {
      claimSlot(writer, slot, words, count);
      writer.storeU32(at + PrefixLength.used, writer.loadU32(at + PrefixLength.used) + 1);
    }
    if (regions !== 0 && prefix.length >= REGION_LENGTH[family]) {
      const region = regions + regionOf(prefix.address) * 4;
      writer.storeU32(region, (writer.loadU32(region) | regionBit(prefix.length)) >>> 0);
    }
    writer.storeU32(field, index + 1);
  }
  const blocks = new BlockWriter(writer, names, bindings, before);
  for (const length of lengths) {
    const at = lengthPointer(table, length);
    const [slots, places] = [
      writer.loadU32(at + PrefixLength.slots),
      writer.loadU32(at + PrefixLength.places),
    ];
    const usual = new Majority();
    forEachSlot(writer, slots, places, count, (slot) => {
      usual.add(blocks.write(slot, count, writer.loadU32(recordField(slot, count))));
    });
    writer.storeU32(at + PrefixLength.usual, usual.value);
  }
  return table;
}

/** Makes records of lists of bindings that share a block. */
class BlockWriter {
  readonly #writer: ImageWriter;
  readonly #names: ImageNames;
  readonly #bindings: readonly Binding[];
  readonly #before: Int32Array;
  readonly #records: RecordWriter;
  readonly #groups: (NumberedBinding[] | undefined)[] = Array.from({ length: BLOCK_PLACES });
  readonly #pointers = new Uint32Array(BLOCK_PLACES);

  /** @param before for each binding the one before it in its list, counted from 1; 0: none */
  constructor(writer: ImageWriter, names: ImageNames, bindings: readonly Binding[], before: Int32Array) {
    this.#writer = writer;
    this.#names = names;
    this.#bindings = bindings;
    this.#before = before;
    this.#records = new RecordWriter(writer);
  }

  /** @param last the last binding of the block, counted from 1. @returns the record that all have, or 0 */
  write(slot: number, count: 1 | 4, last: number): number {
    if (this.#before[last - 1] === 0) {
      const binding = this.#bindings[last - 1]!;
      const record = this.#records.write([numbered(this.#names, binding)]);
      const [low, high] = boundBit(placeInBlock(binding.prefix));
      storeBound(this.#writer, slot, count, low, high);
      this.#writer.storeU32(recordField(slot, count), record);
      return record;
    }
    this.#pointers.fill(0);
    for (let index = last; index !== 0; index = this.#before[index - 1]!) {
      const binding = this.#bindings[index - 1]!;
      const place = placeInBlock(binding.prefix);
      const group = this.#groups[place];
      if (group === undefined) this.#groups[place] = [numbered(this.#names, binding)];
      else group.push(numbered(this.#names, binding));
    }
    for (let place = 0; place < BLOCK_PLACES; place++) {
      const group = this.#groups[place];
      if (group === undefined) continue;
      this.#pointers[place] = this.#records.write(group);
      this.#groups[place] = undefined;
    }
    return writeBlock(this.#writer, slot, count, this.#pointers);
  }
}

/** The value that more than half of those given have, if there is one (Boyer and Moore); else any, or 0. */
class Majority {
  value = 0;
  #votes = 0;

  add(value: number): void {
    if (value === 0) return;
    if (this.#votes === 0) this.value = value;
    this.#votes += value === this.value ? 1 : -1;
  }
}

/** Makes room for the lengths that occur and links them, the longest first; they come back in that order. */
function linkLengths(
  writer: ImageWriter,
  table: number,
  family: Family,
  bindings: readonly Binding[],
): number[] {
  const hashes = blockHashes(family, bindings);
  const lengths: number[] = [];
  let link = table + PrefixTable.first;
  for (let length = hashes.length - 1; length >= 0; length--) {
    if (hashes[length]!.length === 0) continue;
    const places = placesFor(countDistinct(hashes[length]!));
    const at = lengthPointer(table, length);
    initializeLength(writer, at, family, length, reserveSlots(writer, family, places), places);
    writer.storeU32(link, at);
    link = at + PrefixLength.next;
    lengths.push(length);
  }
  return lengths;
}

/** For each length the hashes of its bindings' blocks. */
function blockHashes(family: Family, bindings: readonly Binding[]): Uint32Array[] {
  const occurrences = new Uint32Array(lengthCount(family));
  for (const { prefix } of bindings) occurrences[prefix.length]!++;
  const hashes = Array.from(occurrences, (occurring) => new Uint32Array(occurring));
  const words = new Uint32Array(4);
  for (const { prefix } of bindings) {
    const count = blockWords(prefix, words);
    hashes[prefix.length]![--occurrences[prefix.length]!] = hashWords(words, count);
  }
  return hashes;
}

/** Sorts them; blocks of equal hashes count as one, which a table half full does not feel. */
function countDistinct(hashes: Uint32Array): number {
  hashes.sort();
  let count = 1;
  for (let at = 1; at < hashes.length; at++) if (hashes[at] !== hashes[at - 1]) count++;
  return count;
}

/** A binding with the numbers that the program wants. */
export function numbered(names: ImageNames, binding: Binding): NumberedBinding {
  const { label, protocol, device } = binding;
  return {
    binding,
    destination: names.destination(label, protocol, bindingFamily(binding)),
    ifindex: device === undefined ? 0 : names.ifindex(device),
  };
}
