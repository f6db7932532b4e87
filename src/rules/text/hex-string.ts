/** Strings with bytes in hexadecimal between bars: `text|0a 0d|text` (extensions/libxt_string.c: parse_hex_string). */
import { OptionError } from '../extension.ts';
import { utf8Bytes } from './utf8.ts';

const BACKSLASH = 0x5c;
const BAR = 0x7c;
const SPACE = 0x20;

function hexDigit(byte: number | undefined): number {
  return byte === undefined ? -1 : '0123456789abcdef'.indexOf(String.fromCharCode(byte).toLowerCase());
}

/**
 * The bytes of such a string. Outside the bars a backslash takes the next character as it is.
 * @throws {OptionError} when a byte is not two hexadecimal digits, a block does not end, or more than `limit` bytes result.
 */
export function parseHexString(text: string, limit: number): Uint8Array {
  const source = utf8Bytes(text);
  if (source.length === 0) throw new OptionError('the string is empty');
  const bytes: number[] = [];
  let inBlock = false;
  let position = 0;
  while (position < source.length) {
    if (bytes.length >= limit) throw new OptionError(`the string has more than ${limit} bytes`);
    let literal = false;
    if (source[position] === BACKSLASH) {
      if (inBlock) throw new OptionError('a backslash cannot stand between the bars');
      literal = true;
    } else if (source[position] === BAR) {
      inBlock = !inBlock;
      if (inBlock) while (source[position + 1] === SPACE) position++;
      position++;
      if (position >= source.length) break;
    }
    if (literal) {
      if (position + 1 >= source.length) throw new OptionError('the string ends after a backslash');
      bytes.push(source[position + 1]!);
      position += 2;
    } else if (inBlock) {
      const high = hexDigit(source[position]);
      const low = hexDigit(source[position + 1]);
      if (position + 1 >= source.length)
        throw new OptionError('a byte between the bars has two hexadecimal digits');
      if (position + 2 >= source.length) throw new OptionError('a block in hexadecimal ends with a bar');
      if (high < 0 || low < 0)
        throw new OptionError('only pairs of hexadecimal digits can stand between the bars');
      bytes.push(high * 16 + low);
      position += source[position + 2] === SPACE ? 3 : 2;
    } else {
      bytes.push(source[position]!);
      position++;
    }
  }
  return Uint8Array.from(bytes);
}
