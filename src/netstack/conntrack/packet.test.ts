import { expect, test } from 'vitest';
import { locate } from './packet.ts';

/** An IPv6 header that announces a fragment header, and so many of that header's bytes. */
function cutFragment(offsetAndFlags: number, bytes: number): Uint8Array {
  const packet = new Uint8Array(48);
  packet.set([0x60, 0, 0, 0, 0, bytes, 44, 64]);
  packet.set([50, 0, offsetAndFlags >> 8, offsetAndFlags & 0xff], 40);
  return packet.subarray(0, 40 + bytes);
}

// ipv6_skip_exthdr() asks for four bytes of a fragment header and then steps over eight.
test.each([
  [8, { protocol: 50, offset: 48 }],
  [4, { protocol: 50, offset: 48 }],
  [3, undefined],
  [0, undefined],
])('a first fragment with %i bytes of its header', (bytes, expected) => {
  const located = locate('ipv6', cutFragment(1, bytes));
  expect(located && { protocol: located.protocol, offset: located.offset }).toEqual(expected);
});

test('a later fragment has no transport header', () => {
  expect(locate('ipv6', cutFragment(16, 8))).toBeUndefined();
});
