import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareAddressBytes, formatAddressBytes, parseAddress } from './address.ts';

const ipv4Bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });
/** Zero bytes are made likely, so that runs of zero groups, mapped and compatible addresses all occur. */
const ipv6Bytes = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc
    .array(fc.oneof(fc.constant(0), fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
    .map((groups) => {
      return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
    }),
  fc.nat(0xffffffff).map((low) => {
    const bytes = new Uint8Array(16).fill(0xff, 10, 12);
    new DataView(bytes.buffer).setUint32(12, low);
    return bytes;
  }),
);
/** Texts near the grammar: valid ones with a character replaced, inserted or taken away. */
const nearAddress = fc
  .tuple(
    fc.oneof(ipv4Bytes, ipv6Bytes),
    fc.nat(40),
    fc.constantFrom('', ':', '::', '.', '0', 'f', 'g', '256', '1'),
    fc.nat(2),
  )
  .map(([bytes, at, insert, cut]) => {
    const text = formatAddressBytes(bytes);
    const position = at % (text.length + 1);
    return text.slice(0, position) + insert + text.slice(position + cut);
  });

describe('addresses against node:net', () => {
  it('accepts exactly what inet_pton accepts', () => {
    fc.assert(
      fc.property(fc.oneof(nearAddress, fc.string()), (text) => {
        // node accepts a zone after "%", which is no part of an address.
        fc.pre(!text.includes('%'));
        const parsed = parseAddress(text);
        expect(parsed?.family).toBe(isIPv4(text) ? 'ipv4' : isIPv6(text) ? 'ipv6' : undefined);
      }),
      { numRuns: 5000 },
    );
  });

  it('prints what node prints, and reads it back', () => {
    fc.assert(
      fc.property(fc.oneof(ipv4Bytes, ipv6Bytes), (bytes) => {
        const text = formatAddressBytes(bytes);
        const family = bytes.length === 4 ? 'ipv4' : 'ipv6';
        expect(new SocketAddress({ address: text, family }).address).toBe(text);
        expect(parseAddress(text)).toEqual({ family, bytes });
      }),
      { numRuns: 2000 },
    );
  });

  it('orders as the numbers do', () => {
    fc.assert(
      fc.property(ipv4Bytes, ipv4Bytes, (a, b) => {
        const number = (bytes: Uint8Array): number =>
          new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
        expect(Math.sign(compareAddressBytes(a, b))).toBe(Math.sign(number(a) - number(b)));
      }),
    );
  });
});
