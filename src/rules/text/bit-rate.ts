/** Rates with units as tc(8) writes them, kept in bytes a second (extensions/libxt_rateest.c). */
import { OptionError } from '../extension.ts';
import { UINT32_MAX } from './bounded.ts';

/** Bits of each unit, by its name in lower case. */
const UNITS: ReadonlyMap<string, number> = new Map([
  ['bit', 1],
  ['kibit', 1024],
  ['kbit', 1e3],
  ['mibit', 1024 ** 2],
  ['mbit', 1e6],
  ['gibit', 1024 ** 3],
  ['gbit', 1e9],
  ['tibit', 1024 ** 4],
  ['tbit', 1e12],
  ['bps', 8],
  ['kibps', 8 * 1024],
  ['kbps', 8e3],
  ['mibps', 8 * 1024 ** 2],
  ['mbps', 8e6],
  ['gibps', 8 * 1024 ** 3],
  ['gbps', 8e9],
  ['tibps', 8 * 1024 ** 4],
  ['tbps', 8e12],
]);

/** A number, in bytes a second without a unit. @throws {OptionError} */
export function parseBitRate(text: string): number {
  const match = /^([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)([a-z]*)$/i.exec(text);
  const bits = match?.[2] === '' ? 8 : UNITS.get(match?.[2]?.toLowerCase() ?? '');
  if (match === null || bits === undefined)
    throw new OptionError(`"${text}" is not a rate`, { hint: 'for example 512kbit, 10mbit or 1MBps' });
  const bytes = Math.trunc((Number(match[1]) * bits) / 8);
  if (bytes > UINT32_MAX) throw new OptionError(`rate "${text}" is too high`);
  return bytes;
}

/** In the largest of Mbit, Kbit and bit that leaves four digits, rounded. */
export function formatBitRate(bytes: number): string {
  const bits = bytes * 8;
  if (bits >= 1e9) return `${Math.round(bits / 1e6)}Mbit`;
  if (bits >= 1e6) return `${Math.round(bits / 1e3)}Kbit`;
  return `${bits}bit`;
}
