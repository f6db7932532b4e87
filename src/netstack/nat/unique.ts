/**
 * The choice of address and port for a connection that is translated: the tuple its packets will have, unlike that of
 * any other connection. Source: net/netfilter/nf_nat_core.c (get_unique_tuple and what it calls).
 *
 * Where the kernel draws a random number (--random, and the search for a free source port) so does this, from the
 * generator that is handed in; everything else is the same choice.
 */
import { compareAddressBytes, jhash2, reciprocalScale } from '../../net/index.ts';
import { IpProtocol } from '../../wire/index.ts';
import type { Conntrack } from '../conntrack/conntrack.ts';
import type { Entry } from '../conntrack/entry.ts';
import { invert, type Tuple } from '../conntrack/tuple.ts';
import { isRandom, type Manip, type NatRange } from './range.ts';

export interface UniqueContext {
  readonly conntrack: Conntrack;
  /** Connections that a source has now, the latest first. */
  bySource(tuple: Tuple, zone: number): Iterable<Entry>;
  readonly random16: () => number;
}

/** How many ports are tried from one starting point. */
const ATTEMPTS = 128;
const FEWEST_ATTEMPTS = 16;

/**
 * The tuple in place of `original`, within `range` and unlike any other connection's where that is possible; where it is
 * not, the clash shows when the connection is confirmed.
 */
export function uniqueTuple(
  context: UniqueContext,
  original: Tuple,
  range: NatRange,
  entry: Entry,
  manip: Manip,
): Tuple {
  const taken = (tuple: Tuple): boolean => isTaken(context.conntrack, tuple, entry);
  const random = isRandom(range);
  if (manip === 'source' && !random) {
    if (isInRange(original, range)) {
      if (!taken(original)) return original;
    } else {
      const mapped = currentMapping(context, original, range, entry);
      if (mapped !== undefined && !taken(mapped)) return mapped;
    }
  }
  const tuple = chooseAddress(original, range, manip, entry.zone);
  if (!random) {
    const { ports } = range;
    if (ports === undefined) {
      if (!taken(tuple)) return tuple;
    } else if (ports.base === undefined && portIsInRange(tuple, manip, ports)) {
      if (ports.min === ports.max || !taken(tuple)) return tuple;
    }
  }
  return choosePort(tuple, range, manip, context.random16, taken);
}

/** Conntrack knows tuples as they come in, so the question is asked of the answer (nf_nat_used_tuple). */
function isTaken(conntrack: Conntrack, tuple: Tuple, entry: Entry): boolean {
  const reply = invert(tuple);
  return reply !== undefined && conntrack.isTaken(reply, entry);
}

/** nf_in_range(): whether a source already is what the range allows. */
function isInRange(tuple: Tuple, range: NatRange): boolean {
  const { addresses, ports } = range;
  if (addresses !== undefined) {
    const { source } = tuple;
    if (compareAddressBytes(source, addresses.min) < 0 || compareAddressBytes(source, addresses.max) > 0)
      return false;
  }
  return ports === undefined || portIsInRange(tuple, 'source', ports);
}

/** l4proto_in_range(): protocols without ports are in every range. */
function portIsInRange(
  tuple: Tuple,
  manip: Manip,
  { min, max }: { readonly min: number; readonly max: number },
): boolean {
  if (!hasPorts(tuple.protocol)) {
    if (!isIcmp(tuple.protocol) && tuple.protocol !== IpProtocol.GRE) return true;
  }
  const port = manip === 'source' || isIcmp(tuple.protocol) ? tuple.sourcePort : tuple.destinationPort;
  return port >= min && port <= max;
}

function isIcmp(protocol: number): boolean {
  return protocol === IpProtocol.ICMP || protocol === IpProtocol.ICMPV6;
}

function hasPorts(protocol: number): boolean {
  return (
    protocol === IpProtocol.TCP ||
    protocol === IpProtocol.UDP ||
    protocol === IpProtocol.UDPLITE ||
    protocol === IpProtocol.SCTP ||
    protocol === IpProtocol.DCCP
  );
}

/** find_appropriate_src(): a source that is mapped for another connection keeps its mapping. */
function currentMapping(
  context: UniqueContext,
  tuple: Tuple,
  range: NatRange,
  entry: Entry,
): Tuple | undefined {
  for (const other of context.bySource(tuple, entry.zone)) {
    const mapped = invert(other.reply);
    if (mapped === undefined) continue;
    const { source, sourcePort } = mapped;
    const result = { ...tuple, source, sourcePort };
    if (isInRange(result, range)) return result;
  }
  return undefined;
}

/** find_best_ips_proto(): the same pair of hosts always gets the same address of a range. */
function chooseAddress(tuple: Tuple, range: NatRange, manip: Manip, zone: number): Tuple {
  const { addresses } = range;
  if (addresses === undefined) return tuple;
  const chosen =
    compareAddressBytes(addresses.min, addresses.max) === 0
      ? addresses.min
      : hashedAddress(tuple, addresses, range.persistent === true, zone);
  return manip === 'source' ? { ...tuple, source: chosen } : { ...tuple, destination: chosen };
}

function hashedAddress(
  tuple: Tuple,
  { min, max }: { readonly min: Uint8Array; readonly max: Uint8Array },
  persistent: boolean,
  zone: number,
): Uint8Array {
  const words = tuple.source.length / 4;
  // The kernel hashes network-order words as its processor reads them; x86 is little endian.
  const littleEndian = (bytes: Uint8Array, word: number): number =>
    new DataView(bytes.buffer, bytes.byteOffset + word * 4, 4).getUint32(0, true);
  const bigEndian = (bytes: Uint8Array, word: number): number =>
    new DataView(bytes.buffer, bytes.byteOffset + word * 4, 4).getUint32(0);
  const source = [0, 1, 2, 3].map((word) => (word < words ? littleEndian(tuple.source, word) : 0));
  let hash = jhash2(source, persistent ? 0 : littleEndian(tuple.destination, words - 1) ^ zone);
  const chosen = new Uint8Array(tuple.source.length);
  const view = new DataView(chosen.buffer);
  let free = false;
  for (let word = 0; word < words; word++) {
    const low = free ? 0 : bigEndian(min, word);
    const span = free ? 0xffffffff : (bigEndian(max, word) - low + 1) >>> 0;
    view.setUint32(word * 4, low + reciprocalScale(hash, span));
    // Below the maximum of the leading words the rest may be anything.
    if (view.getUint32(word * 4) !== bigEndian(max, word)) free = true;
    if (!persistent) hash ^= littleEndian(tuple.destination, word);
  }
  return chosen;
}

/** nf_nat_l4proto_unique_tuple(): looks for a port that makes the tuple unique. */
function choosePort(
  tuple: Tuple,
  range: NatRange,
  manip: Manip,
  random16: () => number,
  taken: (tuple: Tuple) => boolean,
): Tuple {
  const search = searchOf(tuple, range, manip);
  if (search === undefined) return tuple;
  const { min, size, field } = search;
  const base = range.ports?.base;
  // A destination is searched from the beginning, so that one port of a range comes after the other.
  let offset =
    base !== undefined
      ? (tuple[field] - base) & 0xffff
      : isRandom(range) || manip === 'source'
        ? random16()
        : 0;
  let attempts = Math.min(size, ATTEMPTS);
  for (;;) {
    let candidate = tuple;
    for (let index = 0; index < attempts; index++, offset = (offset + 1) & 0xffff) {
      candidate = { ...tuple, [field]: (min + (offset % size)) & 0xffff };
      if (!taken(candidate)) return candidate;
    }
    if (attempts >= size || attempts < FEWEST_ATTEMPTS) return candidate;
    attempts >>= 1;
    offset = random16();
  }
}

interface PortSearch {
  readonly min: number;
  /** How many there are. */
  readonly size: number;
  readonly field: 'sourcePort' | 'destinationPort';
}

/** Where to look; `undefined`: nothing there can be changed. */
function searchOf(tuple: Tuple, { ports }: NatRange, manip: Manip): PortSearch | undefined {
  if (isIcmp(tuple.protocol)) {
    const { min, max } = ports ?? { min: 0, max: 0xffff };
    return { min, size: max - min + 1, field: 'sourcePort' };
  }
  if (!hasPorts(tuple.protocol)) return undefined;
  const field = manip === 'source' ? 'sourcePort' : 'destinationPort';
  if (ports !== undefined) {
    const min = Math.min(ports.min, ports.max);
    return { min, size: Math.max(ports.min, ports.max) - min + 1, field };
  }
  if (manip === 'destination') return undefined;
  // Ports keep their class: those below 512 pass credentials, those below 1024 are privileged.
  if (tuple.sourcePort < 512) return { min: 1, size: 511, field };
  if (tuple.sourcePort < 1024) return { min: 600, size: 424, field };
  return { min: 1024, size: 64_512, field };
}
