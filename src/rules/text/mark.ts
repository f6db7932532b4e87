/** Marks of 32 bits with a mask (libxtables/xtables.c: xtables_parse_mark_mask). */
import { OptionError } from '../extension.ts';
import { UINT32_MAX } from './bounded.ts';
import { hex, splitNumber } from './number.ts';

/** Both unsigned, in host order. */
export interface MaskedMark {
  readonly value: number;
  readonly mask: number;
}

/** `value[/mask]`; without a mask all bits count. @throws {OptionError} */
export function parseMaskedMark(text: string): MaskedMark {
  const value = splitNumber(text);
  const written = value?.rest.startsWith('/') ? splitNumber(value.rest.slice(1)) : undefined;
  const rest = value?.rest === '' ? '' : written?.rest;
  if (
    value === undefined ||
    rest !== '' ||
    value.value > 0xffff_ffffn ||
    (written?.value ?? 0n) > 0xffff_ffffn
  )
    throw new OptionError(`"${text}" is not a value or value/mask of 32 bits`, {
      hint: 'for example 0x1/0xff',
    });
  return { value: Number(value.value), mask: written === undefined ? UINT32_MAX : Number(written.value) };
}

/** "0xvalue", with "/0xmask" where not all bits count. */
export function formatMaskedMark(mark: MaskedMark): string {
  return mark.mask === UINT32_MAX ? hex(mark.value) : `${hex(mark.value)}/${hex(mark.mask)}`;
}
