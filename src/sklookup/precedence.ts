/**
 * Precedence, defined once: of the bindings that match a packet, the first in this order gets it. The order is also
 * the order in which bindings are printed.
 *
 * 1. the longer destination prefix
 * 2. the narrower port range: an exact port before a range, a range before all ports
 * 3. the longer source prefix; any source last
 * 4. a named ingress device before any
 * 5. a remote port before any
 */
import { compareAddressBytes, formatPrefix, prefixesOverlap } from '../net/index.ts';
import { type Binding, bindingMatches, type LookupTuple } from './binding.ts';

/** How specific a source is: any is less than a /0 that someone wrote. */
function sourceLength(binding: Binding): number {
  return binding.source?.length ?? -1;
}

/** Below 0 when `a` wins over `b` where both match, 0 when neither does. */
export function compareSpecificity(a: Binding, b: Binding): number {
  return (
    b.prefix.length - a.prefix.length ||
    a.ports.max - a.ports.min - (b.ports.max - b.ports.min) ||
    sourceLength(b) - sourceLength(a) ||
    Number(a.device === undefined) - Number(b.device === undefined) ||
    Number(a.remotePort === undefined) - Number(b.remotePort === undefined)
  );
}

/** A total order that agrees with {@link compareSpecificity}: TCP before UDP, IPv4 before IPv6, then by value. */
export function compareBindings(a: Binding, b: Binding): number {
  return (
    Number(a.protocol === 'udp') - Number(b.protocol === 'udp') ||
    a.prefix.address.bytes.length - b.prefix.address.bytes.length ||
    compareSpecificity(a, b) ||
    compareAddressBytes(a.prefix.address.bytes, b.prefix.address.bytes) ||
    a.ports.min - b.ports.min ||
    (a.source !== undefined && b.source !== undefined
      ? compareAddressBytes(a.source.address.bytes, b.source.address.bytes)
      : 0) ||
    (a.remotePort ?? -1) - (b.remotePort ?? -1) ||
    (a.device ?? '').localeCompare(b.device ?? '')
  );
}

/** The bindings in that order, as a new list. Sets of a million are compared by two numbers each. */
export function inPrecedence(bindings: readonly Binding[]): Binding[] {
  const specificity = Float64Array.from(bindings, specificityNumber);
  const words = Float64Array.from(bindings, ({ prefix: { address } }) => firstWord(address.bytes));
  const order = Uint32Array.from(bindings.keys()).sort(
    (a, b) =>
      specificity[a]! - specificity[b]! ||
      words[a]! - words[b]! ||
      compareBindings(bindings[a]!, bindings[b]!) ||
      a - b,
  );
  return Array.from(order, (index) => bindings[index]!);
}

/** What {@link compareBindings} looks at before the address, as digits of one number. */
function specificityNumber(binding: Binding): number {
  const { protocol, prefix, ports, device, remotePort } = binding;
  let number = Number(protocol === 'udp') * 2 + Number(prefix.address.family === 'ipv6');
  number = number * 256 + 128 - prefix.length;
  number = number * 65_536 + ports.max - ports.min;
  number = number * 256 + 128 - sourceLength(binding);
  return number * 4 + Number(device === undefined) * 2 + Number(remotePort === undefined);
}

function firstWord(bytes: Uint8Array): number {
  return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
}

/** True when some packet matches both and neither is more specific: which one wins would be chance. */
export function inConflict(a: Binding, b: Binding): boolean {
  return (
    a.protocol === b.protocol &&
    compareSpecificity(a, b) === 0 &&
    prefixesOverlap(a.prefix, b.prefix) &&
    a.ports.min <= b.ports.max &&
    b.ports.min <= a.ports.max &&
    (a.source === undefined || b.source === undefined || prefixesOverlap(a.source, b.source)) &&
    (a.device === undefined || b.device === undefined || a.device === b.device) &&
    (a.remotePort === undefined || b.remotePort === undefined || a.remotePort === b.remotePort)
  );
}

/** Two bindings that may not stand together; indices into the list, `second` the later one. */
export interface Conflict {
  readonly first: number;
  readonly second: number;
}

/**
 * All conflicts of a list, by the later binding. Bindings that conflict have one prefix, one port width and one
 * source, device and remote port, so only such groups are compared; sorted by their first port, a sweep meets the
 * overlapping ones. Groups are found by sorting hashes: in a large set nearly every binding is alone in its own.
 */
export function findConflicts(bindings: readonly Binding[]): Conflict[] {
  const conflicts: Conflict[] = [];
  for (const candidates of sameHash(bindings)) {
    const groups = new Map<string, number[]>();
    for (const index of candidates) {
      const key = groupKey(bindings[index]!);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [index]);
      else group.push(index);
    }
    for (const group of groups.values()) {
      group.sort((a, b) => bindings[a]!.ports.min - bindings[b]!.ports.min || a - b);
      for (let at = 1; at < group.length; at++) {
        // Equal widths: whoever overlaps any earlier one overlaps the nearest earlier one.
        const [a, b] = [group[at - 1]!, group[at]!];
        if (inConflict(bindings[a]!, bindings[b]!))
          conflicts.push({ first: Math.min(a, b), second: Math.max(a, b) });
      }
    }
  }
  return conflicts.sort((a, b) => a.second - b.second || a.first - b.first);
}

function groupKey(binding: Binding): string {
  const source = binding.source === undefined ? '' : formatPrefix(binding.source);
  const width = binding.ports.max - binding.ports.min;
  return `${binding.protocol} ${formatPrefix(binding.prefix)} ${width} ${source} ${binding.device ?? ''} ${binding.remotePort ?? ''}`;
}

/** Lists of bindings whose hashes are equal, two or more each, in ascending order. */
function* sameHash(bindings: readonly Binding[]): Generator<readonly number[]> {
  const count = bindings.length;
  // Hash and index as one number, exact below 2^53.
  const hashes = Math.min(2 ** 32, Math.floor(2 ** 53 / Math.max(1, count)));
  const sorted = Float64Array.from(
    bindings,
    (binding, index) => (groupHash(binding) % hashes) * count + index,
  ).sort();
  for (let from = 0, to = 0; from < count; from = to) {
    const hash = Math.floor(sorted[from]! / count);
    to = from + 1;
    while (to < count && Math.floor(sorted[to]! / count) === hash) to++;
    if (to - from > 1) yield Array.from(sorted.subarray(from, to), (value) => value % count);
  }
}

/** Equal for bindings with equal {@link groupKey}; FNV-1a. */
function groupHash({ protocol, prefix, ports, source, remotePort }: Binding): number {
  let hash = protocol === 'tcp' ? 0x811c9dc5 : 0x1000193;
  const add = (value: number): void => {
    hash = Math.imul(hash ^ value, 0x01000193);
  };
  for (const byte of prefix.address.bytes) add(byte);
  add(prefix.length);
  add(ports.max - ports.min);
  if (source !== undefined) for (const byte of source.address.bytes) add(byte);
  add(remotePort ?? -1);
  return hash >>> 0;
}

/** The binding that gets the packet, by looking at every one: the definition that the tables are compared with. */
export function lookupLinear(bindings: readonly Binding[], tuple: LookupTuple): Binding | undefined {
  let best: Binding | undefined;
  for (const binding of bindings) {
    if (bindingMatches(binding, tuple) && (best === undefined || compareSpecificity(binding, best) < 0))
      best = binding;
  }
  return best;
}
