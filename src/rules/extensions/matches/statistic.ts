/** `-m statistic`: net/netfilter/xt_statistic.c; options of libxt_statistic. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';

interface StatisticState {
  mode: 'random' | 'nth';
  /** Of 2^31: the kernel draws 31 bits. */
  probability: number | undefined;
  every: number | undefined;
  packet: number | undefined;
  negate: boolean;
}

/** The counter shared by all uses of the rule. */
interface NthCounter {
  count: number;
}

const WHOLE = 0x8000_0000;
const RANDOM_BITS = 0x7fff_ffff;
const DECIMALS = 11;

function parseProbability(text: string): number {
  const value = /^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/.test(text)
    ? Number(text)
    : Number.NaN;
  if (!(value >= 0 && value <= 1))
    throw new OptionError(`"${text}" is not a probability`, { hint: 'a number from 0 to 1' });
  // lround: halves away from zero.
  return Math.floor(value * WHOLE + 0.5);
}

/** The kernel counts from 0 to `every` - 1 and matches on the step to 0. */
function step(counter: NthCounter, every: number): boolean {
  counter.count = counter.count === every - 1 ? 0 : counter.count + 1;
  return counter.count === 0;
}

function print(state: StatisticState): string {
  const not = state.negate ? ' !' : '';
  if (state.mode === 'random')
    return ` --mode random${not} --probability ${(state.probability! / WHOLE).toFixed(DECIMALS)}`;
  return ` --mode nth${not} --every ${state.every} --packet ${state.packet}`;
}

export const statistic: MatchExtension = defineMatch<StatisticState>({
  name: 'statistic',
  families: ['ipv4', 'ipv6'],
  summary: 'Matches at random, or every nth packet',
  options: [
    {
      name: 'mode',
      arguments: 1,
      syntax: 'random|nth',
      summary: 'How packets are chosen; random when not given',
      apply(state, [value]) {
        if (value !== 'random' && value !== 'nth')
          throw new OptionError(`"${value}" is not a mode`, { hint: 'random or nth' });
        state.mode = value;
      },
    },
    {
      name: 'probability',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'Mode random: the probability of a match, from 0 to 1',
      apply(state, [value], negated) {
        state.probability = parseProbability(value!);
        state.negate = negated;
      },
    },
    {
      name: 'every',
      arguments: 1,
      negatable: true,
      syntax: 'n',
      summary: 'Mode nth: one packet of every n matches',
      apply(state, [value], negated) {
        state.every = boundedNumber(value!, 1, UINT32_MAX);
        state.negate = negated;
      },
    },
    {
      name: 'packet',
      arguments: 1,
      syntax: 'p',
      summary: 'Mode nth: which of the n packets, from 0',
      apply(state, [value]) {
        state.packet = boundedNumber(value!, 0, UINT32_MAX);
      },
    },
  ],
  initial: () => ({
    mode: 'random',
    probability: undefined,
    every: undefined,
    packet: undefined,
    negate: false,
  }),
  finish(state) {
    if (state.probability !== undefined && (state.every !== undefined || state.packet !== undefined))
      throw new OptionError('--probability goes with mode random, --every and --packet with mode nth');
    if (state.mode === 'random' && state.probability === undefined)
      throw new OptionError('mode random needs --probability');
    if (state.mode === 'nth' && (state.every === undefined || state.packet === undefined))
      throw new OptionError('mode nth needs --every and --packet', {
        hint: '--every 3 --packet 0 takes the first of three',
      });
    if (state.mode === 'nth' && state.packet! >= state.every!)
      throw new OptionError(`--packet ${state.packet} is not one of ${state.every} packets`, {
        hint: `they are numbered from 0 to ${state.every! - 1}`,
      });
  },
  list: (state) =>
    ` statistic${print(state)
      .replace(/ --packet 0$/, '')
      .replaceAll(' --', ' ')}`,
  print,
  // struct xt_statistic_info; the counter of nth is kept as "every less one"
  abi: [
    {
      name: 'statistic',
      revision: 0,
      everyFamily: true,
      size: 24,
      userSize: 16,
      decode(view) {
        const mode = view.getUint16(0, true);
        const flags = view.getUint16(2, true);
        if (mode > 1 || flags > 1) refuse('statistic has an unknown mode or flag');
        const negate = flags !== 0;
        if (mode === 0) {
          const probability = view.getUint32(4, true);
          return { mode: 'random', probability, every: undefined, packet: undefined, negate };
        }
        const every = view.getUint32(4, true) + 1;
        const packet = view.getUint32(8, true);
        if (packet >= every || view.getUint32(12, true) !== every - 1 - packet)
          unwritten('statistic counts from where no iptables lets it');
        return { mode: 'nth', probability: undefined, every, packet, negate };
      },
      encode(state, view) {
        view.setUint16(0, state.mode === 'random' ? 0 : 1, true);
        view.setUint16(2, state.negate ? 1 : 0, true);
        if (state.mode === 'random') {
          view.setUint32(4, state.probability!, true);
          return;
        }
        view.setUint32(4, state.every! - 1, true);
        view.setUint32(8, state.packet!, true);
        view.setUint32(12, state.every! - 1 - state.packet!, true);
      },
    },
  ],
  semantics: {
    // nth.count starts so that the packet numbered `packet` is the first to match.
    memory: (state): NthCounter => ({ count: (state.every ?? 1) - 1 - (state.packet ?? 0) }),
    evaluate(state, packet, memory) {
      const chosen =
        state.mode === 'random'
          ? (packet.world.random32() & RANDOM_BITS) < state.probability!
          : step(memory as NthCounter, state.every!);
      return chosen !== state.negate;
    },
    lower: (state) => [
      {
        kind: 'statistic',
        mode:
          state.mode === 'random'
            ? { kind: 'random', probability: state.probability! }
            : { kind: 'nth', every: state.every!, packet: state.packet! },
        negate: state.negate,
      },
    ],
    explain: (state) =>
      state.mode === 'random'
        ? 'chance did not choose this packet'
        : `it is not packet ${state.packet} of every ${state.every}`,
  },
});
