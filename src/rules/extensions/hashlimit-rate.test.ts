import { describe, expect, it } from 'vitest';
import { burstInCosts, formatByteRate, formatRate, parseBurst, parseRate } from './hashlimit-rate.ts';

function rate(text: string): string {
  const { unit, cost } = parseRate(text);
  return unit === 'bytes' ? formatByteRate(cost, 0n).rateText : formatRate(cost).rateText;
}

// What iptables-save 1.8.9 prints of rules with these rates.
describe('rates of hashlimit', () => {
  it.each([
    ['5', '5/sec'],
    ['5/s', '5/sec'],
    ['5x/s', '5/sec'],
    ['7/min', '7/min'],
    ['120/minute', '2/sec'],
    ['90/hour', '90/hour'],
    ['4kb/s', '4kb/s'],
    ['99b/s', '96b/s'],
    ['15b/s', '0b/s'],
    ['10mb/s', '10mb/s'],
    ['5000000000b/s', '5286113568b/s'],
  ])('%s is printed as %s', (text, printed) => {
    expect(rate(text)).toBe(printed);
  });

  it.each(['', '/s', '0/s', '5/', '5/fortnight', '-5/s', '1000001/s', '0b/s'])('%j is refused', (text) => {
    expect(() => parseRate(text)).toThrow();
  });

  it('a burst in bytes is counted in seconds of the rate, rounded up', () => {
    const { cost } = parseRate('5kb/s');
    expect(burstInCosts(parseBurst('100kb', 1_000_000n), cost)).toBe(20n);
    expect(burstInCosts(5121n, cost)).toBe(2n);
    expect(() => burstInCosts(5119n, cost)).toThrow('5120 bytes');
  });
});
