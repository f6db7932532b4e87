/** A set of bindings as the bytes of a generation. */
import { compareAddressBytes, type Prefix } from '../../net/index.ts';
import { type Binding, bindingFamily, type Protocol } from '../binding.ts';
import {
  BINDING_SET_HEADER,
  BINDING_SET_MAGIC,
  BindingSet,
  rootIndex,
  SOCKET_LAYOUT_VERSION,
} from '../layout.ts';
import { writePrefixSearch } from './prefix-tree.ts';
import { type NumberedBinding, writeBindings } from './records.ts';
import { ImageWriter } from './writer.ts';

/** What the builder asks of its surroundings. */
export interface ImageNames {
  /** Index of the destination for a label's sockets. */
  destination(label: string, protocol: Protocol, family: 'ipv4' | 'ipv6'): number;
  /** Index of a device, above 0. */
  ifindex(device: string): number;
}

export interface ImageOptions {
  /** Pointer at which the bytes will lie; a multiple of 4,096. */
  readonly origin: number;
  /** Bytes that there is room for. */
  readonly room: number;
  readonly number: number;
  /** The bindings file that says the set. */
  readonly text: Uint8Array;
}

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
  const tables = [0, 1, 2, 3].map((): NumberedBinding[] => []);
  for (const [number, binding] of bindings.entries()) {
    const family = bindingFamily(binding);
    tables[rootIndex(binding.protocol, family)]!.push({
      binding,
      number,
      destination: names.destination(binding.label, binding.protocol, family),
      ifindex: binding.device === undefined ? 0 : names.ifindex(binding.device),
    });
  }
  const roots = tables.map((table) => (table.length === 0 ? 0 : writeTable(writer, table)));
  const text = writer.reserve(options.text.length, 8);
  writer.setBytes(text, options.text);
  writer.setU32(BindingSet.magic, BINDING_SET_MAGIC);
  writer.setU32(BindingSet.version, SOCKET_LAYOUT_VERSION);
  writer.setU64(BindingSet.number, BigInt(options.number));
  writer.setU32(BindingSet.size, writer.length);
  writer.setU32(BindingSet.bindings, bindings.length);
  for (const [index, root] of roots.entries()) writer.setU32(BindingSet.roots + index * 4, root);
  writer.setU32(BindingSet.text, writer.pointer(text));
  writer.setU32(BindingSet.textBytes, options.text.length);
  return writer.bytes();
}

/** All bindings of one protocol and family. */
function writeTable(writer: ImageWriter, table: NumberedBinding[]): number {
  const order = table.toSorted((a, b) => comparePosition(a.binding.prefix, b.binding.prefix));
  function* prefixes() {
    for (let from = 0, to = 0; from < order.length; from = to) {
      const { prefix } = order[from]!.binding;
      to = from + 1;
      while (to < order.length && comparePosition(prefix, order[to]!.binding.prefix) === 0) to++;
      const group = order.slice(from, to);
      yield { prefix, write: (next: number) => writeBindings(writer, group, next) };
    }
  }
  return writePrefixSearch(writer, 'local', bindingFamily(table[0]!.binding), prefixes(), 0);
}

/** By address, the shorter prefix first: whoever holds others comes before them. Host bits are clear in bindings. */
function comparePosition(a: Prefix, b: Prefix): number {
  return compareAddressBytes(a.address.bytes, b.address.bytes) || a.length - b.length;
}
