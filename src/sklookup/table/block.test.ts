import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { networkOf } from '../../net/index.ts';
import { addressInBlock, blockWords, placeInBlock } from './block.ts';

const anyPrefix = fc.constantFrom<'ipv4' | 'ipv6'>('ipv4', 'ipv6').chain((family) => {
  const width = family === 'ipv4' ? 4 : 16;
  return fc
    .record({ bytes: fc.uint8Array({ minLength: width, maxLength: width }), length: fc.nat(8 * width) })
    .map(({ bytes, length }) => networkOf({ address: { family, bytes }, length }));
});

describe('a block and a place', () => {
  it('say a prefix, and nothing else does', () => {
    fc.assert(
      fc.property(anyPrefix, (prefix) => {
        const { family, bytes } = prefix.address;
        const words = new Uint32Array(4);
        blockWords(prefix, words);
        const place = placeInBlock(prefix);
        expect(addressInBlock(words, family, prefix.length, place)).toEqual({ family, bytes });
        // A neighbour: the last bit of the prefix turned.
        if (prefix.length === 0) return;
        const other = bytes.slice();
        other[(prefix.length - 1) >> 3]! ^= 0x80 >> ((prefix.length - 1) & 7);
        const neighbour = { address: { family, bytes: other }, length: prefix.length };
        const theirs = new Uint32Array(4);
        blockWords(neighbour, theirs);
        expect(theirs).toEqual(words);
        expect(placeInBlock(neighbour)).toBe(place ^ 1);
      }),
      { numRuns: 2_000 },
    );
  });

  it('lie in one half of an IPv6 address', () => {
    const at = (length: number): number => {
      const bytes = new Uint8Array(16).fill(0xff);
      return placeInBlock(networkOf({ address: { family: 'ipv6', bytes }, length }));
    };
    expect([0, 1, 5, 6, 64, 65, 66, 69, 70, 71, 128].map(at)).toEqual([
      0, 1, 31, 63, 63, 1, 3, 31, 63, 63, 63,
    ]);
  });
});
