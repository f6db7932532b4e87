/** The body of `ttl` and `hl`: net/netfilter/xt_hl.c, struct ipt_ttl_info and ip6t_hl_info. */
import type { Family } from '../../net/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../extension.ts';
import { boundedNumber } from '../text/bounded.ts';
import { unwritten } from '../uapi/errno.ts';
import { fieldIn, fieldIs, ttlOf } from './header.ts';

interface HopLimitState {
  compare: 'eq' | 'ne' | 'lt' | 'gt' | undefined;
  value: number;
}

/** By number of IPT_TTL_* and IP6T_HL_*. */
const COMPARISONS = ['eq', 'ne', 'lt', 'gt'] as const;
/** As `iptables -L` shows them. */
const SIGNS = { eq: '==', ne: '!=', lt: '<', gt: '>' } as const;

/** The match for one family: its name is the beginning of its options. */
export function defineHopLimit(name: 'ttl' | 'hl', family: Family, field: string): MatchExtension {
  const option = (
    compare: 'eq' | 'lt' | 'gt',
    summary: string,
    aliases: readonly string[] = [],
  ): OptionSpec<HopLimitState> => ({
    name: `${name}-${compare}`,
    aliases,
    arguments: 1,
    negatable: compare === 'eq',
    syntax: 'number',
    summary,
    apply(state, [value], negated) {
      if (state.compare !== undefined)
        throw new OptionError(`only one of --${name}-eq, --${name}-lt and --${name}-gt is possible`, {
          argument: -1,
        });
      state.value = boundedNumber(value!, 0, 255);
      state.compare = negated ? 'ne' : compare;
    },
  });
  return defineMatch<HopLimitState>({
    name,
    families: [family],
    summary: `The ${field} of the packet`,
    options: [
      option('eq', `The ${field} equals the number`, [name]),
      option('lt', `The ${field} is less than the number`),
      option('gt', `The ${field} is greater than the number`),
    ],
    initial: () => ({ compare: undefined, value: 0 }),
    finish(state) {
      if (state.compare === undefined)
        throw new OptionError('an option is missing', {
          hint: `one of --${name}-eq, --${name}-lt, --${name}-gt`,
        });
    },
    list: ({ compare, value }) => {
      const field = name.toUpperCase();
      return ` ${field} match ${field} ${SIGNS[compare!]} ${value}`;
    },
    print: ({ compare, value }) =>
      compare === 'ne' ? ` ! --${name}-eq ${value}` : ` --${name}-${compare} ${value}`,
    // struct ipt_ttl_info, struct ip6t_hl_info
    abi: [
      {
        name,
        revision: 0,
        size: 2,
        decode(view) {
          const compare = COMPARISONS[view.getUint8(0)];
          if (compare === undefined) unwritten(`${name} has the unknown mode ${view.getUint8(0)}`);
          return { compare, value: view.getUint8(1) };
        },
        encode(state, view) {
          view.setUint8(0, COMPARISONS.indexOf(state.compare!));
          view.setUint8(1, state.value);
        },
      },
    ],
    semantics: {
      evaluate({ compare, value }, packet) {
        const found = ttlOf(packet);
        if (compare === 'lt') return found < value;
        if (compare === 'gt') return found > value;
        return (found === value) === (compare === 'eq');
      },
      lower({ compare, value }) {
        if (compare === 'lt') return [fieldIn('ip.ttl', value === 0 ? [] : [[0, value - 1]])];
        if (compare === 'gt') return [fieldIn('ip.ttl', value === 255 ? [] : [[value + 1, 255]])];
        return [fieldIs('ip.ttl', value, compare === 'ne')];
      },
      explain({ compare, value }, packet) {
        const relation = { eq: 'not', ne: 'exactly', lt: 'not less than', gt: 'not greater than' }[compare!];
        return `${field} ${ttlOf(packet)} is ${relation} ${value}`;
      },
    },
  });
}
