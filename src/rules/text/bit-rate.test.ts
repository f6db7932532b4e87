import { expect, test } from 'vitest';
import { formatBitRate, parseBitRate } from './bit-rate.ts';

test.each([
  ['100', 100, '800bit'],
  ['1kbit', 125, '1000bit'],
  ['1.5Mbit', 187_500, '1500Kbit'],
  ['1MBps', 1_000_000, '8000Kbit'],
  ['2mibps', 2_097_152, '16777Kbit'],
  ['1gbps', 1e9, '8000Mbit'],
  ['1e3bit', 125, '1000bit'],
] as const)('%s is %d bytes a second', (text, bytes, shown) => {
  expect(parseBitRate(text)).toBe(bytes);
  expect(formatBitRate(bytes)).toBe(shown);
});

test.each(['', 'fast', '10miles', '-1', '100tbit'])('"%s" is refused', (text) => {
  expect(() => parseBitRate(text)).toThrow();
});
