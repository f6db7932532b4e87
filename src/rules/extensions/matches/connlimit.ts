/** `-m connlimit`: net/netfilter/xt_connlimit.c, revision 1. */
import { addressLength, maskOfLength } from '../../../net/index.ts';
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixMask } from '../../text/host.ts';
import { allowOne, requireOne } from '../../text/requirement.ts';

interface ConnlimitState {
  readonly given: Set<'connlimit-upto' | 'connlimit-above' | 'connlimit-saddr' | 'connlimit-daddr'>;
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
});
