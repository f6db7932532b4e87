import { describe, expect, it } from 'vitest';
import { parseHexString } from './hex-string.ts';

function bytes(text: string): string {
  return Array.from(parseHexString(text, 128), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

describe('strings in hexadecimal', () => {
  it.each([
    ['|61 62|c', '616263'],
    ['|6162|', '6162'],
    ['a|62|c|64|', '61626364'],
    ['a\\|b', '617c62'],
    ["'|0000|'", '27000027'],
    ['|  61|', '61'],
    ['|', ''],
  ])('%j', (text, expected) => {
    expect(bytes(text)).toBe(expected);
  });

  it.each(['', '|6', '|61', '|6g|', '|61\\|', 'a\\'])('%j is refused', (text) => {
    expect(() => parseHexString(text, 128)).toThrow();
  });

  it('holds so many bytes and no more', () => {
    expect(parseHexString('x'.repeat(128), 128)).toHaveLength(128);
    expect(() => parseHexString('x'.repeat(129), 128)).toThrow('128');
  });
});
