/** `-m connlimit`: net/netfilter/xt_connlimit.c, revision 1. */
import { addressLength, maskOfLength } from '../../../net/index.ts';
import type { ConntrackTuple, EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixMask } from '../../text/host.ts';
import { allowOne, requireOne } from '../../text/requirement.ts';
import { readAddress, readBytes, writeBytes } from '../../uapi/payload.ts';
import { connectionOf } from '../ct-state.ts';
import { addressOf, hasBytes, readUint16 } from '../header.ts';

/** XT_CONNLIMIT_* */
const INVERT = 0x1;
const DESTINATION = 0x2;
const MASK_BYTES = 16;

interface ConnlimitState {
  readonly given: Set<
    'connlimit-upto' | 'connlimit-above' | 'connlimit-mask' | 'connlimit-saddr' | 'connlimit-daddr'
  >;
  limit: number;
  /** Matches more than `limit` connections, else at most so many. */
  above: boolean;
  mask: Uint8Array;
}

function limit(name: 'connlimit-upto' | 'connlimit-above', summary: string): OptionSpec<ConnlimitState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'n',
    summary,
    apply(state, [value], negated) {
      state.given.add(name);
      state.limit = boundedNumber(value!, 0, UINT32_MAX);
      state.above = (name === 'connlimit-above') !== negated;
    },
  };
}

function side(name: 'connlimit-saddr' | 'connlimit-daddr', summary: string): OptionSpec<ConnlimitState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      state.given.add(name);
    },
  };
}

/** How many bits of a mask are set. */
function countBits(mask: Uint8Array): number {
  let bits = 0;
  for (const byte of mask) for (let bit = 7; bit >= 0; bit--) bits += (byte >> bit) & 1;
  return bits;
}

/** Tuples of the connections that were counted, by group; one for each rule (struct nf_conncount_data). */
type CountedConnections = Map<string, { readonly tuple: ConntrackTuple; readonly zone: number }[]>;

const NO_PORTS = { sourcePort: 0, destinationPort: 0 };

/** nf_ct_get_tuplepr() for packets that belong to no connection; `undefined` when ports are cut off. */
function tupleOf(packet: EvaluationPacket): ConntrackTuple | undefined {
  const { protocol, transportOffset } = packet;
  if (protocol < 0) return undefined;
  const ends = {
    source: addressOf(packet, 'source'),
    destination: addressOf(packet, 'destination'),
    protocol,
  };
  if (!PORT_PROTOCOLS.includes(protocol)) return { ...ends, ...NO_PORTS };
  if (!hasBytes(packet, transportOffset, 4)) return undefined;
  return {
    ...ends,
    sourcePort: readUint16(packet, transportOffset),
    destinationPort: readUint16(packet, transportOffset + 2),
  };
}

const PORT_PROTOCOLS: readonly number[] = [
  Protocol.TCP,
  Protocol.UDP,
  Protocol.UDPLITE,
  Protocol.SCTP,
  Protocol.DCCP,
];

function sameTuple(a: ConntrackTuple, b: ConntrackTuple): boolean {
  return (
    a.protocol === b.protocol &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort &&
    a.source.every((byte, index) => byte === b.source[index]) &&
    a.destination.every((byte, index) => byte === b.destination[index])
  );
}

/** nf_conncount_count(): connections of the group, that of the packet among them; those that have ended are forgotten. */
function countConnections(
  state: ConnlimitState,
  packet: EvaluationPacket,
  counted: CountedConnections,
): number | undefined {
  const connection = connectionOf(packet);
  const tuple = connection?.original ?? tupleOf(packet);
  if (tuple === undefined) return undefined;
  const zone = connection?.zone ?? 0;
  const side = state.given.has('connlimit-daddr') ? 'destination' : 'source';
  const group = `${zone} ${addressOf(packet, side).map((byte, index) => byte & state.mask[index]!)}`;
  const known = (counted.get(group) ?? []).filter((one) => {
    const live = packet.world.findConnection?.(one.tuple, one.zone);
    if (live === undefined) return false;
    return !live.closed || (one.zone === zone && sameTuple(one.tuple, tuple));
  });
  if (!known.some((one) => one.zone === zone && sameTuple(one.tuple, tuple))) known.push({ tuple, zone });
  counted.set(group, known);
  return known.length;
}

export const connlimit: MatchExtension = defineMatch<ConnlimitState>({
  name: 'connlimit',
  families: ['ipv4', 'ipv6'],
  summary: 'Number of parallel connections by host or network',
  options: [
    limit('connlimit-upto', 'At most n connections'),
    limit('connlimit-above', 'More than n connections'),
    {
      name: 'connlimit-mask',
      arguments: 1,
      syntax: 'prefix length',
      summary: 'Groups hosts by prefix; by default every host counts alone',
      apply(state, [value], _negated, { family }) {
        state.given.add('connlimit-mask');
        state.mask = parsePrefixMask(value!, family);
      },
    },
    side('connlimit-saddr', 'Groups by source address (default)'),
    side('connlimit-daddr', 'Groups by destination address'),
  ],
  initial: ({ family }) => ({
    given: new Set(),
    limit: 0,
    above: false,
    mask: maskOfLength(family, addressLength(family) * 8),
  }),
  finish({ given }) {
    requireOne('connlimit', {
      'connlimit-upto': given.has('connlimit-upto'),
      'connlimit-above': given.has('connlimit-above'),
    });
    allowOne({
      'connlimit-saddr': given.has('connlimit-saddr'),
      'connlimit-daddr': given.has('connlimit-daddr'),
    });
  },
  print(state) {
    const side = state.given.has('connlimit-daddr') ? 'daddr' : 'saddr';
    return ` --connlimit-${state.above ? 'above' : 'upto'} ${state.limit} --connlimit-mask ${countBits(state.mask)} --connlimit-${side}`;
  },
  // struct xt_connlimit_info
  abi: [
    {
      name: 'connlimit',
      revision: 1,
      size: 32,
      userSize: 24,
      decode(view, { family }) {
        const flags = view.getUint32(20, true);
        const above = (flags & INVERT) === 0;
        return {
          given: new Set([
            above ? 'connlimit-above' : 'connlimit-upto',
            (flags & DESTINATION) === 0 ? 'connlimit-saddr' : 'connlimit-daddr',
            // Without the option all bytes of the place are set, also those that IPv4 has no use for.
            ...(readBytes(view, 0, MASK_BYTES).every((byte) => byte === 0xff)
              ? []
              : (['connlimit-mask'] as const)),
          ] as const),
          limit: view.getUint32(16, true),
          above,
          mask: readAddress(view, 0, family),
        };
      },
      encode({ given, limit: most, above, mask }, view) {
        if (!given.has('connlimit-mask')) writeBytes(view, 0, new Uint8Array(MASK_BYTES).fill(0xff));
        else writeBytes(view, 0, mask);
        view.setUint32(16, most, true);
        view.setUint32(20, (above ? 0 : INVERT) | (given.has('connlimit-daddr') ? DESTINATION : 0), true);
      },
    },
  ],
  // Programs cannot count the connections of a table.
  semantics: {
    memory: (): CountedConnections => new Map(),
    evaluate(state, packet, memory) {
      const count = countConnections(state, packet, memory as CountedConnections);
      return count === undefined ? 'hotdrop' : count > state.limit === state.above;
    },
    explain: (state) => `it is ${state.above ? 'not ' : ''}one of more than ${state.limit} connections`,
  },
});
