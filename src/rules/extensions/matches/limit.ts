/** `-m limit`: the token bucket of net/netfilter/xt_limit.c, in 32-bit credits and jiffies at HZ = 250. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { AbiErrno, AbiError } from '../../uapi/errno.ts';
import { HZ, jiffies } from '../jiffies.ts';

/** Average as iptables hands it to the kernel: 10,000 ÷ packets a second, an unsigned 32-bit number. */
interface LimitState {
  average: number;
  burst: number;
}

interface Bucket {
  credit: number;
  previousJiffies: number;
}

/** The largest power of two such that a day's credits fit 32 bits. */
export const CREDITS_PER_JIFFY = 128;
/** XT_LIMIT_SCALE. */
const SCALE = 10_000;
const UNITS = [
  ['second', 1],
  ['minute', 60],
  ['hour', 3600],
  ['day', 86_400],
] as const;
const PRINTED_UNITS = [
  ['day', SCALE * 86_400],
  ['hour', SCALE * 3600],
  ['min', SCALE * 60],
  ['sec', SCALE],
] as const;
const DEFAULT_AVERAGE = (SCALE * 3600) / 3;
const DEFAULT_BURST = 5;

/** user2credits: divides first where multiplying would overflow 32 bits. */
function credits(user: number): number {
  const perSecond = HZ * CREDITS_PER_JIFFY;
  if (user > Math.floor(0xffff_ffff / perSecond)) return (Math.floor(user / SCALE) * perSecond) >>> 0;
  return Math.floor((user * perSecond) / SCALE);
}

function cap(state: LimitState): number {
  return credits(Math.imul(state.average, state.burst) >>> 0);
}

/** limit_mt_check: the product of rate and burst does not fit, in jiffies or as given. */
function overflows(state: LimitState): boolean {
  return state.burst === 0 || cap(state) < credits(state.average);
}

function parseRate(text: string): number {
  const slash = text.indexOf('/');
  const unit =
    slash < 0
      ? UNITS[0]
      : UNITS.find(
          ([name]) => slash + 1 < text.length && name.startsWith(text.slice(slash + 1).toLowerCase()),
        );
  const count = /^\s*([+-]?[0-9]+)/.exec(text);
  const packets = count === null ? 0 : Number(count[1]);
  if (unit === undefined || packets === 0)
    throw new OptionError(`"${text}" is not a rate`, {
      hint: 'packets per second, /minute, /hour or /day: 5/minute',
    });
  const average = packets < 0 || packets > 0xffff_ffff ? 0 : Math.floor((SCALE * unit[1]) / packets);
  if (average === 0)
    throw new OptionError(`rate "${text}" is too fast`, { hint: `at most ${SCALE} packets a second` });
  return average;
}

function formatRate(average: number): string {
  let index = 1;
  while (index < PRINTED_UNITS.length) {
    const whole = PRINTED_UNITS[index]![1];
    if (average > whole || Math.floor(whole / average) < whole % average) break;
    index++;
  }
  const [name, whole] = PRINTED_UNITS[index - 1]!;
  return `${Math.floor(whole / average)}/${name}`;
}

export const limit: MatchExtension = defineMatch<LimitState>({
  name: 'limit',
  families: ['ipv4', 'ipv6'],
  summary: 'Matches at a limited rate: a bucket of tokens that starts full',
  options: [
    {
      name: 'limit',
      arguments: 1,
      syntax: 'number[/second|/minute|/hour|/day]',
      summary: 'Average rate at which it matches; 3/hour when not given',
      apply(state, [value]) {
        state.average = parseRate(value!);
      },
    },
    {
      name: 'limit-burst',
      arguments: 1,
      syntax: 'number',
      summary: 'How many packets match before the limit holds; 5 when not given',
      apply(state, [value]) {
        state.burst = boundedNumber(value!, 0, SCALE);
      },
    },
  ],
  initial: () => ({ average: DEFAULT_AVERAGE, burst: DEFAULT_BURST }),
  admit(state) {
    if (overflows(state))
      throw new OptionError(
        `${formatRate(state.average)} with a burst of ${state.burst} overflows the kernel`,
        {
          hint: state.burst === 0 ? 'a burst is at least 1' : 'use a faster rate or a smaller burst',
        },
      );
  },
  list: (state) => ` limit: avg ${formatRate(state.average)} burst ${state.burst}`,
  print: (state) =>
    ` --limit ${formatRate(state.average)}${state.burst === DEFAULT_BURST ? '' : ` --limit-burst ${state.burst}`}`,
  // struct xt_rateinfo
  abi: [
    {
      name: 'limit',
      revision: 0,
      everyFamily: true,
      size: 40,
      userSize: 8,
      decode: (view) => {
        const state = { average: view.getUint32(0, true), burst: view.getUint32(4, true) };
        if (overflows(state)) throw new AbiError(AbiErrno.ERANGE, 'limit: the burst overflows the kernel');
        return state;
      },
      encode(state, view) {
        view.setUint32(0, state.average, true);
        view.setUint32(4, state.burst, true);
      },
    },
  ],
  semantics: {
    memory: (state, nowMs): Bucket => ({ credit: cap(state), previousJiffies: jiffies(nowMs) }),
    evaluate(state, packet, memory) {
      const bucket = memory as Bucket;
      const most = cap(state);
      const now = jiffies(packet.world.nowMs());
      const grown = Math.min((now - bucket.previousJiffies) * CREDITS_PER_JIFFY, most);
      bucket.previousJiffies = now;
      bucket.credit = Math.min(bucket.credit + grown, most);
      const cost = credits(state.average);
      if (bucket.credit < cost) return false;
      bucket.credit -= cost;
      return true;
    },
    lower: (state) => [{ kind: 'limit', cost: credits(state.average), cap: cap(state) }],
    explain: (state) => `more than ${formatRate(state.average)}, and the burst of ${state.burst} is used up`,
  },
});
