import { BlockList } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Address, compareAddressBytes, formatAddress } from './address.ts';
import { lengthOfMask, maskOfLength, matchesMask } from './mask.ts';
import {
  ALL_PORTS,
  compareNarrowestFirst,
  formatPortRange,
  parsePortRange,
  portRangeContains,
} from './port.ts';
import {
  compareLongestFirst,
  comparePrefixes,
  formatPrefix,
  networkOf,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  samePrefix,
} from './prefix.ts';
import {
  formatAddressRange,
  parseAddressRange,
  prefixesOfRange,
  rangeContains,
  rangeOfPrefix,
} from './range.ts';
import { compareTuples, type FiveTuple, formatTuple, reverseTuple, sameTuple } from './tuple.ts';

/** Few distinct bytes, so that addresses often agree in their first bits. */
const byte = fc.constantFrom(0, 1, 2, 127, 128, 192, 254, 255);
const addressOf = (length: 4 | 16): fc.Arbitrary<Address> =>
  fc
    .array(byte, { minLength: length, maxLength: length })
    .map((bytes) => ({ family: length === 4 ? 'ipv4' : 'ipv6', bytes: Uint8Array.from(bytes) }));
const address = fc.oneof(addressOf(4), addressOf(16));
const prefix: fc.Arbitrary<Prefix> = address.chain((value) =>
  fc.nat(value.bytes.length * 8).map((length) => ({ address: value, length })),
);
const range = fc
  .oneof(addressOf(4), addressOf(16))
  .chain((min) =>
    addressOf(min.bytes.length as 4 | 16).map((other) =>
      compareAddressBytes(min.bytes, other.bytes) <= 0 ? { min, max: other } : { min: other, max: min },
    ),
  );

describe('prefixes', () => {
  it('contain what node says they contain', () => {
    fc.assert(
      fc.property(prefix, address, (block, candidate) => {
        const list = new BlockList();
        list.addSubnet(formatAddress(block.address), block.length, block.address.family);
        // node looks up mapped IPv4 addresses in IPv4 subnets; a prefix of ours holds its own family only.
        fc.pre(block.address.family === candidate.family);
        expect(prefixContains(block, candidate)).toBe(list.check(formatAddress(candidate), candidate.family));
      }),
      { numRuns: 1000 },
    );
  });

  it('round trip through text, and refuse what is not a prefix', () => {
    fc.assert(
      fc.property(prefix, (block) => {
        expect(parsePrefix(formatPrefix(block))).toEqual(block);
      }),
    );
    for (const text of [
      '',
      '/8',
      '10.0.0.0/',
      '10.0.0.0/33',
      '10.0.0.0/08',
      '10.0.0.0/-1',
      '::/129',
      '10.0.0/8',
      '::/1/1',
    ]) {
      expect(parsePrefix(text), text).toBeUndefined();
    }
    expect(parsePrefix('::1')?.length).toBe(128);
  });

  it('cover, overlap and equal as their ranges do', () => {
    fc.assert(
      fc.property(prefix, prefix, (a, b) => {
        const [x, y] = [rangeOfPrefix(a), rangeOfPrefix(b)];
        const covers = rangeContains(x, y.min) && rangeContains(x, y.max);
        expect(prefixCovers(a, b)).toBe(covers);
        expect(prefixesOverlap(a, b)).toBe(covers || (rangeContains(y, x.min) && rangeContains(y, x.max)));
        expect(samePrefix(a, b)).toBe(formatPrefix(networkOf(a)) === formatPrefix(networkOf(b)));
      }),
    );
  });

  it('sorted longest first, the first that contains an address is its longest match', () => {
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 20 }), address, (blocks, candidate) => {
        const first = [...blocks].sort(compareLongestFirst).find((block) => prefixContains(block, candidate));
        const lengths = blocks
          .filter((block) => prefixContains(block, candidate))
          .map((block) => block.length);
        expect(first?.length).toBe(lengths.length === 0 ? undefined : Math.max(...lengths));
        const printed = [...blocks].sort(comparePrefixes);
        for (let index = 1; index < printed.length; index++) {
          const [a, b] = [networkOf(printed[index - 1]!), networkOf(printed[index]!)];
          expect(compareAddressBytes(a.address.bytes, b.address.bytes)).toBeLessThanOrEqual(0);
        }
      }),
    );
  });
});

describe('masks', () => {
  it('are prefix lengths exactly when contiguous', () => {
    for (const family of ['ipv4', 'ipv6'] as const) {
      const bits = family === 'ipv4' ? 32 : 128;
      for (let length = 0; length <= bits; length++)
        expect(lengthOfMask(maskOfLength(family, length))).toBe(length);
      expect(() => maskOfLength(family, bits + 1)).toThrow(RangeError);
    }
    fc.assert(
      fc.property(addressOf(4), (mask) => {
        const text = [...mask.bytes].map((value) => value.toString(2).padStart(8, '0')).join('');
        expect(lengthOfMask(mask.bytes)).toBe(
          /^1*0*$/.test(text) ? text.replace(/0+$/, '').length : undefined,
        );
      }),
    );
  });

  it('match as and-and-compare does', () => {
    fc.assert(
      fc.property(addressOf(4), addressOf(4), addressOf(4), (a, b, mask) => {
        const number = (value: Address): number => new DataView(value.bytes.buffer).getUint32(0);
        expect(matchesMask(a.bytes, b.bytes, mask.bytes)).toBe(
          ((number(a) ^ number(b)) & number(mask)) === 0,
        );
      }),
    );
    expect(matchesMask(new Uint8Array(4), new Uint8Array(16), new Uint8Array(16))).toBe(false);
  });
});

describe('ranges', () => {
  it('are covered exactly, in order, without overlap, by their prefixes', () => {
    fc.assert(
      fc.property(range, address, (span, candidate) => {
        const blocks = prefixesOfRange(span);
        const holding = blocks.filter((block) => prefixContains(block, candidate)).length;
        expect(holding).toBe(rangeContains(span, candidate) ? 1 : 0);
        expect(rangeOfPrefix(blocks[0]!).min).toEqual(span.min);
        expect(rangeOfPrefix(blocks.at(-1)!).max).toEqual(span.max);
        // Fewest: no two neighbours could be one.
        for (let index = 1; index < blocks.length; index++) {
          const [a, b] = [blocks[index - 1]!, blocks[index]!];
          const wider = { address: a.address, length: a.length - 1 };
          const mergeable =
            a.length === b.length && samePrefix(wider, { address: b.address, length: b.length - 1 });
          expect(mergeable).toBe(false);
        }
      }),
    );
    fc.assert(
      fc.property(prefix, (block) => {
        expect(prefixesOfRange(rangeOfPrefix(block))).toEqual([networkOf(block)]);
      }),
    );
  });

  it('round trip through text, and refuse what is not a range', () => {
    fc.assert(
      fc.property(range, (span) => {
        expect(parseAddressRange(formatAddressRange(span))).toEqual(span);
      }),
    );
    for (const text of [
      '',
      '-',
      '10.0.0.2-10.0.0.1',
      '10.0.0.1-::1',
      '10.0.0.1-',
      '1.2.3.4-1.2.3.5-1.2.3.6',
    ]) {
      expect(parseAddressRange(text), text).toBeUndefined();
    }
  });
});

describe('ports and tuples', () => {
  it('port ranges round trip and contain their ports', () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xffff), fc.nat(0xffff), (a, b, port) => {
        const ports = { min: Math.min(a, b), max: Math.max(a, b) };
        expect(parsePortRange(formatPortRange(ports))).toEqual(ports);
        expect(parsePortRange(`${ports.min}:${ports.max}`)).toEqual(ports);
        expect(portRangeContains(ports, port)).toBe(port >= ports.min && port <= ports.max);
        expect(compareNarrowestFirst(ports, ALL_PORTS)).toBeLessThanOrEqual(0);
      }),
    );
    for (const text of ['', '-', '65536', '2-1', '1-', '-1', '0x10', '1,2'])
      expect(parsePortRange(text), text).toBeUndefined();
  });

  it('tuples: reversing twice is nothing, and text, order and equality agree', () => {
    const tuple: fc.Arbitrary<FiveTuple> = fc.constantFrom<4 | 16>(4, 16).chain((length) =>
      fc.record({
        protocol: fc.constantFrom(6, 17),
        source: addressOf(length),
        destination: addressOf(length),
        sourcePort: fc.constantFrom(1, 2),
        destinationPort: fc.constantFrom(1, 2),
      }),
    );
    fc.assert(
      fc.property(tuple, tuple, (a, b) => {
        expect(reverseTuple(reverseTuple(a))).toEqual(a);
        expect(sameTuple(a, b)).toBe(formatTuple(a) === formatTuple(b));
        expect(sameTuple(a, b)).toBe(compareTuples(a, b) === 0);
        expect(Math.sign(compareTuples(a, b))).toBe(-Math.sign(compareTuples(b, a)) + 0);
      }),
    );
  });
});
