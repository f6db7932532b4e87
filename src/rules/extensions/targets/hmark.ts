/** `-j HMARK`: net/netfilter/xt_HMARK.c. */
import { addressLength, jhash2, lengthOfMask, reciprocalScale } from '../../../net/index.ts';
import { findIpv6Header, IP6_FH_F_AUTH, IP6_FH_F_FRAG, newFoundHeader } from '../../../wire/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixMask } from '../../text/host.ts';
import { allowOne, requireAll } from '../../text/requirement.ts';
import { refuse } from '../../uapi/errno.ts';
import { readBytes, writeBytes } from '../../uapi/payload.ts';
import { connectionOf } from '../ct-state.ts';

interface HmarkState {
  sourceMask: Uint8Array | undefined;
  destinationMask: Uint8Array | undefined;
  sourcePortMask: number | undefined;
  destinationPortMask: number | undefined;
  spiMask: number | undefined;
  /** Set in ports and SPI before hashing. */
  sourcePort: number | undefined;
  destinationPort: number | undefined;
  spi: number | undefined;
  protocolMask: number | undefined;
  seed: number | undefined;
  modulus: number | undefined;
  offset: number | undefined;
  /** Addresses and ports are those of the connection, before translation. */
  connection: boolean;
}

type NumberKey = Exclude<keyof HmarkState, 'sourceMask' | 'destinationMask' | 'connection'>;

function hex(digits: number): (value: number) => string {
  return (value) => `0x${value.toString(16).padStart(digits, '0')}`;
}

/** In the order of printing. */
const NUMBERS: readonly (readonly [
  option: string,
  key: NumberKey,
  min: number,
  max: number,
  format: (value: number) => string,
  summary: string,
])[] = [
  ['hmark-sport-mask', 'sourcePortMask', 0, 0xffff, hex(4), 'Bits of the source port that count'],
  ['hmark-dport-mask', 'destinationPortMask', 0, 0xffff, hex(4), 'Bits of the destination port that count'],
  ['hmark-spi-mask', 'spiMask', 0, UINT32_MAX, hex(8), 'Bits of the SPI of AH and ESP that count'],
  ['hmark-sport', 'sourcePort', 0, 0xffff, hex(4), 'Bits that are set in the source port'],
  ['hmark-dport', 'destinationPort', 0, 0xffff, hex(4), 'Bits that are set in the destination port'],
  ['hmark-spi', 'spi', 0, UINT32_MAX, hex(8), 'Bits that are set in the SPI'],
  ['hmark-proto-mask', 'protocolMask', 0, 0xffff, hex(2), 'Bits of the protocol that count'],
  ['hmark-rnd', 'seed', 0, UINT32_MAX, hex(8), 'Seed of the hash'],
  ['hmark-mod', 'modulus', 1, UINT32_MAX, String, 'How many marks there are'],
  ['hmark-offset', 'offset', 0, UINT32_MAX, String, 'The first mark'],
];

function refuseTwice(option: string, given: boolean): void {
  if (given) throw new OptionError(`--hmark-tuple and --${option} say the same twice`, { argument: -1 });
}

function prefix(
  name: string,
  key: 'sourceMask' | 'destinationMask',
  summary: string,
): OptionSpec<HmarkState> {
  return {
    name,
    arguments: 1,
    syntax: 'prefix length',
    summary,
    apply(state, [value], _negated, { family }) {
      refuseTwice(name, state[key] !== undefined);
      state[key] = parsePrefixMask(value!, family);
    },
  };
}

/** Room for a mask of either family, which is filled whole for both. */
const MASK_BYTES = 16;
const ALL_BITS: Uint8Array = new Uint8Array(MASK_BYTES).fill(0xff);

/** What each word of `--hmark-tuple` makes count in full; words may be cut short. */
const TUPLE: readonly (readonly [word: string, counted: Partial<HmarkState>])[] = [
  ['ct', { connection: true }],
  ['src', { sourceMask: ALL_BITS }],
  ['dst', { destinationMask: ALL_BITS }],
  ['sport', { sourcePortMask: 0xffff }],
  ['dport', { destinationPortMask: 0xffff }],
  ['proto', { protocolMask: 0xffff }],
  ['spi', { spiMask: UINT32_MAX }],
];

/** A number that is one word or half of one, and the flag that says that it is given (XT_HMARK_*, as a bit). */
interface NumberPlace {
  readonly key: NumberKey;
  readonly flag: number;
  readonly at: number;
  readonly bytes: 2 | 4;
  /** Ports and SPI are in network order. */
  readonly network: boolean;
}

const Flag = { SOURCE: 0, DESTINATION: 1, CONNECTION: 12, METHOD_L3: 13 } as const;

const PLACES: readonly NumberPlace[] = [
  { key: 'spi', flag: 2, at: 36, bytes: 4, network: true },
  { key: 'spiMask', flag: 3, at: 32, bytes: 4, network: true },
  { key: 'sourcePort', flag: 4, at: 36, bytes: 2, network: true },
  { key: 'destinationPort', flag: 5, at: 38, bytes: 2, network: true },
  { key: 'sourcePortMask', flag: 6, at: 32, bytes: 2, network: true },
  { key: 'destinationPortMask', flag: 7, at: 34, bytes: 2, network: true },
  { key: 'protocolMask', flag: 8, at: 44, bytes: 2, network: false },
  { key: 'seed', flag: 9, at: 48, bytes: 4, network: false },
  { key: 'modulus', flag: 10, at: 52, bytes: 4, network: false },
  { key: 'offset', flag: 11, at: 56, bytes: 4, network: false },
];

function readPlace(view: DataView, { at, bytes, network }: NumberPlace): number {
  return bytes === 2 ? view.getUint16(at, !network) : view.getUint32(at, !network);
}

function writePlace(view: DataView, { at, bytes, network }: NumberPlace, value: number): void {
  if (bytes === 2) view.setUint16(at, value, !network);
  else view.setUint32(at, value, !network);
}

/** struct hmark_tuple. */
interface HashedFlow {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  /** Both ports, or the SPI, as the 32 bits they stand in; absent where there are none. */
  readonly ports?: number | undefined;
}

/** Offset of ports or SPI in the transport header (proto_ports_offset). */
const PORTS_AT: ReadonlyMap<number, number> = new Map([
  [Protocol.TCP, 0],
  [Protocol.UDP, 0],
  [Protocol.UDPLITE, 0],
  [Protocol.SCTP, 0],
  [Protocol.DCCP, 0],
  [Protocol.ESP, 0],
  [Protocol.AH, 4],
]);
const ANY_HEADER = -1;
const ICMP_HEADER_BYTES = 8;
/** Destination unreachable, source quench, redirect, time exceeded, parameter problem. */
const ICMP_ERRORS: readonly number[] = [3, 4, 5, 11, 12];

/** The addresses of a connection as it began, and of the host that answers, wherever it was translated to. */
function flowOfConnection(packet: EvaluationPacket): HashedFlow | undefined {
  const connection = connectionOf(packet);
  if (connection === undefined) return undefined;
  const { original, reply } = connection;
  return {
    source: original.source,
    destination: reply.source,
    protocol: original.protocol,
    ports:
      original.protocol === Protocol.ICMP
        ? undefined
        : ((original.sourcePort << 16) | reply.sourcePort) >>> 0,
  };
}

/** The flow of a packet, or of the packet that it quotes as an ICMP error; `undefined` when that is cut short. */
function flowOfPacket({ family, bytes }: EvaluationPacket): HashedFlow | undefined {
  return family === 'ipv4' ? flowOfIpv4(bytes) : flowOfIpv6(bytes);
}

function flowOfIpv4(bytes: Uint8Array): HashedFlow | undefined {
  let packet = bytes;
  const icmpAt = (bytes[0]! & 15) * 4;
  const isError = bytes[9] === Protocol.ICMP && ICMP_ERRORS.includes(bytes[icmpAt]!);
  if (isError && bytes.length >= icmpAt + ICMP_HEADER_BYTES)
    packet = bytes.subarray(icmpAt + ICMP_HEADER_BYTES);
  if (packet.length < 20) return undefined;
  const protocol = packet[9]!;
  const isFragment = (((packet[6]! << 8) | packet[7]!) & 0x3fff) !== 0;
  return {
    source: packet.subarray(12, 16),
    destination: packet.subarray(16, 20),
    protocol,
    ports: isFragment ? undefined : portsAt(packet, protocol, (packet[0]! & 15) * 4),
  };
}

function flowOfIpv6(bytes: Uint8Array): HashedFlow | undefined {
  const found = newFoundHeader();
  let protocol = findIpv6Header(bytes, 0, bytes.length, ANY_HEADER, IP6_FH_F_AUTH, found);
  // A chain that is cut short is hashed as nothing at all.
  if (protocol < 0) return { source: new Uint8Array(16), destination: new Uint8Array(16), protocol: 0 };
  let start = 0;
  const type = bytes[found.offset] ?? 0;
  const whole = (found.flags & IP6_FH_F_FRAG) === 0;
  const isError = protocol === Protocol.ICMPV6 && type > 0 && type < 128;
  if (whole && isError && bytes.length >= found.offset + ICMP_HEADER_BYTES) {
    start = found.offset + ICMP_HEADER_BYTES;
    protocol = findIpv6Header(bytes, start, bytes.length, ANY_HEADER, IP6_FH_F_AUTH, found);
    if (protocol < 0) return undefined;
  }
  return {
    source: bytes.subarray(start + 8, start + 24),
    destination: bytes.subarray(start + 24, start + 40),
    protocol,
    ports: (found.flags & IP6_FH_F_FRAG) !== 0 ? undefined : portsAt(bytes, protocol, start + found.offset),
  };
}

/** Ports or SPI of a transport header, as they stand; `undefined` when it has none. */
function portsAt(bytes: Uint8Array, protocol: number, offset: number): number | undefined {
  const inHeader = PORTS_AT.get(protocol);
  if (inHeader === undefined || offset + inHeader + 4 > bytes.length) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset + offset + inHeader, 4).getUint32(0);
}

/** The bits of an address that count, of IPv6 folded into one word; host order. */
function maskedWord(address: Uint8Array, mask: Uint8Array | undefined): number {
  if (mask === undefined) return 0;
  let word = 0;
  for (let at = 0; at < address.length; at += 4) {
    for (let byte = 0; byte < 4; byte++) word ^= (address[at + byte]! & mask[at + byte]!) << (24 - byte * 8);
  }
  return word >>> 0;
}

/** hmark_hash(): the same for both directions. */
function markOf(state: HmarkState, { source, destination, protocol, ports }: HashedFlow): number {
  const ordered = (one: number, other: number): readonly [low: number, high: number] =>
    one < other ? [one, other] : [other, one];
  const addresses = ordered(
    maskedWord(source, state.sourceMask),
    maskedWord(destination, state.destinationMask),
  );
  const mask = state.spiMask ?? ((state.sourcePortMask ?? 0) << 16) | (state.destinationPortMask ?? 0);
  const set = state.spi ?? ((state.sourcePort ?? 0) << 16) | (state.destinationPort ?? 0);
  const counted = ports === undefined ? undefined : ((ports & mask) | set) >>> 0;
  const [low, high] = counted === undefined ? [0, 0] : ordered(counted >>> 16, counted & 0xffff);
  const hash =
    jhash2([...addresses, (high << 16) | low], state.seed!) ^ (protocol & (state.protocolMask ?? 0));
  return (reciprocalScale(hash, state.modulus!) + (state.offset ?? 0)) >>> 0;
}

export const hmark: TargetExtension = defineTarget<HmarkState>({
  name: 'HMARK',
  families: ['ipv4', 'ipv6'],
  summary: 'Sets the mark to a hash of addresses and ports, and goes on',
  options: [
    {
      name: 'hmark-tuple',
      arguments: 1,
      syntax: 'src|dst|sport|dport|spi|proto|ct[,…]',
      summary: 'What the hash is made of; ct for the addresses of the connection',
      apply(state, [value]) {
        for (const word of value!.split(',')) {
          const entry = TUPLE.find(([name]) => word !== '' && name.startsWith(word.toLowerCase()));
          if (entry === undefined)
            throw new OptionError(`"${word}" cannot be hashed`, {
              hint: `write some of ${TUPLE.map(([name]) => name).join(', ')}`,
            });
          Object.assign(state, entry[1]);
        }
      },
    },
    prefix('hmark-src-prefix', 'sourceMask', 'How much of the source address counts'),
    prefix('hmark-dst-prefix', 'destinationMask', 'How much of the destination address counts'),
    ...NUMBERS.map(
      ([name, key, min, max, , summary]): OptionSpec<HmarkState> => ({
        name,
        arguments: 1,
        syntax: 'number',
        summary,
        apply(state, [value]) {
          refuseTwice(name, state[key] !== undefined);
          state[key] = boundedNumber(value!, min, max);
        },
      }),
    ),
  ],
  initial: () => ({
    sourceMask: undefined,
    destinationMask: undefined,
    sourcePortMask: undefined,
    destinationPortMask: undefined,
    spiMask: undefined,
    sourcePort: undefined,
    destinationPort: undefined,
    spi: undefined,
    protocolMask: undefined,
    seed: undefined,
    modulus: undefined,
    offset: undefined,
    connection: false,
  }),
  finish(state) {
    const { sourcePortMask, destinationPortMask, spiMask } = state;
    requireAll('HMARK', { 'hmark-mod': state.modulus !== undefined, 'hmark-rnd': state.seed !== undefined });
    allowOne({ 'hmark-spi-mask': spiMask !== undefined, 'hmark-sport-mask': sourcePortMask !== undefined });
    allowOne({
      'hmark-spi-mask': spiMask !== undefined,
      'hmark-dport-mask': destinationPortMask !== undefined,
    });
    const { modulus, seed, offset, connection, ...fields } = state;
    if (!connection && Object.values(fields).every((given) => given === undefined))
      throw new OptionError('nothing is hashed', { hint: 'add --hmark-tuple', argument: -1 });
  },
  admit({ spi, sourcePort, destinationPort }) {
    if (spi !== undefined && (sourcePort !== undefined || destinationPort !== undefined))
      throw new OptionError('--hmark-spi cannot be used together with --hmark-sport or --hmark-dport', {
        argument: -1,
      });
  },
  print(state, { family }) {
    const bits = (mask: Uint8Array): number | undefined =>
      lengthOfMask(mask.subarray(0, addressLength(family)));
    let text = '';
    if (state.sourceMask) text += ` --hmark-src-prefix ${bits(state.sourceMask)}`;
    if (state.destinationMask) text += ` --hmark-dst-prefix ${bits(state.destinationMask)}`;
    for (const [option, key, , , format] of NUMBERS) {
      const value = state[key];
      if (value !== undefined) text += ` --${option} ${format(value)}`;
    }
    return state.connection ? `${text} --hmark-tuple ct` : text;
  },
  effect(state, packet) {
    const flow = state.connection ? flowOfConnection(packet) : flowOfPacket(packet);
    if (flow !== undefined) packet.mark = markOf(state, flow);
    return 'continue';
  },
  // struct xt_hmark_info
  abi: [
    {
      name: 'HMARK',
      revision: 0,
      size: 60,
      decode(view) {
        const flags = view.getUint32(40, true);
        const has = (flag: number): boolean => (flags & (1 << flag)) !== 0;
        const numbers: Partial<Record<NumberKey, number | undefined>> = {};
        for (const place of PLACES) numbers[place.key] = has(place.flag) ? readPlace(view, place) : undefined;
        const { spi, spiMask, sourcePort, destinationPort, sourcePortMask, destinationPortMask } = numbers;
        if ((numbers.modulus ?? 0) === 0) refuse('HMARK: there are no marks');
        if (has(Flag.METHOD_L3) && view.getUint16(44, true) !== 0)
          refuse('HMARK: the protocol does not count between hosts');
        if (spiMask !== undefined && (sourcePortMask ?? destinationPortMask) !== undefined)
          refuse('HMARK: SPI and ports do not go together');
        if (spi !== undefined && (sourcePort ?? destinationPort) !== undefined)
          refuse('HMARK: SPI and ports do not go together');
        return {
          ...(numbers as Record<NumberKey, number | undefined>),
          sourceMask: has(Flag.SOURCE) ? readBytes(view, 0, MASK_BYTES) : undefined,
          destinationMask: has(Flag.DESTINATION) ? readBytes(view, 16, MASK_BYTES) : undefined,
          connection: has(Flag.CONNECTION),
        };
      },
      encode(state, view) {
        let flags = state.connection ? 1 << Flag.CONNECTION : 0;
        if (state.sourceMask !== undefined) {
          flags |= 1 << Flag.SOURCE;
          writeBytes(view, 0, state.sourceMask);
        }
        if (state.destinationMask !== undefined) {
          flags |= 1 << Flag.DESTINATION;
          writeBytes(view, 16, state.destinationMask);
        }
        for (const place of PLACES) {
          const value = state[place.key];
          if (value === undefined) continue;
          flags |= 1 << place.flag;
          writePlace(view, place, value);
        }
        view.setUint32(40, flags, true);
      },
    },
  ],
});
