/** `-m rateest`: net/netfilter/xt_rateest.c. Whether the estimator exists is for the host to say. */
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { formatBitRate, parseBitRate } from '../../text/bit-rate.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** IFNAMSIZ - 1 */
const NAME_BYTES = 15;

type Compare = 'lt' | 'gt' | 'eq';

/** XT_RATEEST_MATCH_* */
const Flag = { INVERT: 0x1, ABSOLUTE: 0x2, RELATIVE: 0x4, DELTA: 0x8, BYTES: 0x10, PACKETS: 0x20 } as const;
/** XT_RATEEST_MATCH_EQ, LT, GT: from 1. */
const MODES: readonly Compare[] = ['eq', 'lt', 'gt'];

interface RateestState {
  first: string;
  /** Compared with this estimator, else with a rate. */
  second: string | undefined;
  delta: boolean;
  bytes: boolean;
  packets: boolean;
  /** Bytes a second; what the first and the second estimator are reduced by, or the rate to compare with. */
  bytes1: number;
  bytes2: number;
  /** Packets a second. */
  packets1: number;
  packets2: number;
  compare: Compare | undefined;
  negate: boolean;
}

function name(option: string, aliases: readonly string[], key: 'first' | 'second'): OptionSpec<RateestState> {
  return {
    name: option,
    aliases,
    arguments: 1,
    syntax: 'name',
    summary: `Name of the ${key} estimator`,
    apply(state, [value]) {
      state[key] = cutToBytes(value!, NAME_BYTES);
    },
  };
}

function rate(
  option: string,
  aliases: readonly string[],
  key: 'bytes1' | 'bytes2' | 'packets1' | 'packets2',
): OptionSpec<RateestState> {
  const inBytes = key.startsWith('bytes');
  return {
    name: option,
    aliases,
    arguments: 'optional',
    syntax: inBytes ? '[rate]' : '[packets]',
    summary: `Compares ${inBytes ? 'bytes' : 'packets'} a second, with this rate or of both estimators`,
    apply(state, [value]) {
      state[inBytes ? 'bytes' : 'packets'] = true;
      if (value !== undefined)
        state[key] = inBytes ? parseBitRate(value) : boundedNumber(value, 0, UINT32_MAX);
    },
  };
}

function comparison(compare: Compare, summary: string): OptionSpec<RateestState> {
  return {
    name: `rateest-${compare}`,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negated) {
      state.compare = compare;
      state.negate ||= negated;
    },
  };
}

/** Rates in the unit, with what they are reduced by under --rateest-delta; the comparison stands between them. */
function printUnit(
  state: RateestState,
  unit: 'bps' | 'pps',
  format: (rate: number) => string,
  first: number,
  second: number,
): string {
  const compare = `${state.negate ? ' !' : ''} --rateest-${state.compare}`;
  const relative = state.second !== undefined;
  if (state.delta)
    return ` --rateest-${unit}1 ${format(first)}${compare} --rateest-${unit}2 ${format(second)}`;
  return `${compare} --rateest-${unit}${relative ? '' : ` ${format(second)}`}`;
}

export const rateest: MatchExtension = defineMatch<RateestState>({
  name: 'rateest',
  families: ['ipv4', 'ipv6'],
  summary: 'Rates that RATEEST measures, compared with a number or with each other',
  options: [
    name('rateest1', ['rateest'], 'first'),
    name('rateest2', [], 'second'),
    rate('rateest-bps1', [], 'bytes1'),
    rate('rateest-pps1', [], 'packets1'),
    rate('rateest-bps2', ['rateest-bps'], 'bytes2'),
    rate('rateest-pps2', ['rateest-pps'], 'packets2'),
    {
      name: 'rateest-delta',
      arguments: 0,
      summary: 'Compares how far the estimators are below the given rates',
      apply(state) {
        state.delta = true;
      },
    },
    comparison('lt', 'The rate is less'),
    comparison('gt', 'The rate is greater'),
    comparison('eq', 'The rate is equal'),
  ],
  initial: () => ({
    first: '',
    second: undefined,
    delta: false,
    bytes: false,
    packets: false,
    bytes1: 0,
    bytes2: 0,
    packets1: 0,
    packets2: 0,
    compare: undefined,
    negate: false,
  }),
  admit({ first, compare, bytes, packets }) {
    const refuse = (message: string): never => {
      throw new OptionError(message, { argument: -1 });
    };
    if (first === '') refuse('rateest needs --rateest or --rateest1');
    if (compare === undefined) refuse('rateest needs --rateest-lt, --rateest-gt or --rateest-eq');
    if (!bytes && !packets) refuse('rateest needs --rateest-bps or --rateest-pps');
  },
  print(state) {
    let text = state.delta ? ' --rateest-delta' : '';
    text += ` --rateest${state.second === undefined ? '' : '1'} ${state.first}`;
    if (state.bytes) text += printUnit(state, 'bps', formatBitRate, state.bytes1, state.bytes2);
    if (state.packets) text += printUnit(state, 'pps', String, state.packets1, state.packets2);
    return state.second === undefined ? text : `${text} --rateest2 ${state.second}`;
  },
  // struct xt_rateest_match_info
  abi: [
    {
      name: 'rateest',
      revision: 0,
      everyFamily: true,
      size: 72,
      userSize: 56,
      decode(view) {
        const flags = view.getUint16(32, true);
        const has = (flag: number): boolean => (flags & flag) !== 0;
        if (has(Flag.ABSOLUTE) === has(Flag.RELATIVE))
          refuse('rateest compares with a rate or with an estimator');
        if (!has(Flag.BYTES | Flag.PACKETS)) refuse('rateest compares nothing');
        const compare = MODES[view.getUint16(34, true) - 1];
        if (compare === undefined) refuse('rateest compares in no known way');
        return {
          first: readText(view, 0, NAME_BYTES + 1),
          second: has(Flag.RELATIVE) ? readText(view, 16, NAME_BYTES + 1) : undefined,
          delta: has(Flag.DELTA),
          bytes: has(Flag.BYTES),
          packets: has(Flag.PACKETS),
          bytes1: view.getUint32(36, true),
          packets1: view.getUint32(40, true),
          bytes2: view.getUint32(44, true),
          packets2: view.getUint32(48, true),
          compare,
          negate: has(Flag.INVERT),
        };
      },
      encode(state, view) {
        let flags: number = state.second === undefined ? Flag.ABSOLUTE : Flag.RELATIVE;
        if (state.negate) flags |= Flag.INVERT;
        if (state.delta) flags |= Flag.DELTA;
        if (state.bytes) flags |= Flag.BYTES;
        if (state.packets) flags |= Flag.PACKETS;
        writeText(view, 0, NAME_BYTES + 1, state.first);
        writeText(view, 16, NAME_BYTES + 1, state.second ?? '');
        view.setUint16(32, flags, true);
        view.setUint16(34, MODES.indexOf(state.compare!) + 1, true);
        view.setUint32(36, state.bytes1, true);
        view.setUint32(40, state.packets1, true);
        view.setUint32(44, state.bytes2, true);
        view.setUint32(48, state.packets2, true);
      },
    },
  ],
});
