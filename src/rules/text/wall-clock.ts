/** Dates and times of day as libxt_time reads and saves them. */
import { OptionError } from '../extension.ts';

/** The latest date that struct xt_time_info holds: 2038-01-19T03:14:07. */
export const LAST_DATE_SEC = 0x7fff_ffff;

const DATE = /^([0-9]+)(?:-([0-9]+)(?:-([0-9]+)(?:T([0-9]+)(?::([0-9]+)(?::([0-9]+))?)?)?)?)?$/;
const DAYTIME = /^([0-9]+):([0-9]+)(?::([0-9]+))?$/;

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** `YYYY[-MM[-DD[Thh[:mm[:ss]]]]]` as seconds since 1970. Day 31 of a shorter month is a day of the next. @throws {OptionError} */
export function parseDate(text: string): number {
  const match = DATE.exec(text);
  const field = (index: number, missing: number): number => Number(match?.[index] ?? missing);
  const [year, month, day] = [field(1, 0), field(2, 1), field(3, 1)];
  const [hour, minute, second] = [field(4, 0), field(5, 0), field(6, 0)];
  const seconds = Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
  const inRange =
    year >= 1970 && year <= 2038 && month <= 12 && day <= 31 && hour <= 23 && minute <= 59 && second <= 59;
  if (match === null || !inRange || !(seconds >= 0))
    throw new OptionError(`"${text}" is not a date from 1970 to 2038`, {
      hint: 'for example 2025-01-31T23:59',
    });
  return seconds;
}

/** "YYYY-MM-DDThh:mm:ss" */
export function formatDate(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19);
}

/** `hh:mm[:ss]` as seconds since midnight. @throws {OptionError} */
export function parseDaytime(text: string): number {
  const match = DAYTIME.exec(text);
  const [hour, minute, second] = [1, 2, 3].map((index) => Number(match?.[index] ?? 0)) as [
    number,
    number,
    number,
  ];
  if (match === null || hour > 23 || minute > 59 || second > 59)
    throw new OptionError(`"${text}" is not a time of day`, { hint: '00:00:00 to 23:59:59' });
  return (hour * 60 + minute) * 60 + second;
}

/** "hh:mm:ss" */
export function formatDaytime(seconds: number): string {
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map(two).join(':');
}
