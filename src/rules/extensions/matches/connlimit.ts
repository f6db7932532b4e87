/** `-m connlimit`: net/netfilter/xt_connlimit.c, revision 1; net/netfilter/nf_conncount.c as of 6.18. */
import { addressLength, maskOfLength } from '../../../net/index.ts';
import type { ConntrackTuple, EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixMask } from '../../text/host.ts';
import { allowOne, requireOne } from '../../text/requirement.ts';
import { readAddress, readBytes, writeBytes } from '../../uapi/payload.ts';
import { connectionOf, IPS_ASSURED, IPS_CONFIRMED } from '../ct-state.ts';
import { addressOf } from '../header.ts';
import { jiffies } from '../jiffies.ts';

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

/** One connection of a group. */
interface CountedConnection {
  readonly tuple: ConntrackTuple;
  readonly zone: number;
}

/** struct nf_conncount_list: what a group has counted, and when it was last gone through. */
interface CountedGroup {
  connections: CountedConnection[];
  gcJiffies: number;
  gcCount: number;
}

/** Groups of one rule (struct nf_conncount_data). */
type CountedConnections = Map<string, CountedGroup>;

/** CONNCOUNT_GC_MAX_COLLECT: how many ended connections one look removes, and how many new ones pass without a look. */
const MOST_COLLECTED = 64;

function sameTuple(a: ConntrackTuple, b: ConntrackTuple): boolean {
  return (
    a.protocol === b.protocol &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort &&
    a.source.every((byte, index) => byte === b.source[index]) &&
    a.destination.every((byte, index) => byte === b.destination[index])
  );
}

/** A connection to be counted, and what conntrack's table says of it: nothing yet, it is there, it has been answered for good. */
interface OwnConnection extends CountedConnection {
  readonly standing: 'new' | 'known' | 'assured';
}

/** get_ct_or_tuple_from_skb(). */
function countedOf(packet: EvaluationPacket): OwnConnection | undefined {
  const connection = connectionOf(packet);
  if (connection !== undefined) {
    const { original, zone, status } = connection;
    const known = (status & IPS_ASSURED) !== 0 ? 'assured' : 'known';
    return { tuple: original, zone, standing: (status & IPS_CONFIRMED) === 0 ? 'new' : known };
  }
  const { connections } = packet.world;
  const tuple = connections?.tupleOf(packet.family, packet.bytes);
  if (tuple === undefined) return undefined;
  const found = connections?.find(tuple, 0);
  return { tuple, zone: 0, standing: found === undefined ? 'new' : found.assured ? 'assured' : 'known' };
}

/**
 * Forgets connections of a group that conntrack no longer has or that have closed, up to `own`, which it may be told to find.
 * @returns whether it found it
 */
function collect(
  group: CountedGroup,
  { world }: EvaluationPacket,
  now: number,
  own?: CountedConnection,
): boolean {
  let collected = 0;
  const gone = new Set<CountedConnection>();
  const isOwn = ({ tuple, zone }: CountedConnection): boolean =>
    own !== undefined && zone === own.zone && sameTuple(tuple, own.tuple);
  let found = false;
  for (const one of group.connections) {
    if (collected > MOST_COLLECTED || found) break;
    const live = world.connections?.find(one.tuple, one.zone);
    if (live !== undefined && isOwn(one)) found = true;
    else if (live === undefined || live.closed) {
      gone.add(one);
      collected++;
    }
  }
  group.connections = group.connections.filter((one) => !gone.has(one));
  if (found) return true;
  group.gcJiffies = now;
  group.gcCount = group.connections.length;
  return false;
}

/**
 * nf_conncount_count_skb(): how many connections the packet's group has. A connection is counted while it is new; once it is
 * assured, its packets only have the group gone through. `undefined` when nothing can be counted.
 */
function countConnections(
  state: ConnlimitState,
  packet: EvaluationPacket,
  counted: CountedConnections,
): number | undefined {
  const side = state.given.has('connlimit-daddr') ? 'destination' : 'source';
  const zone = connectionOf(packet)?.zone ?? 0;
  const key = `${zone} ${addressOf(packet, side).map((byte, index) => byte & state.mask[index]!)}`;
  const own = countedOf(packet);
  if (own === undefined) return undefined;
  const now = jiffies(packet.world.nowMs());
  const group = counted.get(key);
  if (group === undefined) {
    counted.set(key, { connections: [own], gcJiffies: now, gcCount: 0 });
    return 1;
  }
  const justDone = now === group.gcJiffies;
  if (own.standing === 'assured') {
    if (!justDone) collect(group, packet, now);
    return group.connections.length;
  }
  const fewSince = group.connections.length - group.gcCount < MOST_COLLECTED;
  const unlooked = own.standing === 'new' && justDone && fewSince;
  if (unlooked || !collect(group, packet, now, own)) group.connections.push(own);
  return group.connections.length;
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
      // None left, not even the packet's own: the kernel takes that for a lack of memory.
      return count === undefined || count === 0 ? 'hotdrop' : count > state.limit === state.above;
    },
    explain: (state) => `it is ${state.above ? 'not ' : ''}one of more than ${state.limit} connections`,
  },
});
