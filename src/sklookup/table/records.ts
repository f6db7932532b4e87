/**
 * Bindings of one destination prefix as records: short lists are walked, long ones are searched, by port, by source,
 * by device and by remote port, in the order of precedence.
 */
import { compareAddressBytes, formatPrefix, networkOf } from '../../net/index.ts';
import { type Binding, bindingFamily } from '../binding.ts';
import { BindingRecord, DEVICE_NAME_BYTES, RECORD, RecordFlag, SMALL_RECORD } from '../layout.ts';
import { compareSpecificity } from '../precedence.ts';
import { groupBy } from './group.ts';
import { addressKeys, prefixMasks, writePrefixSearch } from './prefix-tree.ts';
import { IntervalList, writeSearch } from './tree.ts';
import type { ImageWriter } from './writer.ts';

/** A binding with the numbers that the program wants instead of names. */
export interface NumberedBinding {
  readonly binding: Binding;
  readonly destination: number;
  /** 0 for any */
  readonly ifindex: number;
}

/** Lists up to this are walked: a search reads two cache lines for each of its levels. */
const WALKED = 6;

/** Writes the bindings of destination prefixes. Equal records are written once, so that they stay in the cache. */
export class RecordWriter {
  readonly writer: ImageWriter;
  /** Records without conditions and without a next one, by destination and ports. */
  readonly #last = new Map<number, number>();
  readonly #deviceNames = new Map<string, number>();

  constructor(writer: ImageWriter) {
    this.writer = writer;
  }

  /** Bindings of one destination prefix. @returns pointer to the first record */
  write(bindings: readonly NumberedBinding[]): number {
    if (bindings.length === 1) return this.record(bindings[0]!, 0);
    const sorted = bySpecificity(bindings);
    const list = writeList(this, sorted, 0);
    if (sorted.length <= WALKED) return list;
    const { writer } = this;
    const at = writer.reserve(SMALL_RECORD, SMALL_RECORD);
    writer.setU32(at + BindingRecord.flags, RecordFlag.GROUP);
    // No port lies between these: the program goes on with `next`.
    writer.setU16(at + BindingRecord.portMin, 1);
    writer.setU32(at + BindingRecord.next, writePortSearch(this, sorted, 0));
    writer.setU32(at + BindingRecord.all, list);
    return writer.pointer(at);
  }

  record(entry: NumberedBinding, next: number): number {
    const { ports } = entry.binding;
    if (next !== 0 || !isUnconditional(entry)) return this.#write(entry, next);
    const key = entry.destination * 2 ** 32 + ports.min * 2 ** 16 + ports.max;
    let record = this.#last.get(key);
    if (record === undefined) {
      record = this.#write(entry, next);
      this.#last.set(key, record);
    }
    return record;
  }

  #write(entry: NumberedBinding, next: number): number {
    const { binding, destination, ifindex } = entry;
    const { writer } = this;
    const at = isUnconditional(entry)
      ? writer.reserve(SMALL_RECORD, SMALL_RECORD)
      : writer.reserve(RECORD, RECORD);
    let flags = 0;
    if (binding.source !== undefined) {
      flags |= RecordFlag.SOURCE;
      const value = addressKeys(binding.source.address.bytes);
      const mask = prefixMasks(binding.source);
      writer.setU64(at + BindingRecord.sourceHigh, value.high & mask.high);
      writer.setU64(at + BindingRecord.maskHigh, mask.high);
      writer.setU64(at + BindingRecord.sourceLow, value.low & mask.low);
      writer.setU64(at + BindingRecord.maskLow, mask.low);
    }
    if (binding.device !== undefined) {
      flags |= RecordFlag.DEVICE;
      writer.setU32(at + BindingRecord.ifindex, ifindex);
      writer.setU32(at + BindingRecord.deviceName, this.#deviceName(binding.device));
    }
    if (binding.remotePort !== undefined) {
      flags |= RecordFlag.REMOTE_PORT;
      writer.setU32(at + BindingRecord.remotePort, binding.remotePort);
    }
    writer.setU32(at + BindingRecord.flags, flags);
    writer.setU32(at + BindingRecord.next, next);
    writer.setU16(at + BindingRecord.portMin, binding.ports.min);
    writer.setU16(at + BindingRecord.portMax, binding.ports.max);
    writer.setU32(at + BindingRecord.destination, destination);
    return writer.pointer(at);
  }

  #deviceName(device: string): number {
    let pointer = this.#deviceNames.get(device);
    if (pointer === undefined) {
      const at = this.writer.reserve(DEVICE_NAME_BYTES, DEVICE_NAME_BYTES);
      for (let index = 0; index < device.length && index < DEVICE_NAME_BYTES / 2 - 1; index++)
        this.writer.setU16(at + index * 2, device.charCodeAt(index));
      pointer = this.writer.pointer(at);
      this.#deviceNames.set(device, pointer);
    }
    return pointer;
  }
}

function bySpecificity(bindings: readonly NumberedBinding[]): readonly NumberedBinding[] {
  return bindings.toSorted((a, b) => compareSpecificity(a.binding, b.binding));
}

/** True when it takes every packet that gets to it. */
export function isUnconditional({ binding }: NumberedBinding): boolean {
  return binding.source === undefined && binding.device === undefined && binding.remotePort === undefined;
}

function writeList(out: RecordWriter, sorted: readonly NumberedBinding[], next: number): number {
  let record = next;
  for (let index = sorted.length - 1; index >= 0; index--) record = out.record(sorted[index]!, record);
  return record;
}

/** Exact ports first, each going on with the ranges over it. */
function writePortSearch(out: RecordWriter, sorted: readonly NumberedBinding[], next: number): number {
  const isExact = ({ binding }: NumberedBinding): boolean => binding.ports.min === binding.ports.max;
  const exact = groupBy(sorted.filter(isExact), ({ binding }) => binding.ports.min);
  const ranges = sorted.filter((entry) => !isExact(entry));
  const wide = rangeIntervals(out, ranges, next);
  const intervals = new IntervalList<number>(0, next);
  const boundaries = [...wide.starts, ...[...exact.keys()].flatMap((port) => [port, port + 1])];
  let at = 0;
  for (const port of [...new Set(boundaries)].sort((a, b) => a - b)) {
    if (port > 0xffff) break;
    while (at + 1 < wide.starts.length && wide.starts[at + 1]! <= port) at++;
    const under = wide.records[at]!;
    const own = exact.get(port);
    intervals.add(port, own === undefined ? under : writeSameWidth(out, own, under));
  }
  return writeSearch(out.writer, 'localPort', intervals);
}

/** The ranges as they lie over each other: for each stretch of ports the list that holds there. */
function rangeIntervals(
  out: RecordWriter,
  ranges: readonly NumberedBinding[],
  next: number,
): IntervalList<number> {
  const intervals = new IntervalList<number>(0, next);
  const begins = groupBy(ranges, ({ binding }) => binding.ports.min);
  const ends = groupBy(ranges, ({ binding }) => binding.ports.max + 1);
  const active = new Set<NumberedBinding>();
  for (const port of [...new Set([...begins.keys(), ...ends.keys()])].sort((a, b) => a - b)) {
    for (const entry of ends.get(port) ?? []) active.delete(entry);
    for (const entry of begins.get(port) ?? []) active.add(entry);
    if (port <= 0xffff) intervals.add(port, writeWidths(out, [...active], next));
  }
  return intervals;
}

/** A list over one stretch of ports, narrower ranges first; what a binding without conditions hides is left out. */
function writeWidths(out: RecordWriter, entries: readonly NumberedBinding[], next: number): number {
  const sorted = bySpecificity(entries);
  const hiding = sorted.findIndex(isUnconditional);
  const seen = hiding < 0 ? sorted : sorted.slice(0, hiding + 1);
  if (seen.length <= WALKED) return writeList(out, seen, next);
  const widths = [...groupBy(seen, ({ binding }) => binding.ports.max - binding.ports.min).values()];
  return widths.reduceRight((record, group) => writeSameWidth(out, group, record), next);
}

/** Bindings that differ from the source on. */
function writeSameWidth(out: RecordWriter, sorted: readonly NumberedBinding[], next: number): number {
  if (sorted.length <= WALKED) return writeList(out, sorted, next);
  const anywhere = sorted.filter(({ binding }) => binding.source === undefined);
  const tail = writeSameSource(out, anywhere, next);
  const groups = groupBy(
    sorted.filter(({ binding }) => binding.source !== undefined),
    ({ binding }) => formatPrefix(networkOf(binding.source!)),
  );
  if (groups.size === 0) return tail;
  const entries = [...groups.values()]
    .map((group) => ({
      prefix: networkOf(group[0]!.binding.source!),
      write: (after: number) => writeSameSource(out, group, after),
    }))
    .sort(
      (a, b) =>
        compareAddressBytes(a.prefix.address.bytes, b.prefix.address.bytes) ||
        a.prefix.length - b.prefix.length,
    );
  return writePrefixSearch(out.writer, bindingFamily(sorted[0]!.binding), entries, tail);
}

/** Bindings that differ in device and remote port only: a device before none, then a remote port before none. */
function writeSameSource(out: RecordWriter, sorted: readonly NumberedBinding[], next: number): number {
  if (sorted.length <= WALKED) return writeList(out, sorted, next);
  const tail = writeSameDevice(
    out,
    sorted.filter(({ ifindex }) => ifindex === 0),
    next,
  );
  const intervals = new IntervalList<number>(0, tail);
  const devices = groupBy(
    sorted.filter(({ ifindex }) => ifindex !== 0),
    ({ ifindex }) => ifindex,
  );
  for (const [ifindex, group] of [...devices].sort(([a], [b]) => a - b)) {
    intervals.add(ifindex, writeSameDevice(out, group, tail));
    intervals.add(ifindex + 1, tail);
  }
  return writeSearch(out.writer, 'ifindex', intervals);
}

function writeSameDevice(out: RecordWriter, sorted: readonly NumberedBinding[], next: number): number {
  if (sorted.length <= WALKED) return writeList(out, sorted, next);
  const tail = writeList(
    out,
    sorted.filter(({ binding }) => binding.remotePort === undefined),
    next,
  );
  const intervals = new IntervalList<number>(0, tail);
  const byPort = groupBy(
    sorted.filter(({ binding }) => binding.remotePort !== undefined),
    ({ binding }) => binding.remotePort!,
  );
  for (const [port, group] of [...byPort].sort(([a], [b]) => a - b)) {
    intervals.add(port, writeList(out, group, tail));
    intervals.add(port + 1, tail);
  }
  return writeSearch(out.writer, 'remotePort', intervals);
}
