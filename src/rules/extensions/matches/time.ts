/** `-m time`: net/netfilter/xt_time.c. Times are those of the wall clock in UTC, or in the kernel's time zone. */
import type { World } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { allowOne } from '../../text/requirement.ts';
import { formatDate, formatDaytime, LAST_DATE_SEC, parseDate, parseDaytime } from '../../text/wall-clock.ts';
import { readFlags } from '../../uapi/payload.ts';

const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const;
const DAY_SEC = 24 * 60 * 60;
const LAST_DAYTIME_SEC = DAY_SEC - 1;
/** Bits 1 to 31. */
const ALL_MONTHDAYS = 0xffff_fffe;
/** Bits 1 to 7, Monday first. */
const ALL_WEEKDAYS = 0xfe;

/** XT_TIME_* */
const LOCAL_TIME = 0x1;
const CONTIGUOUS = 0x2;

interface TimeState {
  /** Seconds since 1970 in UTC, both inclusive. */
  startSec: number;
  stopSec: number;
  /** Seconds since midnight, both inclusive; over midnight where the first is greater. */
  daytimeStartSec: number;
  daytimeStopSec: number;
  /** Bit n for day n. */
  monthdays: number;
  weekdays: number;
  readonly zones: Set<'localtz' | 'utc' | 'kerneltz'>;
  contiguous: boolean;
}

/** `word[,…]`; a comma at the end does no harm. */
function parseDays(text: string, parseDay: (word: string) => number): number {
  const words = text.split(',');
  if (words.at(-1) === '') words.pop();
  if (words.length === 0) throw new OptionError('no day is named');
  let mask = 0;
  for (const word of words) mask |= 1 << parseDay(word);
  return mask >>> 0;
}

function parseMonthday(word: string): number {
  const day = /^[0-9]{1,2}$/.test(word) ? Number(word) : 0;
  if (day < 1 || day > 31) throw new OptionError(`"${word}" is not a day of the month`, { hint: '1 to 31' });
  return day;
}

/** A number from 1, Monday, or a name of which the first two letters count. */
function parseWeekday(word: string): number {
  const day = /^[1-7]$/.test(word)
    ? Number(word)
    : WEEKDAYS.findIndex((name) => word.length >= 2 && name.slice(0, 2) === word.slice(0, 2)) + 1;
  if (day === 0)
    throw new OptionError(`"${word}" is not a day of the week`, {
      hint: `1 to 7, or ${WEEKDAYS.join(', ')}`,
    });
  return day;
}

function date(name: string, key: 'startSec' | 'stopSec', summary: string): OptionSpec<TimeState> {
  return {
    name,
    arguments: 1,
    syntax: 'YYYY[-MM[-DD[Thh[:mm[:ss]]]]]',
    summary,
    apply(state, [value]) {
      state[key] = parseDate(value!);
    },
  };
}

function daytime(
  name: string,
  key: 'daytimeStartSec' | 'daytimeStopSec',
  summary: string,
): OptionSpec<TimeState> {
  return {
    name,
    arguments: 1,
    syntax: 'hh:mm[:ss]',
    summary,
    apply(state, [value]) {
      state[key] = parseDaytime(value!);
    },
  };
}

function zone(name: 'localtz' | 'utc' | 'kerneltz', summary: string): OptionSpec<TimeState> {
  return {
    name,
    arguments: 0,
    summary,
    apply(state) {
      state.zones.add(name);
    },
  };
}

function bitNumbers(mask: number, last: number): number[] {
  return Array.from({ length: last }, (_, index) => index + 1).filter((day) => (mask & (1 << day)) !== 0);
}

/** time_mt(). The kernel's time zone is taken to be UTC: nobody has set another since settimeofday(2) lost its use. */
function isNow(state: TimeState, wallSec: number): boolean {
  if (wallSec < state.startSec || wallSec > state.stopSec) return false;
  const { daytimeStartSec: start, daytimeStopSec: stop } = state;
  const daytime = wallSec % DAY_SEC;
  const overMidnight = start >= stop;
  if (overMidnight ? daytime < start && daytime > stop : daytime < start || daytime > stop) return false;
  const beganYesterday = overMidnight && state.contiguous && daytime <= stop;
  const daySec = beganYesterday ? wallSec - DAY_SEC : wallSec;
  if ((state.weekdays & (1 << weekdayOf(daySec))) === 0) return false;
  return (state.monthdays & (1 << new Date(daySec * 1000).getUTCDate())) !== 0;
}

/** From 1, Monday; 1970 began on a Thursday. */
function weekdayOf(wallSec: number): number {
  return ((Math.floor(wallSec / DAY_SEC) + 3) % 7) + 1;
}

function wallSecOf(world: World): number {
  return Math.floor((world.wallMs?.() ?? world.nowMs()) / 1000);
}

export const time: MatchExtension = defineMatch<TimeState>({
  name: 'time',
  families: ['ipv4', 'ipv6'],
  summary: 'When the packet arrives',
  options: [
    date('datestart', 'startSec', 'Not before this date'),
    date('datestop', 'stopSec', 'Not after this date'),
    daytime('timestart', 'daytimeStartSec', 'Every day from this time'),
    daytime('timestop', 'daytimeStopSec', 'Every day until this time'),
    {
      name: 'contiguous',
      arguments: 0,
      summary: 'A time over midnight belongs to the day it begins on',
      apply(state) {
        state.contiguous = true;
      },
    },
    {
      name: 'weekdays',
      arguments: 1,
      negatable: true,
      syntax: 'day[,…]',
      summary: 'On these days of the week: Mon to Sun, or 1 to 7',
      apply(state, [value], negated) {
        const days = parseDays(value!, parseWeekday);
        state.weekdays = negated ? days ^ ALL_WEEKDAYS : days;
      },
    },
    {
      name: 'monthdays',
      arguments: 1,
      negatable: true,
      syntax: 'day[,…]',
      summary: 'On these days of the month',
      apply(state, [value], negated) {
        const days = parseDays(value!, parseMonthday);
        state.monthdays = negated ? (days ^ ALL_MONTHDAYS) >>> 0 : days;
      },
    },
    zone('localtz', 'The old name of --kerneltz'),
    zone('utc', 'Times are in UTC (default)'),
    zone('kerneltz', "Times are in the kernel's time zone"),
  ],
  initial: () => ({
    startSec: 0,
    stopSec: LAST_DATE_SEC,
    daytimeStartSec: 0,
    daytimeStopSec: LAST_DAYTIME_SEC,
    monthdays: ALL_MONTHDAYS,
    weekdays: ALL_WEEKDAYS,
    zones: new Set(),
    contiguous: false,
  }),
  finish({ zones, contiguous, daytimeStartSec, daytimeStopSec }) {
    allowOne({ utc: zones.has('utc'), localtz: zones.has('localtz') });
    allowOne({ utc: zones.has('utc'), kerneltz: zones.has('kerneltz') });
    if (contiguous && daytimeStartSec < daytimeStopSec)
      throw new OptionError('--contiguous is for times over midnight', {
        hint: '--timestart has to be later than --timestop',
        argument: -1,
      });
  },
  print(state) {
    let text = '';
    if (state.daytimeStartSec !== 0 || state.daytimeStopSec !== LAST_DAYTIME_SEC)
      text += ` --timestart ${formatDaytime(state.daytimeStartSec)} --timestop ${formatDaytime(state.daytimeStopSec)}`;
    if (state.monthdays !== ALL_MONTHDAYS)
      text += ` --monthdays ${bitNumbers(state.monthdays, 31).join(',')}`;
    if (state.weekdays !== ALL_WEEKDAYS)
      text += ` --weekdays ${bitNumbers(state.weekdays, 7)
        .map((day) => WEEKDAYS[day - 1])
        .join(',')}`;
    if (state.startSec !== 0) text += ` --datestart ${formatDate(state.startSec)}`;
    // iptables-save compares with the end of a longer type, so that this one is always there.
    text += ` --datestop ${formatDate(state.stopSec)}`;
    if (state.zones.has('localtz') || state.zones.has('kerneltz')) text += ' --kerneltz';
    return state.contiguous ? `${text} --contiguous` : text;
  },
  // struct xt_time_info
  abi: [
    {
      name: 'time',
      revision: 0,
      everyFamily: true,
      size: 24,
      decode(view) {
        const flags = readFlags(view, 21, LOCAL_TIME | CONTIGUOUS, 'time');
        return {
          startSec: view.getUint32(0, true),
          stopSec: view.getUint32(4, true),
          daytimeStartSec: view.getUint32(8, true),
          daytimeStopSec: view.getUint32(12, true),
          monthdays: view.getUint32(16, true),
          weekdays: view.getUint8(20),
          zones: new Set((flags & LOCAL_TIME) === 0 ? [] : (['kerneltz'] as const)),
          contiguous: (flags & CONTIGUOUS) !== 0,
        };
      },
      encode(state, view) {
        view.setUint32(0, state.startSec, true);
        view.setUint32(4, state.stopSec, true);
        view.setUint32(8, state.daytimeStartSec, true);
        view.setUint32(12, state.daytimeStopSec, true);
        view.setUint32(16, state.monthdays, true);
        view.setUint8(20, state.weekdays);
        const local = state.zones.has('kerneltz') || state.zones.has('localtz');
        view.setUint8(21, (local ? LOCAL_TIME : 0) | (state.contiguous ? CONTIGUOUS : 0));
      },
    },
  ],
  // Programs have no clock that tells the date.
  semantics: {
    evaluate: (state, { world }) => isNow(state, wallSecOf(world)),
    explain(_state, { world }) {
      const wallSec = wallSecOf(world);
      return `it is ${formatDate(wallSec)}, a ${WEEKDAYS[weekdayOf(wallSec) - 1]}`;
    },
  },
});
