/** `-m addrtype`: net/netfilter/xt_addrtype.c, revision 1. For IPv6 the types asked for must hold all together, not one of them. */
import { Hook, type Predicate } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { allowOne, requireAny } from '../../text/requirement.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { parseNames } from '../ct-state.ts';
import { addressOf } from '../header.ts';

interface Types {
  bits: number;
  negate: boolean;
}

interface AddrtypeState {
  source: Types | undefined;
  destination: Types | undefined;
  limitIn: boolean;
  limitOut: boolean;
}

/** RTN_* of uapi/linux/rtnetlink.h, each as 1 << number. */
const TYPES = [
  'UNSPEC',
  'UNICAST',
  'LOCAL',
  'BROADCAST',
  'ANYCAST',
  'MULTICAST',
  'BLACKHOLE',
  'UNREACHABLE',
  'PROHIBIT',
  'THROW',
  'NAT',
  'XRESOLVE',
].map((name, number) => [name, 1 << number] as const);
const UNSPEC = 1 << 0;
const UNICAST = 1 << 1;
const LOCAL = 1 << 2;
const BROADCAST = 1 << 3;
const ANYCAST = 1 << 4;
const MULTICAST = 1 << 5;
const BLACKHOLE = 1 << 6;
const UNREACHABLE = 1 << 7;
const PROHIBIT = 1 << 8;
/** Types that IPv6 asks the routing table for. */
const ROUTED_6 = LOCAL | ANYCAST | UNREACHABLE;

/** XT_ADDRTYPE_*. */
const AddrtypeFlag = {
  INVERT_SOURCE: 1,
  INVERT_DESTINATION: 2,
  LIMIT_IN: 4,
  LIMIT_OUT: 8,
  ALL: 0xf,
} as const;

/** The kernel takes no types for any type. */
function typesAt(view: DataView, offset: number, negate: boolean): Types | undefined {
  const bits = view.getUint16(offset, true);
  return bits === 0 ? undefined : { bits, negate };
}

function formatTypes(bits: number): string {
  return TYPES.filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name)
    .join(',');
}

function isUnspecified(address: Uint8Array): boolean {
  return address.every((byte) => byte === 0);
}

function isMapped(address: Uint8Array): boolean {
  return address.every((byte, index) => index >= 12 || byte === (index >= 10 ? 0xff : 0));
}

/** Part of ipv6_addr_type: all but multicast, unspecified and IPv4-mapped addresses are unicast. */
function typeHolds6(bits: number, address: Uint8Array, packet: EvaluationPacket, device?: string): boolean {
  const multicast = address[0] === 0xff;
  if ((bits & MULTICAST) !== 0 && !multicast) return false;
  if ((bits & UNICAST) !== 0 && (multicast || isUnspecified(address) || isMapped(address))) return false;
  if ((bits & UNSPEC) !== 0 && !isUnspecified(address)) return false;
  if ((bits & ROUTED_6) === 0) return true;
  return (bits & ROUTED_6 & (1 << packet.world.addressType(address, device))) !== 0;
}

function holds(
  types: Types | undefined,
  side: 'source' | 'destination',
  state: AddrtypeState,
  packet: EvaluationPacket,
): boolean {
  if (types === undefined) return true;
  const name = state.limitIn ? packet.inDevice : state.limitOut ? packet.outDevice : '';
  const device = name === '' ? undefined : name;
  const address = addressOf(packet, side);
  const found =
    packet.family === 'ipv6'
      ? typeHolds6(types.bits, address, packet, device)
      : (types.bits & (1 << packet.world.addressType(address, device))) !== 0;
  return found !== types.negate;
}

const LENGTH_6 = 16;

function address6(side: 'source' | 'destination', value: Uint8Array, maskBytes: number): Predicate {
  const mask = new Uint8Array(LENGTH_6).fill(0xff, 0, maskBytes);
  return { kind: 'address', field: `ip.${side}`, value, mask, negate: false };
}

function lowerSide(
  types: Types | undefined,
  side: 'source' | 'destination',
  state: AddrtypeState,
  family: Family,
): Predicate[] {
  if (types === undefined) return [];
  const limitTo = state.limitIn ? 'in' : state.limitOut ? 'out' : 'none';
  const routed = (bits: number, negate: boolean): Predicate => ({
    kind: 'address-type',
    field: `ip.${side}`,
    types: bits,
    limitTo,
    negate,
  });
  if (family === 'ipv4') return [routed(types.bits, types.negate)];
  const zero = new Uint8Array(LENGTH_6);
  const unspecified = address6(side, zero, LENGTH_6);
  const multicast = address6(side, Uint8Array.of(0xff, ...zero.subarray(1)), 1);
  const mapped = address6(
    side,
    zero.map((_, index) => (index === 10 || index === 11 ? 0xff : 0)),
    12,
  );
  const all: Predicate[] = [];
  if ((types.bits & MULTICAST) !== 0) all.push(multicast);
  if ((types.bits & UNICAST) !== 0)
    all.push({ kind: 'not', of: { kind: 'any', of: [multicast, unspecified, mapped] } });
  if ((types.bits & UNSPEC) !== 0) all.push(unspecified);
  if ((types.bits & ROUTED_6) !== 0) all.push(routed(types.bits & ROUTED_6, false));
  return types.negate ? [{ kind: 'not', of: { kind: 'all', of: all } }] : all;
}

export const addrtype: MatchExtension = defineMatch<AddrtypeState>({
  name: 'addrtype',
  families: ['ipv4', 'ipv6'],
  summary: 'Type of an address as the routing table has it: local, broadcast, …',
  where: (state) => {
    if (state.limitOut) return { hooks: [Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING] };
    if (state.limitIn) return { hooks: [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD] };
    return {};
  },
  options: [
    {
      name: 'src-type',
      arguments: 1,
      negatable: true,
      syntax: 'type[,…]',
      summary: `Type of the source address: ${TYPES.map(([name]) => name).join(', ')}`,
      apply(state, [value], negate) {
        state.source = { bits: parseNames(value!, TYPES), negate };
      },
    },
    {
      name: 'dst-type',
      arguments: 1,
      negatable: true,
      syntax: 'type[,…]',
      summary: 'Type of the destination address',
      apply(state, [value], negate) {
        state.destination = { bits: parseNames(value!, TYPES), negate };
      },
    },
    {
      name: 'limit-iface-in',
      arguments: 0,
      summary: 'Local and broadcast mean those of the input device (not in OUTPUT and POSTROUTING)',
      apply(state) {
        state.limitIn = true;
      },
    },
    {
      name: 'limit-iface-out',
      arguments: 0,
      summary: 'Local and broadcast mean those of the output device (not in PREROUTING and INPUT)',
      apply(state) {
        state.limitOut = true;
      },
    },
  ],
  initial: () => ({ source: undefined, destination: undefined, limitIn: false, limitOut: false }),
  finish(state) {
    requireAny('addrtype', {
      'src-type': state.source !== undefined,
      'dst-type': state.destination !== undefined,
    });
    allowOne({ 'limit-iface-in': state.limitIn, 'limit-iface-out': state.limitOut });
  },
  admit(state, context) {
    const asked = (state.source?.bits ?? 0) | (state.destination?.bits ?? 0);
    if (context.family === 'ipv6' && ((asked & (BLACKHOLE | BROADCAST)) !== 0 || asked >= PROHIBIT))
      throw new OptionError('IPv6 knows only UNSPEC, UNICAST, LOCAL, ANYCAST, MULTICAST and UNREACHABLE');
  },
  list(state) {
    const side = (name: string, types: Types | undefined): string =>
      types === undefined ? '' : ` ${name} ${types.negate ? '!' : ''}${formatTypes(types.bits)}`;
    const limits = (state.limitIn ? ' limit-in' : '') + (state.limitOut ? ' limit-out' : '');
    return ` ADDRTYPE match${side('src-type', state.source)}${side('dst-type', state.destination)}${limits}`;
  },
  print(state) {
    let text = '';
    for (const [option, types] of [
      ['src-type', state.source],
      ['dst-type', state.destination],
    ] as const) {
      if (types !== undefined) text += `${types.negate ? ' !' : ''} --${option} ${formatTypes(types.bits)}`;
    }
    if (state.limitIn) text += ' --limit-iface-in';
    if (state.limitOut) text += ' --limit-iface-out';
    return text;
  },
  // struct xt_addrtype_info_v1, and struct xt_addrtype_info of IPv4 alone
  abi: [
    {
      name: 'addrtype',
      revision: 1,
      size: 8,
      decode(view) {
        const flags = view.getUint32(4, true);
        const limitIn = (flags & AddrtypeFlag.LIMIT_IN) !== 0;
        const limitOut = (flags & AddrtypeFlag.LIMIT_OUT) !== 0;
        if (limitIn && limitOut) refuse('addrtype is limited to both devices');
        if ((flags & ~AddrtypeFlag.ALL) !== 0) unwritten('addrtype has unknown flags');
        return {
          source: typesAt(view, 0, (flags & AddrtypeFlag.INVERT_SOURCE) !== 0),
          destination: typesAt(view, 2, (flags & AddrtypeFlag.INVERT_DESTINATION) !== 0),
          limitIn,
          limitOut,
        };
      },
      encode(state, view) {
        view.setUint16(0, state.source?.bits ?? 0, true);
        view.setUint16(2, state.destination?.bits ?? 0, true);
        view.setUint32(
          4,
          (state.source?.negate === true ? AddrtypeFlag.INVERT_SOURCE : 0) |
            (state.destination?.negate === true ? AddrtypeFlag.INVERT_DESTINATION : 0) |
            (state.limitIn ? AddrtypeFlag.LIMIT_IN : 0) |
            (state.limitOut ? AddrtypeFlag.LIMIT_OUT : 0),
          true,
        );
      },
    },
    {
      name: 'addrtype',
      revision: 0,
      families: ['ipv4'],
      size: 12,
      decode: (view) => ({
        source: typesAt(view, 0, view.getUint32(4, true) !== 0),
        destination: typesAt(view, 2, view.getUint32(8, true) !== 0),
        limitIn: false,
        limitOut: false,
      }),
      encode(state, view) {
        view.setUint16(0, state.source?.bits ?? 0, true);
        view.setUint16(2, state.destination?.bits ?? 0, true);
        view.setUint32(4, state.source?.negate === true ? 1 : 0, true);
        view.setUint32(8, state.destination?.negate === true ? 1 : 0, true);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) =>
      holds(state.source, 'source', state, packet) && holds(state.destination, 'destination', state, packet),
    lower: (state, context) => [
      ...lowerSide(state.source, 'source', state, context.family),
      ...lowerSide(state.destination, 'destination', state, context.family),
    ],
    explain(state, packet) {
      const side = holds(state.source, 'source', state, packet) ? 'destination' : 'source';
      const types = state[side]!;
      return `the ${side} address is ${types.negate ? '' : 'not '}of type ${formatTypes(types.bits)}`;
    },
  },
});
