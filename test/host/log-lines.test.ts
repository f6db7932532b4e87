/** LOG lines are word for word those that the LOG target of a real kernel printed of the same packets. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { logText } from '../../src/host/policy/logtext.ts';

const ETHERNET = { ipv4: '02000000000b02000000000a0800', ipv6: '02000000000b02000000000a86dd' } as const;
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));

/** Recorded by vectors/record-log-lines.py in a kernel of its own (Linux 6.1). */
const vectors = readFileSync(new URL('vectors/log-lines.txt', import.meta.url), 'latin1')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => /^(\d+) ([0-9a-f]+) (.*)$/.exec(line)!);

test('of 420 packets, with every option', () => {
  expect(vectors).toHaveLength(420);
  for (const [, flags, hex = '', line] of vectors) {
    const packet = bytesOf(hex);
    const family = packet[0]! >> 4 === 6 ? 'ipv6' : 'ipv4';
    expect(
      logText({
        prefix: 'x ',
        flags: Number(flags),
        mark: 0,
        length: packet.length,
        inDevice: 'b',
        outDevice: '',
        link: { deviceType: 1, macLength: 14, bytes: bytesOf(ETHERNET[family]) },
        packet,
      }),
      hex,
    ).toBe(line);
  }
});
