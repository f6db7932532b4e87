/** Numbers as iptables reads them: xtables_strtoul (libxtables/xtables.c), that is strtoumax(3) with base 0 and no sign. */

const NUMBER = /^[ \t\n\v\f\r]*\+?(0[xX][0-9a-fA-F]+|[0-9]+)/;

/** A number at the start of `text` and what follows it; octal with a leading 0, hexadecimal with 0x. */
export function splitNumber(text: string): { readonly value: bigint; readonly rest: string } | undefined {
  const match = NUMBER.exec(text);
  if (match === null) return undefined;
  let digits = match[1]!;
  let end = match[0].length;
  if (digits.length > 1 && digits[0] === '0' && digits[1] !== 'x' && digits[1] !== 'X') {
    const octal = /^[0-7]+/.exec(digits)![0];
    end -= digits.length - octal.length;
    digits = `0o${octal}`;
  }
  const value = BigInt(digits);
  if (value > 0xffff_ffff_ffff_ffffn) return undefined;
  return { value, rest: text.slice(end) };
}

/** The whole of `text` as a number from `min` to `max` (at most 2^53 - 1); `undefined` when it is not. */
export function parseUnsigned(text: string, min: number, max: number): number | undefined {
  // The plain decimal form, by far the most frequent.
  let plain = text.length > 0 && text.length <= 9 && (text.length === 1 || text.charCodeAt(0) !== 48);
  let value = 0;
  for (let index = 0; plain && index < text.length; index++) {
    const digit = text.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) plain = false;
    else value = value * 10 + digit;
  }
  if (!plain) {
    const number = splitNumber(text);
    if (number === undefined || number.rest !== '' || number.value > BigInt(Number.MAX_SAFE_INTEGER))
      return undefined;
    value = Number(number.value);
  }
  return value >= min && value <= max ? value : undefined;
}

/** As {@link parseUnsigned}, for all 64 bits. */
export function parseUnsigned64(text: string, max: bigint = 0xffff_ffff_ffff_ffffn): bigint | undefined {
  const number = splitNumber(text);
  if (number === undefined || number.rest !== '' || number.value > max) return undefined;
  return number.value;
}

/** "0x" and lower-case digits, as printf("0x%x") does; unsigned 32 bits. */
export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
