/** `-m length`: net/netfilter/xt_length.c. IPv4 total length; IPv6 payload length and 40. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { formatNumberRange, numberRange } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { fieldIn, inRange, ipLengthOf } from '../header.ts';

interface LengthState {
  range: { readonly min: number; readonly max: number } | undefined;
  negate: boolean;
}

export const length: MatchExtension = defineMatch<LengthState>({
  name: 'length',
  families: ['ipv4', 'ipv6'],
  summary: 'Length of the packet with its IP header',
  options: [
    {
      name: 'length',
      arguments: 1,
      negatable: true,
      syntax: 'bytes[:bytes]',
      summary: 'Length in bytes, or a range of lengths',
      apply(state, [value], negated) {
        state.range = numberRange(value!, 0xffff);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ range: undefined, negate: false }),
  finish: (state) => requireAll('length', { length: state.range !== undefined }),
  list: (state) => ` length ${state.negate ? '!' : ''}${formatNumberRange(state.range!)}`,
  print: (state) => `${state.negate ? ' !' : ''} --length ${formatNumberRange(state.range!)}`,
  // struct xt_length_info
  abi: [
    {
      name: 'length',
      revision: 0,
      size: 6,
      decode: (view) => ({
        range: { min: view.getUint16(0, true), max: view.getUint16(2, true) },
        negate: readBoolean(view, 4),
      }),
      encode(state, view) {
        view.setUint16(0, state.range!.min, true);
        view.setUint16(2, state.range!.max, true);
        view.setUint8(4, state.negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => inRange(ipLengthOf(packet), state.range!, state.negate),
    lower: ({ range, negate }) => [
      fieldIn('ip.length', range!.min > range!.max ? [] : [[range!.min, range!.max]], negate),
    ],
    explain: (state, packet) =>
      `length ${ipLengthOf(packet)} is ${state.negate ? '' : 'not '}${formatNumberRange(state.range!)}`,
  },
});
