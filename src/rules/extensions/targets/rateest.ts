/** `-j RATEEST`: net/netfilter/xt_RATEEST.c. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { UINT32_MAX } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** IFNAMSIZ - 1 */
const NAME_BYTES = 15;
const QUARTER_SECOND_US = 250_000;
/** What the kernel calls the shortest interval. */
const FIRST_INTERVAL = -2;
/** Intervals are a quarter of a second times a power of two up to this one. */
const LAST_INTERVAL = 5;
const LAST_AVERAGE = 31;
const UNITS_US: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ...['s', 'sec', 'secs'].map((name): [string, number] => [name, 1_000_000]),
  ...['ms', 'msec', 'msecs'].map((name): [string, number] => [name, 1000]),
  ...['us', 'usec', 'usecs'].map((name): [string, number] => [name, 1]),
]);

interface RateestState {
  name: string | undefined;
  intervalUs: number | undefined;
  averageUs: number | undefined;
  /** What the kernel is told: the interval is 2^interval quarters of a second, the average runs over 2^averageLog of them. */
  interval: number;
  averageLog: number;
}

/** A number with a unit; microseconds without. */
function parseTime(text: string): number {
  const match = /^([0-9]*\.?[0-9]+)([a-z]*)$/i.exec(text);
  const unit = UNITS_US.get(match?.[2]?.toLowerCase() ?? 'none');
  if (match === null || unit === undefined)
    throw new OptionError(`"${text}" is not a time`, { hint: 'for example 250ms or 2s' });
  const us = Math.trunc(Number(match[1]) * unit);
  if (us > UINT32_MAX) throw new OptionError(`"${text}" is too long a time`);
  return us;
}

function formatTime(us: number): string {
  if (us >= 1_000_000) return `${(us / 1_000_000).toFixed(1)}s`;
  return us >= 1000 ? `${(us / 1000).toFixed(1)}ms` : `${us}us`;
}

function time(name: string, key: 'intervalUs' | 'averageUs', summary: string): OptionSpec<RateestState> {
  return {
    name,
    arguments: 1,
    syntax: 'number[s|ms|us]',
    summary,
    apply(state, [value]) {
      state[key] = parseTime(value!);
    },
  };
}

/** The shortest interval of the kernel's that is long enough. */
function chooseInterval(intervalUs: number): number {
  let interval = 0;
  while (interval <= LAST_INTERVAL && intervalUs > QUARTER_SECOND_US * 2 ** interval) interval++;
  if (interval > LAST_INTERVAL) throw new OptionError('the interval is too long', { argument: -1 });
  return interval;
}

/** The longest average of the kernel's that is short enough: -interval / ln(1 - 2^-n) is its time constant. */
function chooseAverage(intervalUs: number, averageUs: number): number {
  let log = 1;
  while (log <= LAST_AVERAGE && intervalUs / -Math.log(1 - 1 / 2 ** log) <= averageUs) log++;
  log--;
  if (log === 0 || log >= LAST_AVERAGE)
    throw new OptionError('the time of the average is out of range', {
      hint: 'it is longer than the interval',
      argument: -1,
    });
  return log;
}

export const rateest: TargetExtension = defineTarget<RateestState>({
  name: 'RATEEST',
  families: ['ipv4', 'ipv6'],
  summary: 'Measures the rate of packets and bytes for the match rateest, and goes on',
  options: [
    {
      name: 'rateest-name',
      arguments: 1,
      syntax: 'name',
      summary: 'Name of the estimator; rules with the same name share it',
      apply(state, [value]) {
        state.name = cutToBytes(value!, NAME_BYTES);
      },
    },
    time(
      'rateest-interval',
      'intervalUs',
      'How often the rate is measured: a quarter of a second to 8 seconds',
    ),
    time('rateest-ewmalog', 'averageUs', 'Over what time the moving average runs'),
  ],
  initial: () => ({
    name: undefined,
    intervalUs: undefined,
    averageUs: undefined,
    interval: 0,
    averageLog: 0,
  }),
  finish(state) {
    requireAll('RATEEST', {
      'rateest-name': state.name !== undefined,
      'rateest-interval': state.intervalUs !== undefined,
      'rateest-ewmalog': state.averageUs !== undefined,
    });
    state.interval = chooseInterval(state.intervalUs!);
    state.averageLog = chooseAverage(state.intervalUs!, state.averageUs!);
  },
  print({ name, interval, averageLog }) {
    const intervalUs = QUARTER_SECOND_US * 2 ** interval;
    return ` --rateest-name ${name} --rateest-interval ${formatTime(intervalUs)} --rateest-ewmalog ${formatTime(intervalUs * 2 ** averageLog)}`;
  },
  // struct xt_rateest_target_info
  abi: [
    {
      name: 'RATEEST',
      revision: 0,
      size: 32,
      userSize: 24,
      decode(view) {
        const interval = view.getInt8(16) - FIRST_INTERVAL;
        const averageLog = view.getUint8(17);
        if (interval < 0 || interval > LAST_INTERVAL || averageLog === 0 || averageLog > LAST_AVERAGE)
          refuse('RATEEST cannot measure so');
        return {
          name: readText(view, 0, NAME_BYTES + 1),
          intervalUs: undefined,
          averageUs: undefined,
          interval,
          averageLog,
        };
      },
      encode({ name, interval, averageLog }, view) {
        writeText(view, 0, NAME_BYTES + 1, name!);
        view.setInt8(16, interval + FIRST_INTERVAL);
        view.setUint8(17, averageLog);
      },
    },
  ],
});
