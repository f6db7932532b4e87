/**
 * Packets and sets: the key that a packet has in a set, `-m set` and `-j SET` (net/netfilter/xt_set.c, ip_set_core.c,
 * ip_set_getport.c and the kadt functions of the types).
 */
import type { EvaluationPacket } from '../evaluate/packet.ts';
import { addressOf, hasBytes, readUint16 } from '../extensions/header.ts';
import type { SetReference } from '../text/set-reference.ts';
import type { MatchRequest, PlainSet } from './plain.ts';
import { portWord } from './port.ts';
import { hasFamily, keyLayout, keyMasks, refusesZero, type SetDefinition, swap32 } from './type.ts';

const NEXTHDR_NONE = 59;
/** Bytes of the header that must be there for its ports to be read. */
const PORT_HEADERS: ReadonlyMap<number, number> = new Map([
  [6, 20],
  [132, 12],
  [17, 8],
  [136, 8],
]);
const ICMP_HEADERS: ReadonlySet<number> = new Set([1, 58]);
const ICMP_BYTES = 8;
const ETH_HLEN = 14;

/** A rule that names this set and these directions can never find anything in it (ip_set_test). */
export function neverFits(
  definition: SetDefinition,
  reference: SetReference,
  family: EvaluationPacket['family'],
): boolean {
  return (
    reference.directions.length < definition.type.dimensions.length ||
    (hasFamily(definition) && definition.family !== family)
  );
}

/** Words of the packet's key, networks with all bits; `undefined` where the packet lacks a part. */
export function packetKey(
  definition: SetDefinition,
  packet: EvaluationPacket,
  { directions }: SetReference,
): number[] | undefined {
  const { type, family } = definition;
  const layout = keyLayout(type, family);
  const masks = keyMasks(definition);
  const key = new Array<number>(layout.words).fill(0);
  for (const [index, dimension] of type.dimensions.entries()) {
    const source = directions[index] === 'src';
    const at = layout.at[index]!;
    let words: readonly number[] | undefined;
    switch (dimension) {
      case 'ip':
      case 'net':
        words = wordsOfBytes(addressOf(packet, source ? 'source' : 'destination'));
        break;
      case 'port':
        words = optional(packetPort(packet, source));
        break;
      case 'tcp-port': {
        const port = packetPort(packet, source);
        words = port !== undefined && (port >>> 16 === 6 || port >>> 16 === 17) ? [port] : undefined;
        break;
      }
      case 'mark':
        words = [packet.mark];
        break;
      case 'mac':
        words = macWords(packet, source);
        break;
      case 'iface':
        words = deviceWords(source ? packet.inDevice : packet.outDevice);
        break;
      case 'set':
        return undefined;
    }
    if (words === undefined) return undefined;
    for (const [word, value] of words.entries()) key[at + word] = (value & masks[at + word]!) >>> 0;
  }
  return key;
}

function optional(word: number | undefined): number[] | undefined {
  return word === undefined ? undefined : [word];
}

/** ip_set_get_ip4_port, ip_set_get_ip6_port: protocol and port as a word of a key. */
export function packetPort(packet: EvaluationPacket, source: boolean): number | undefined {
  const { protocol, transportOffset, fragmentOffset, family } = packet;
  const bytes = PORT_HEADERS.get(protocol);
  const icmp = ICMP_HEADERS.has(protocol);
  if (protocol < 0) return undefined;
  if (family === 'ipv6' && (fragmentOffset !== 0 || protocol === NEXTHDR_NONE)) return undefined;
  if (family === 'ipv4' && protocol === 0) return undefined;
  if (fragmentOffset !== 0 && (bytes !== undefined || protocol === 1)) return undefined;
  if (bytes === undefined && !icmp) return portWord(protocol, 0);
  if (fragmentOffset !== 0) return portWord(protocol, 0);
  if (!hasBytes(packet, transportOffset, bytes ?? ICMP_BYTES)) return undefined;
  const at = icmp || source ? transportOffset : transportOffset + 2;
  return portWord(protocol, readUint16(packet, at));
}

function wordsOfBytes(bytes: Uint8Array): number[] {
  return Array.from(
    { length: bytes.length / 4 },
    (_, word) =>
      (bytes[word * 4]! |
        (bytes[word * 4 + 1]! << 8) |
        (bytes[word * 4 + 2]! << 16) |
        (bytes[word * 4 + 3]! << 24)) >>>
      0,
  );
}

function macWords({ ethernet }: EvaluationPacket, source: boolean): number[] | undefined {
  if (ethernet === undefined || ethernet.length < ETH_HLEN) return undefined;
  const bytes = new Uint8Array(8);
  bytes.set(source ? ethernet.subarray(6, 12) : ethernet.subarray(0, 6));
  return bytes.every((byte) => byte === 0) ? undefined : wordsOfBytes(bytes);
}

function deviceWords(name: string): number[] | undefined {
  if (name === '') return undefined;
  const bytes = new Uint8Array(16);
  for (let at = 0; at < Math.min(15, name.length); at++) bytes[at] = name.charCodeAt(at);
  return wordsOfBytes(bytes);
}

/** The members of a list of sets. */
export function membersOf({ definition }: PlainSet, { world }: EvaluationPacket): PlainSet[] {
  return definition.members.map(({ name }) => {
    const member = world.sets?.get(name);
    if (member === undefined) throw new RangeError(`set ${name} is not there`);
    return member;
  });
}

/** ip_set_test for `-m set`, before negation; of a list the first member that has the packet (list_set_ktest). */
export function testPacket(
  set: PlainSet,
  packet: EvaluationPacket,
  reference: SetReference,
  request: MatchRequest,
  returnNoMatch: boolean,
): boolean {
  const { definition } = set;
  if (definition.type.method === 'list') {
    const { length, keepCounters, keepSubcounters } = request;
    const asked: MatchRequest = {
      length,
      keepCounters: keepCounters || keepSubcounters,
      keepSubcounters,
      countersHold: () => true,
    };
    return membersOf(set, packet).some((member) =>
      testPacket(member, packet, reference, asked, returnNoMatch),
    );
  }
  set.begin(packet.world.nowMs());
  if (neverFits(definition, reference, packet.family)) return false;
  const key = packetKey(definition, packet, reference);
  if (key === undefined) return false;
  const answer = set.match(key, packet.world.nowMs(), request);
  return answer === (returnNoMatch && definition.type.dimensions.includes('net') ? 'nomatch' : 'match');
}

/**
 * ip_set_add for `-j SET`: the entry counts the packet that made it. False where nothing was added; of a list the first
 * member takes it that does (list_set_kadd).
 */
export function addPacket(
  set: PlainSet,
  packet: EvaluationPacket,
  reference: SetReference,
  exist: boolean,
  timeoutSec: number | undefined,
): boolean {
  if (set.definition.type.method === 'list')
    return membersOf(set, packet).some((member) => addPacket(member, packet, reference, exist, timeoutSec));
  const key = adjustedKey(set, packet, reference);
  if (key === undefined) return false;
  const { type, range } = set.definition;
  const address = key.slice(0, packet.family === 'ipv4' ? 1 : 4);
  if (refusesZero(type) && address.every((word) => word === 0)) return false;
  if (range !== undefined) {
    const value = type.name === 'bitmap:port' ? key[0]! : swap32(key[0]!);
    if (value < range[0] || value > range[1]) return false;
  }
  const outcome = set.add(
    {
      key,
      packets: 1n,
      bytes: BigInt(packet.length),
      ...(timeoutSec === undefined ? {} : { timeoutSec }),
    },
    exist,
    packet.world.nowMs(),
  );
  return outcome === 'added';
}

/** ip_set_del for `-j SET`: false where nothing was deleted; of a list the first member that has the packet loses it. */
export function deletePacket(set: PlainSet, packet: EvaluationPacket, reference: SetReference): boolean {
  if (set.definition.type.method === 'list')
    return membersOf(set, packet).some((member) => deletePacket(member, packet, reference));
  const key = adjustedKey(set, packet, reference);
  return key !== undefined && set.delete(key, packet.world.nowMs());
}

function adjustedKey(set: PlainSet, packet: EvaluationPacket, reference: SetReference): number[] | undefined {
  set.begin(packet.world.nowMs());
  if (neverFits(set.definition, reference, packet.family)) return undefined;
  const key = packetKey(set.definition, packet, reference);
  return key === undefined ? undefined : set.narrowed(key, packet.world.nowMs());
}
