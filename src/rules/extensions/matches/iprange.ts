/** `-m iprange`: net/netfilter/xt_iprange.c, revision 1. */
import type { Predicate } from '../../../ir/index.ts';
import { type Family, formatAddressBytes } from '../../../net/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { addressError, parseHost } from '../../text/address.ts';
import { requireAny } from '../../text/requirement.ts';
import { unwritten } from '../../uapi/errno.ts';
import { readAddress, writeBytes } from '../../uapi/payload.ts';
import { addressOf } from '../header.ts';

interface AddressRange {
  readonly min: Uint8Array;
  readonly max: Uint8Array;
  readonly negate: boolean;
}

interface IprangeState {
  source: AddressRange | undefined;
  destination: AddressRange | undefined;
}

/** IPRANGE_*. */
const IprangeFlag = {
  SOURCE: 1,
  DESTINATION: 2,
  INVERT_SOURCE: 0x10,
  INVERT_DESTINATION: 0x20,
  ALL: 0x33,
} as const;

const SIDES = [
  ['source', 'src-range'],
  ['destination', 'dst-range'],
] as const;

/** A range that runs backwards is taken, and holds no address. */
function parseRange(text: string, family: Family, negate: boolean): AddressRange {
  const dash = text.indexOf('-');
  const host = (part: string): Uint8Array => {
    const bytes = parseHost(part, family);
    if (bytes === undefined) throw addressError(part, family);
    return bytes;
  };
  const min = host(dash < 0 ? text : text.slice(0, dash));
  return { min, max: dash < 0 ? min : host(text.slice(dash + 1)), negate };
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return a[index]! - b[index]!;
  return 0;
}

function holds(range: AddressRange | undefined, address: Uint8Array): boolean {
  if (range === undefined) return true;
  return (compare(address, range.min) >= 0 && compare(address, range.max) <= 0) !== range.negate;
}

function formatRange(range: AddressRange): string {
  return `${formatAddressBytes(range.min)}-${formatAddressBytes(range.max)}`;
}

export const iprange: MatchExtension = defineMatch<IprangeState>({
  name: 'iprange',
  families: ['ipv4', 'ipv6'],
  summary: 'Ranges of addresses, bounds included',
  options: SIDES.map(([side, name]) => ({
    name,
    arguments: 1,
    negatable: true,
    syntax: 'address[-address]',
    summary: `The ${side} address lies between the two`,
    apply(state, [value], negated, context) {
      state[side] = parseRange(value!, context.family, negated);
    },
  })),
  initial: () => ({ source: undefined, destination: undefined }),
  finish: (state) =>
    requireAny('iprange', {
      'src-range': state.source !== undefined,
      'dst-range': state.destination !== undefined,
    }),
  list: (state) =>
    SIDES.map(([side]) => {
      const range = state[side];
      return range === undefined ? '' : ` ${side} IP range${range.negate ? ' !' : ''} ${formatRange(range)}`;
    }).join(''),
  print: (state) =>
    SIDES.map(([side, option]) => {
      const range = state[side];
      return range === undefined ? '' : `${range.negate ? ' !' : ''} --${option} ${formatRange(range)}`;
    }).join(''),
  // struct xt_iprange_mtinfo
  abi: [
    {
      name: 'iprange',
      revision: 1,
      size: 68,
      decode(view, { family }) {
        const flags = view.getUint8(64);
        if ((flags & ~IprangeFlag.ALL) !== 0) unwritten('iprange has unknown flags');
        const range = (given: number, inverted: number, offset: number): AddressRange | undefined =>
          (flags & given) === 0
            ? undefined
            : {
                min: readAddress(view, offset, family),
                max: readAddress(view, offset + 16, family),
                negate: (flags & inverted) !== 0,
              };
        return {
          source: range(IprangeFlag.SOURCE, IprangeFlag.INVERT_SOURCE, 0),
          destination: range(IprangeFlag.DESTINATION, IprangeFlag.INVERT_DESTINATION, 32),
        };
      },
      encode(state, view) {
        let flags = 0;
        const put = (
          range: AddressRange | undefined,
          given: number,
          inverted: number,
          offset: number,
        ): void => {
          if (range === undefined) return;
          writeBytes(view, offset, range.min);
          writeBytes(view, offset + 16, range.max);
          flags |= given | (range.negate ? inverted : 0);
        };
        put(state.source, IprangeFlag.SOURCE, IprangeFlag.INVERT_SOURCE, 0);
        put(state.destination, IprangeFlag.DESTINATION, IprangeFlag.INVERT_DESTINATION, 32);
        view.setUint8(64, flags);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => SIDES.every(([side]) => holds(state[side], addressOf(packet, side))),
    lower: (state) =>
      SIDES.flatMap(([side]): Predicate[] => {
        const range = state[side];
        return range === undefined ? [] : [{ kind: 'address-range', field: `ip.${side}`, ...range }];
      }),
    explain(state, packet) {
      const [side] = SIDES.find(([one]) => !holds(state[one], addressOf(packet, one))) ?? SIDES[0];
      const range = state[side]!;
      return `${side} ${formatAddressBytes(addressOf(packet, side))} is ${range.negate ? '' : 'not '}in ${formatRange(range)}`;
    },
  },
});
