/** Bindings out of the tables that say them: tables are the only place where a set in force is written down. */
import type { Address, Prefix } from '../../net/index.ts';
import type { Binding, Protocol } from '../binding.ts';
import {
  BindingRecord,
  BindingSet,
  BLOCK_PLACES,
  DEVICE_NAME_BYTES,
  PrefixLength,
  PrefixTable,
  RecordFlag,
  tableIndex,
} from '../layout.ts';
import { addressInBlock, blockWords, loadBlock, placeInBlock, recordField } from './block.ts';
import type { NumberedBinding } from './records.ts';
import { findSlot, forEachSlot, lengthCount, lengthPointer, slotWords } from './slots.ts';
import type { TableMemory } from './writer.ts';

type Family = 'ipv4' | 'ipv6';

/** Reads a set of bindings at a pointer. */
export class SetReader {
  readonly #memory: TableMemory;
  readonly #set: number;
  readonly #labelOf: (destination: number) => string;

  /** @param labelOf the label of a destination */
  constructor(memory: TableMemory, set: number, labelOf: (destination: number) => string) {
    this.#memory = memory;
    this.#set = set;
    this.#labelOf = labelOf;
  }

  /** All bindings, in no particular order. */
  bindings(): Binding[] {
    const found: Binding[] = [];
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const family of ['ipv4', 'ipv6'] as const) this.#readTable(protocol, family, found);
    }
    return found;
  }

  #readTable(protocol: Protocol, family: Family, found: Binding[]): void {
    const memory = this.#memory;
    const table = memory.loadU32(this.#set + BindingSet.tables + 4 * tableIndex(protocol, family));
    if (table === 0) return;
    const words = new Uint32Array(4);
    const records = new Uint32Array(BLOCK_PLACES);
    const count = family === 'ipv4' ? 1 : 4;
    const first = lengthPointer(table, 0);
    let at = memory.loadU32(table + PrefixTable.first);
    for (let steps = 0; at !== 0 && steps < lengthCount(family); steps++) {
      const length = (at - first) / (lengthPointer(table, 1) - first);
      const slots = memory.loadU32(at + PrefixLength.slots);
      forEachSlot(memory, slots, memory.loadU32(at + PrefixLength.places), count, (slot) => {
        slotWords(memory, slot, words, count);
        loadBlock(memory, slot, count, records);
        for (let place = 0; place < BLOCK_PLACES; place++) {
          if (records[place] === 0) continue;
          const prefix = { address: addressInBlock(words, family, length, place), length };
          for (const { binding } of this.#readGroup(records[place]!, protocol, prefix)) found.push(binding);
        }
      });
      at = memory.loadU32(at + PrefixLength.next);
    }
  }

  /** The bindings of exactly one prefix. */
  group(protocol: Protocol, prefix: Prefix): NumberedBinding[] {
    const memory = this.#memory;
    const table = memory.loadU32(
      this.#set + BindingSet.tables + 4 * tableIndex(protocol, prefix.address.family),
    );
    if (table === 0) return [];
    const at = lengthPointer(table, prefix.length);
    const slots = memory.loadU32(at + PrefixLength.slots);
    if (slots === 0) return [];
    const words = new Uint32Array(4);
    const count = blockWords(prefix, words);
    const slot = findSlot(memory, slots, memory.loadU32(at + PrefixLength.places), words, count);
    if (slot === undefined || memory.loadU32(recordField(slot, count)) === 0) return [];
    const records = new Uint32Array(BLOCK_PLACES);
    loadBlock(memory, slot, count, records);
    return this.#readGroup(records[placeInBlock(prefix)]!, protocol, prefix);
  }

  #readGroup(first: number, protocol: Protocol, prefix: Prefix): NumberedBinding[] {
    const memory = this.#memory;
    if (first === 0) return [];
    const isGroup = (memory.loadU32(first + BindingRecord.flags) & RecordFlag.GROUP) !== 0;
    const found: NumberedBinding[] = [];
    let record = isGroup ? memory.loadU32(first + BindingRecord.all) : first;
    for (; record !== 0; record = memory.loadU32(record + BindingRecord.next))
      found.push(this.#readRecord(record, protocol, prefix));
    return found;
  }

  #readRecord(record: number, protocol: Protocol, prefix: Prefix): NumberedBinding {
    const memory = this.#memory;
    const flags = memory.loadU32(record + BindingRecord.flags);
    const ports = memory.loadU32(record + BindingRecord.portMin);
    const destination = memory.loadU32(record + BindingRecord.destination);
    const plain = {
      label: this.#labelOf(destination),
      protocol,
      prefix,
      ports: { min: ports & 0xffff, max: ports >>> 16 },
    };
    if (flags === 0) return { binding: plain, destination, ifindex: 0 };
    const hasDevice = (flags & RecordFlag.DEVICE) !== 0;
    const binding: Binding = {
      ...plain,
      ...((flags & RecordFlag.SOURCE) === 0 ? {} : { source: this.#source(record, prefix.address.family) }),
      ...(hasDevice ? { device: this.#deviceName(record) } : {}),
      ...((flags & RecordFlag.REMOTE_PORT) === 0
        ? {}
        : { remotePort: memory.loadU32(record + BindingRecord.remotePort) }),
    };
    return { binding, destination, ifindex: hasDevice ? memory.loadU32(record + BindingRecord.ifindex) : 0 };
  }

  #source(record: number, family: Family): Prefix {
    const memory = this.#memory;
    const load = (value: number): Uint32Array =>
      family === 'ipv4'
        ? Uint32Array.of(memory.loadU32(record + value))
        : Uint32Array.of(
            memory.loadU32(record + value + 4),
            memory.loadU32(record + value),
            memory.loadU32(record + value + 16 + 4),
            memory.loadU32(record + value + 16),
          );
    const length = load(BindingRecord.maskHigh).reduce((sum, word) => sum + leadingOnes(word), 0);
    return { address: addressOf(load(BindingRecord.sourceHigh), family), length };
  }

  #deviceName(record: number): string {
    const pointer = this.#memory.loadU32(record + BindingRecord.deviceName);
    let name = '';
    for (let at = 0; at < DEVICE_NAME_BYTES; at += 4) {
      const pair = this.#memory.loadU32(pointer + at);
      name += String.fromCharCode(pair & 0xffff, pair >>> 16);
    }
    return name.slice(0, name.indexOf('\0'));
  }
}

function leadingOnes(word: number): number {
  return Math.clz32(~word);
}

function addressOf(words: Uint32Array, family: Family): Address {
  const bytes = new Uint8Array(family === 'ipv4' ? 4 : 16);
  for (let at = 0; at < bytes.length; at++) bytes[at] = words[at >> 2]! >>> (24 - (at & 3) * 8);
  return { family, bytes };
}
