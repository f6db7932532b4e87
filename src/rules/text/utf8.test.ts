import fc from 'fast-check';
import { expect, test } from 'vitest';
import { byteLength, cutToBytes, utf8Bytes, utf8Text } from './utf8.ts';

const texts = fc.string({ unit: 'binary' });

test('bytes and their number are those of the platform', () => {
  fc.assert(
    fc.property(fc.oneof(texts, fc.constantFrom('\ud800', 'a\udfffb', '\ud83d\ude00')), (text) => {
      expect(utf8Bytes(text)).toEqual(new Uint8Array(Buffer.from(text)));
      expect(byteLength(text)).toBe(Buffer.byteLength(text));
    }),
  );
});

test('text comes back from its bytes; what is no UTF-8 is refused', () => {
  fc.assert(
    fc.property(texts, (text) => {
      expect(utf8Text(utf8Bytes(text))).toBe(text);
    }),
  );
  expect(() => utf8Text(Uint8Array.of(0xc3))).toThrow(URIError);
});

test('a cut text is the longest start that fits', () => {
  fc.assert(
    fc.property(texts, fc.nat(12), (text, limit) => {
      const cut = cutToBytes(text, limit);
      expect(text.startsWith(cut)).toBe(true);
      expect(byteLength(cut)).toBeLessThanOrEqual(limit);
      const next = [...text.slice(cut.length)][0];
      if (next !== undefined) expect(byteLength(cut + next)).toBeGreaterThan(limit);
    }),
  );
});
