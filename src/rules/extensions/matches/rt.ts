/** `-m rt`: net/ipv6/netfilter/ip6t_rt.c. */
import { formatAddressBytes, parseAddress } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import {
  defineMatch,
  type MatchExtension,
  type MatchOutcome,
  OptionError,
  type OptionSpec,
} from '../../extension.ts';
import { boundedNumber, formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readBytes, readFlags, writeBytes } from '../../uapi/payload.ts';
import { hasBytes, inRange, readUint32 } from '../header.ts';
import { findExtensionHeader } from '../ipv6-chain.ts';

/** IP6T_RT_HOPS */
const MAXIMUM_ADDRESSES = 16;

/** IP6T_RT_*; those of the first three say by the same bits which are inverted. */
const Flag = { TYPE: 0x01, SEGMENTS: 0x02, LENGTH: 0x04, RESERVED: 0x08, ADDRESSES: 0x10, NOT_STRICT: 0x20 };
const ADDRESSES_AT = 20;

interface Condition {
  readonly value: number;
  readonly negate: boolean;
}

interface RtState {
  type: Condition | undefined;
  segmentsLeft: { readonly min: number; readonly max: number };
  segmentsLeftGiven: boolean;
  segmentsLeftNegated: boolean;
  length: Condition | undefined;
  reserved: boolean;
  addresses: readonly Uint8Array[] | undefined;
  notStrict: boolean;
}

function number(name: string, key: 'type' | 'length', summary: string): OptionSpec<RtState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'number',
    summary,
    apply(state, [value], negate) {
      state[key] = { value: boundedNumber(value!, 0, UINT32_MAX), negate };
    },
  };
}

/** Only type 0 has what these options ask for, and they stand after it. */
function needType0(state: RtState): void {
  if (state.type?.value !== 0 || state.type.negate)
    throw new OptionError('--rt-type 0 has to stand before', { argument: -1 });
}

function parseAddresses(text: string): Uint8Array[] {
  const words = text.split(',');
  if (words.length > MAXIMUM_ADDRESSES)
    throw new OptionError(`at most ${MAXIMUM_ADDRESSES} addresses fit in one rule`);
  return words.map((word) => {
    const address = parseAddress(word);
    if (address?.family !== 'ipv6') throw new OptionError(`"${word}" is not an IPv6 address`);
    return address.bytes;
  });
}

const NEXTHDR_ROUTING = 43;
/** Of type 0: the fixed part, the reserved field, addresses. */
const FIXED_BYTES = 8;
const ADDRESS_BYTES = 16;

/** rt_mt6 */
function routingHeader(state: RtState, packet: EvaluationPacket): MatchOutcome {
  const at = findExtensionHeader(packet, NEXTHDR_ROUTING);
  if (at === 'hotdrop') return 'hotdrop';
  if (at < 0) return false;
  if (!hasBytes(packet, at, 4)) return 'hotdrop';
  const { bytes } = packet;
  const length = (bytes[at + 1]! + 1) * 8;
  if (!hasBytes(packet, at, length)) return 'hotdrop';
  const fits =
    inRange(bytes[at + 3]!, state.segmentsLeft, state.segmentsLeftNegated) &&
    (state.length === undefined || (state.length.value === length) !== state.length.negate) &&
    (state.type === undefined || (state.type.value === bytes[at + 2]) !== state.type.negate) &&
    (!state.reserved || readUint32(packet, at + 4) === 0);
  return (
    fits && addressesFit(state, packet, at + FIXED_BYTES, Math.floor((length - FIXED_BYTES) / ADDRESS_BYTES))
  );
}

/** In order from the first one and all of them, or somewhere among others. */
function addressesFit(state: RtState, packet: EvaluationPacket, start: number, count: number): boolean {
  const { addresses, notStrict } = state;
  if (addresses === undefined) return true;
  if (addresses.length > count || (!notStrict && addresses.length !== count)) return false;
  let next = 0;
  for (let index = 0; index < count && next < addresses.length; index++) {
    const at = start + index * ADDRESS_BYTES;
    const same = addresses[next]!.every((byte, offset) => byte === packet.bytes[at + offset]);
    if (same) next++;
    else if (!notStrict) return false;
  }
  return next === addresses.length;
}

export const rt: MatchExtension = defineMatch<RtState>({
  name: 'rt',
  families: ['ipv6'],
  summary: 'Fields of the routing header',
  options: [
    number('rt-type', 'type', 'Type of the header'),
    {
      name: 'rt-segsleft',
      arguments: 1,
      negatable: true,
      syntax: 'number[:number]',
      summary: 'Segments left, or a range of them',
      apply(state, [value], negated) {
        state.segmentsLeft = numberRange(value!, UINT32_MAX);
        state.segmentsLeftGiven = true;
        state.segmentsLeftNegated = negated;
      },
    },
    number('rt-len', 'length', 'Length of the header in bytes'),
    {
      name: 'rt-0-res',
      arguments: 0,
      summary: 'The reserved field is 0 (after --rt-type 0)',
      apply(state) {
        needType0(state);
        state.reserved = true;
      },
    },
    {
      name: 'rt-0-addrs',
      arguments: 1,
      syntax: 'address[,…]',
      summary: 'The addresses of the header (after --rt-type 0)',
      apply(state, [value]) {
        needType0(state);
        state.addresses = parseAddresses(value!);
      },
    },
    {
      name: 'rt-0-not-strict',
      arguments: 0,
      summary: 'Other addresses may stand between them (after --rt-0-addrs)',
      apply(state) {
        if (state.addresses === undefined)
          throw new OptionError('--rt-0-addrs has to stand before', { argument: -1 });
        state.notStrict = true;
      },
    },
  ],
  initial: () => ({
    type: undefined,
    segmentsLeft: { min: 0, max: UINT32_MAX },
    segmentsLeftGiven: false,
    segmentsLeftNegated: false,
    length: undefined,
    reserved: false,
    addresses: undefined,
    notStrict: false,
  }),
  print(state) {
    const { type, segmentsLeft, length, addresses } = state;
    let text = type === undefined ? '' : `${type.negate ? ' !' : ''} --rt-type ${type.value}`;
    if (segmentsLeft.min !== 0 || segmentsLeft.max !== UINT32_MAX)
      text += `${state.segmentsLeftNegated ? ' !' : ''} --rt-segsleft ${formatNumberRange(segmentsLeft)}`;
    if (length !== undefined) text += `${length.negate ? ' !' : ''} --rt-len ${length.value}`;
    if (state.reserved) text += ' --rt-0-res';
    if (addresses !== undefined) text += ` --rt-0-addrs ${addresses.map(formatAddressBytes).join(',')}`;
    return state.notStrict ? `${text} --rt-0-not-strict` : text;
  },
  // struct ip6t_rt
  abi: [
    {
      name: 'rt',
      revision: 0,
      size: 280,
      decode(view) {
        const flags = view.getUint8(16);
        const invert = readFlags(view, 17, Flag.TYPE | Flag.SEGMENTS | Flag.LENGTH, 'rt');
        const condition = (flag: number, at: number): Condition | undefined =>
          (flags & flag) === 0
            ? undefined
            : { value: view.getUint32(at, true), negate: (invert & flag) !== 0 };
        const type = condition(Flag.TYPE, 0);
        const ofType0 = flags & (Flag.RESERVED | Flag.ADDRESSES | Flag.NOT_STRICT);
        if (ofType0 !== 0 && (type?.value !== 0 || type.negate)) refuse('rt: only type 0 has addresses');
        const count = view.getUint8(276);
        if (count > MAXIMUM_ADDRESSES) unwritten('rt: there are too many addresses');
        return {
          type,
          segmentsLeft: { min: view.getUint32(4, true), max: view.getUint32(8, true) },
          segmentsLeftGiven: (flags & Flag.SEGMENTS) !== 0,
          segmentsLeftNegated: (invert & Flag.SEGMENTS) !== 0,
          length: condition(Flag.LENGTH, 12),
          reserved: (flags & Flag.RESERVED) !== 0,
          addresses:
            (flags & Flag.ADDRESSES) === 0
              ? undefined
              : Array.from({ length: count }, (_, index) =>
                  readBytes(view, ADDRESSES_AT + index * ADDRESS_BYTES, ADDRESS_BYTES),
                ),
          notStrict: (flags & Flag.NOT_STRICT) !== 0,
        };
      },
      encode({ type, segmentsLeft, segmentsLeftGiven, segmentsLeftNegated, length, ...state }, view) {
        let [flags, invert] = [0, 0];
        const set = (flag: number, given: boolean, negate = false): void => {
          if (given) flags |= flag;
          if (negate) invert |= flag;
        };
        set(Flag.TYPE, type !== undefined, type?.negate);
        set(Flag.SEGMENTS, segmentsLeftGiven, segmentsLeftNegated);
        set(Flag.LENGTH, length !== undefined, length?.negate);
        set(Flag.RESERVED, state.reserved);
        set(Flag.ADDRESSES, state.addresses !== undefined);
        set(Flag.NOT_STRICT, state.notStrict);
        view.setUint32(0, type?.value ?? 0, true);
        view.setUint32(4, segmentsLeft.min, true);
        view.setUint32(8, segmentsLeft.max, true);
        view.setUint32(12, length?.value ?? 0, true);
        view.setUint8(16, flags);
        view.setUint8(17, invert);
        for (const [index, address] of (state.addresses ?? []).entries())
          writeBytes(view, ADDRESSES_AT + index * ADDRESS_BYTES, address);
        view.setUint8(276, state.addresses?.length ?? 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => routingHeader(state, packet),
    explain(_state, packet) {
      const at = findExtensionHeader(packet, NEXTHDR_ROUTING);
      if (at === 'hotdrop' || at < 0) return 'the packet has no routing header';
      const [, , type, left] = packet.bytes.subarray(at, at + 4);
      return `the routing header is of type ${type} with ${left} segments left`;
    },
  },
});
