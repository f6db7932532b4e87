/**
 * Rates of hashlimit as struct hashlimit_cfg3 keeps them: the cost of a packet, or of 16 bytes, of a credit that fills
 * up by the second (extensions/libxt_hashlimit.c, net/netfilter/xt_hashlimit.c). Integer division makes printing
 * inexact in the same way as iptables-save is.
 */
import { OptionError } from '../extension.ts';
import { splitNumber } from '../text/number.ts';

/** `cost` is in millionths of a second a packet (`packets`), or 2^32 over 16-byte units a second (`bytes`). */
export interface Rate {
  readonly unit: 'packets' | 'bytes';
  cost: bigint;
  /** The unit of time that was written. */
  readonly seconds: number;
}

/** XT_HASHLIMIT_BYTE_EXPIRE: how long an idle entry of a rate in bytes is kept, without and with a burst. */
export const BYTE_EXPIRE_SEC = 15;
export const BYTE_EXPIRE_BURST_SEC = 60;

/** XT_HASHLIMIT_SCALE_v2 */
const SCALE = 1_000_000n;
/** XT_HASHLIMIT_BYTE_SHIFT */
const BYTE_SHIFT = 4n;
const UINT32 = 0xffff_ffffn;
const UINT64 = 0xffff_ffff_ffff_ffffn;

/** The longest unit first, as they are tried in printing. */
const UNITS = [
  { word: 'day', short: 'day', seconds: 86_400 },
  { word: 'hour', short: 'hour', seconds: 3600 },
  { word: 'minute', short: 'min', seconds: 60 },
  { word: 'second', short: 'sec', seconds: 1 },
] as const;

const FACTORS = [
  { letter: 'm', bytes: 1024n * 1024n },
  { letter: 'k', bytes: 1024n },
  { letter: '', bytes: 1n },
] as const;

function factorOf(letter: string | undefined): bigint {
  return FACTORS.find((factor) => factor.letter === letter)?.bytes ?? 1n;
}

/** atoll(3): what the text begins with, 0 when that is no number. */
function leadingNumber(text: string): bigint {
  const digits = /^\s*\+?([0-9]+)/.exec(text)?.[1];
  return digits === undefined ? 0n : BigInt(digits);
}

function bytesToCost(bytes: bigint): bigint {
  return UINT32 / (BigInt.asUintN(32, bytes >> BYTE_SHIFT) + 1n);
}

/** Bytes a second of a cost. */
export function costToBytes(cost: bigint): bigint {
  return BigInt.asUintN(64, ((cost === 0n ? UINT32 : UINT32 / cost) - 1n) << BYTE_SHIFT);
}

function parseByteRate(text: string, suffixAt: number): Rate {
  const number = leadingNumber(text);
  const bytes = number * factorOf(text[suffixAt - 1]);
  if (number === 0n || bytes > UINT64) throw new OptionError(`"${text}" is not a rate in bytes`);
  const cost = bytesToCost(bytes);
  if (cost === 0n) throw new OptionError(`rate "${text}" is too high`);
  return { unit: 'bytes', cost, seconds: BYTE_EXPIRE_SEC };
}

/** `n[/second|/minute|/hour|/day]`, the unit in any abbreviation, or `n[k|m]b/s`. @throws {OptionError} */
export function parseRate(text: string): Rate {
  const suffixAt = text.indexOf('b/s');
  if (suffixAt > 0 && leadingNumber(text) > 0n) return parseByteRate(text, suffixAt);
  const slash = text.indexOf('/');
  const written = slash < 0 ? 'second' : text.slice(slash + 1).toLowerCase();
  const unit = written === '' ? undefined : UNITS.findLast(({ word }) => word.startsWith(written));
  const number = leadingNumber(text);
  if (unit === undefined || number === 0n)
    throw new OptionError(`"${text}" is not a rate`, { hint: 'for example 10/second, 5/min or 512kb/s' });
  const cost = (SCALE * BigInt(unit.seconds)) / number;
  if (cost === 0n) throw new OptionError(`rate "${text}" is too fast`);
  return { unit: 'packets', cost, seconds: unit.seconds };
}

/** `n`, at most `most`, or `n` with "k" or "m". @throws {OptionError} */
export function parseBurst(text: string, most: bigint): bigint {
  const number = splitNumber(text);
  if (number === undefined || number.value === 0n || (number.rest === '' && number.value > most))
    throw new OptionError(`"${text}" is not a burst`, { hint: `1 to ${most}, or bytes such as 64kb` });
  const burst = number.value * factorOf(number.rest[0]);
  if (burst > UINT64) throw new OptionError(`burst "${text}" is too large`);
  return burst;
}

/** Bytes as how often the rate of one second, rounded up. @throws {OptionError} when it is less than one second's worth. */
export function burstInCosts(bytes: bigint, cost: bigint): bigint {
  const second = costToBytes(cost);
  if (second === 0n || bytes < second)
    throw new OptionError(`the burst cannot be smaller than ${second} bytes`, { argument: -1 });
  return BigInt.asUintN(32, (bytes + second - 1n) / second);
}

/** HZ times CREDITS_PER_JIFFY, of kernels with 250 and with 1000 ticks a second, over the scale. */
const CREDITS_PER_COST = (250n << 39n) / SCALE;

/** user2credits: 64-bit arithmetic that may run over. */
export function credits(cost: bigint): bigint {
  return BigInt.asUintN(64, cost * CREDITS_PER_COST);
}

/** hashlimit_mt_check_common: the credit of the burst does not run over. */
export function costFitsKernel(unit: Rate['unit'], cost: bigint, burst: bigint): boolean {
  // user2credits_byte is the cost times something just below 2^32, shifted down by 32 bits.
  if (unit === 'bytes') return cost > 1n;
  return burst !== 0n && credits(cost * burst) >= credits(cost);
}

/** hashlimit_mt_check_common for matches on the rate alone. */
export function rateFitsKernel(cost: bigint): boolean {
  return cost !== 0n && cost <= UINT32;
}

/** "n/unit" in the longest unit that says it best, and how many seconds that unit has. */
export function formatRate(cost: bigint): { readonly rateText: string; readonly seconds: number } {
  if (cost === 0n) return { rateText: 'inf', seconds: 0 };
  let chosen = 0;
  for (let next = 1; next < UNITS.length; next++) {
    const period = SCALE * BigInt(UNITS[next]!.seconds);
    if (cost > period || period / cost < period % cost) break;
    chosen = next;
  }
  const { short, seconds } = UNITS[chosen]!;
  return { rateText: `${(SCALE * BigInt(seconds)) / cost}/${short}`, seconds };
}

/** "n[k|m]b/s", and the burst in bytes unless it is 0. */
export function formatByteRate(
  cost: bigint,
  burst: bigint,
): { readonly rateText: string; readonly burstText: string | undefined } {
  const bytes = costToBytes(cost);
  // A larger unit is taken when nothing is lost by it; iptables-save looks at the lower 32 bits only.
  const exact = FACTORS.find(
    (factor) =>
      factor.bytes === 1n ||
      (bytes >= factor.bytes && bytesToCost(bytes & UINT32 & ~(factor.bytes - 1n)) === cost),
  )!;
  const rateText = `${bytes / exact.bytes}${exact.letter}b/s`;
  if (burst === 0n) return { rateText, burstText: undefined };
  const total = BigInt.asUintN(64, bytes * burst);
  const round = FACTORS.find((factor) => factor.bytes === 1n || total >= factor.bytes)!;
  return { rateText, burstText: `${total / round.bytes}${round.letter}b` };
}
