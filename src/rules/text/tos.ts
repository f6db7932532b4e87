/** The TOS byte with a mask (libxtables/xtoptions.c: XTTYPE_TOSMASK). */
import { OptionError } from '../extension.ts';
import { didYouMean } from '../suggestion.ts';
import { parseUnsigned } from './number.ts';

export interface MaskedTos {
  readonly value: number;
  readonly mask: number;
}

const SYMBOLS = [
  ['Minimize-Delay', 0x10],
  ['Maximize-Throughput', 0x08],
  ['Maximize-Reliability', 0x04],
  ['Minimize-Cost', 0x02],
  ['Normal-Service', 0x00],
] as const;
/** Names leave the two ECN bits alone. */
const SYMBOL_MASK = 0x3f;

/** `value[/mask]` or a name. @throws {OptionError} */
export function parseTos(text: string): MaskedTos {
  const symbol = SYMBOLS.find(([name]) => name.toLowerCase() === text.toLowerCase());
  if (symbol !== undefined) return { value: symbol[1], mask: SYMBOL_MASK };
  const [first, second, ...rest] = text.split('/');
  const value = parseUnsigned(first!, 0, 255);
  const mask = second === undefined ? 255 : parseUnsigned(second, 0, 255);
  if (value === undefined || mask === undefined || rest.length > 0) {
    const names = SYMBOLS.map(([name]) => name);
    throw new OptionError(`"${text}" is not a TOS value`, {
      hint:
        didYouMean(text, names) ?? `a value up to 255 with or without /mask, or one of ${names.join(', ')}`,
    });
  }
  return { value, mask };
}

/** "0x" and two digits. */
export function formatTosByte(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}

/** "0xvalue/0xmask" */
export function formatTos(tos: MaskedTos): string {
  return `${formatTosByte(tos.value)}/${formatTosByte(tos.mask)}`;
}
