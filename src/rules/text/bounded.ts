/** Option values that are numbers within bounds, or ranges of them (libxtables/xtoptions.c: XTTYPE_UINT*, XTTYPE_UINT*RC). */
import { OptionError } from '../extension.ts';
import { parseUnsigned, parseUnsigned64, splitNumber } from './number.ts';

export const UINT32_MAX = 0xffff_ffff;
export const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

/** The whole word as a number from `min` to `max`. @throws {OptionError} */
export function boundedNumber(text: string, min: number, max: number): number {
  const value = parseUnsigned(text, min, max);
  if (value === undefined) throw new OptionError(`"${text}" is not a number from ${min} to ${max}`);
  return value;
}

/** As {@link boundedNumber}, for counts of 64 bits. @throws {OptionError} */
export function boundedNumber64(text: string, max: bigint = UINT64_MAX): bigint {
  const value = parseUnsigned64(text, max);
  if (value === undefined) throw new OptionError(`"${text}" is not a number from 0 to ${max}`);
  return value;
}

/**
 * `number` or `[number]:[number]`: one value or two, a missing first one 0, a missing second one `max`. The order of
 * the two is not checked here: some extensions allow a range that nothing can match.
 * @throws {OptionError}
 */
export function numberRange64(text: string, max: bigint): readonly bigint[] {
  const parts = text.split(':');
  if (parts.length > 2) throw new OptionError(`"${text}" has more than two parts`, { hint: 'write from:to' });
  return parts.map((part, index) => {
    if (part === '') return index === 1 ? max : 0n;
    const number = splitNumber(part);
    if (number === undefined || number.rest !== '' || number.value > max)
      throw new OptionError(`"${part}" is not a number from 0 to ${max}`);
    return number.value;
  });
}

/** As {@link numberRange64} for at most 32 bits; a single number is the range of itself. @throws {OptionError} */
export function numberRange(text: string, max: number): { readonly min: number; readonly max: number } {
  const [from, to] = numberRange64(text, BigInt(max));
  return { min: Number(from), max: Number(to ?? from) };
}

/** "number", or "min:max" where they differ. */
export function formatNumberRange(range: { readonly min: number; readonly max: number }): string {
  return range.min === range.max ? String(range.min) : `${range.min}:${range.max}`;
}
