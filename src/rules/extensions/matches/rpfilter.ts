/** `-m rpfilter`: net/ipv4/netfilter/ipt_rpfilter.c and ip6t_rpfilter.c. */
import { Hook } from '../../../ir/index.ts';
import { type Family, formatAddressBytes } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { decodeFlags, encodeFlags, type FlagTable, flagOptions, printFlags } from '../flag-option.ts';
import { addressOf } from '../header.ts';

type Flag = 'loose' | 'validmark' | 'accept-local' | 'invert';

const FLAGS: FlagTable<Flag> = [
  ['loose', 'Any device will do, as long as there is a route'],
  ['validmark', 'The mark of the packet takes part in the look-up'],
  ['accept-local', 'Packets from addresses of this host pass'],
  ['invert', 'Matches packets that fail the test'],
];

const RTN_LOCAL = 2;
const RTN_UNICAST = 1;
const RTN_MULTICAST = 5;

/** Packets that could not come from anywhere else: the way back is not asked for. */
function isExempt(packet: EvaluationPacket): boolean {
  if (packet.inDevice === 'lo') return true;
  const source = addressOf(packet, 'source');
  if (packet.family === 'ipv6') return source.every((byte) => byte === 0);
  const to = addressOf(packet, 'destination');
  const linkLocalGroup = to[0] === 224 && to[1] === 0 && to[2] === 0;
  return source[0] === 0 && (to.every((byte) => byte === 255) || linkLocalGroup);
}

function passes(flags: ReadonlySet<Flag>, packet: EvaluationPacket): boolean {
  if (isExempt(packet)) return true;
  const source = addressOf(packet, 'source');
  const { world } = packet;
  const type = world.addressType(source);
  // Every device has a route to its own link.
  if (packet.family === 'ipv6' && source[0] === 0xfe && (source[1]! & 0xc0) === 0x80 && type !== RTN_LOCAL)
    return true;
  if (type === RTN_LOCAL) return flags.has('accept-local') && ownPasses(flags, packet);
  if (!isRouted(packet.family, type, source)) return false;
  const back = world.outputDevice(source);
  return back !== undefined && (flags.has('loose') || back === packet.inDevice);
}

/** The routing tables know a route to groups and to the broadcast to all, as to any address; not to broadcasts of a link. */
function isRouted(family: Family, type: number, source: Uint8Array): boolean {
  if (type === RTN_UNICAST) return true;
  if (family === 'ipv6') return false;
  return type === RTN_MULTICAST || source[0] === 0 || source.every((byte) => byte === 255);
}

/** An address of this host: over IPv4 it has to be one of the device. */
function ownPasses(flags: ReadonlySet<Flag>, packet: EvaluationPacket): boolean {
  if (packet.family === 'ipv6' || flags.has('loose')) return true;
  return packet.world.addressType(addressOf(packet, 'source'), packet.inDevice) === RTN_LOCAL;
}

export const rpfilter: MatchExtension = defineMatch<Set<Flag>>({
  name: 'rpfilter',
  families: ['ipv4', 'ipv6'],
  summary: 'Reverse path filter: a reply would leave by the device the packet came in by',
  where: { tables: ['raw', 'mangle'], hooks: [Hook.PRE_ROUTING] },
  options: flagOptions(FLAGS),
  initial: () => new Set(),
  list: (state) => ` rpfilter${printFlags(FLAGS, state).replaceAll(' --', ' ')}`,
  print: (state) => printFlags(FLAGS, state),
  // struct xt_rpfilter_info
  abi: [
    {
      name: 'rpfilter',
      revision: 0,
      size: 1,
      decode: (view) => decodeFlags(FLAGS, view, 0, 'rpfilter'),
      encode(state, view) {
        view.setUint8(0, encodeFlags(FLAGS, state));
      },
    },
  ],
  // The routing look-up of a program is another one than this.
  semantics: {
    evaluate: (flags, packet) => passes(flags, packet) !== flags.has('invert'),
    explain(flags, packet) {
      const source = formatAddressBytes(addressOf(packet, 'source'));
      return flags.has('invert')
        ? `${source} may come in by ${packet.inDevice}`
        : `a packet to ${source} would not leave by ${packet.inDevice}`;
    },
  },
});
