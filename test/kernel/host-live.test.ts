/**
 * What a host does on its own account, against the running kernel: it answers echo and timestamp requests, writes itself into
 * IPv4 options, and tells senders on its link of the better next hop. The same packets go into a namespace and into a netstack
 * made from it; what leaves must be the same but for chance and the time of day.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { DEFAULT_SOURCE_MAC } from '../support/generate/packets.ts';
import { buildPacket, type Shape } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { openTaps, sentByKernel, stackOf } from '../support/live-stack.ts';
import { addressBytes, withNamespaces } from '../support/netns.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const PACKETS = 500 * SOAK;
const ICMP = 1;
const ICMPV6 = 58;

const RULES = '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n';

/** A route recorded, or times: with the pointer anywhere, in any form, with too little room and with enough. */
function recordingOption(kind: 7 | 68): fc.Arbitrary<readonly number[]> {
  const first = kind === 7 ? 4 : 5;
  const named = fc.constantFrom([10, 7, 0, 1], [172, 16, 9, 1], [10, 7, 0, 2], [0, 0, 0, 0]);
  return fc
    .tuple(
      fc.integer({ min: 0, max: 4 }),
      fc.constantFrom(0, 0, 0, 1, 3),
      fc.oneof(
        fc.integer({ min: 0, max: 4 }).map((slot) => first + 4 * slot),
        fc.integer({ min: 0, max: 24 }),
      ),
      fc.constantFrom(0, 1, 3, 2, 0xf0, 0xf1, 0xf3, 0x10),
      fc.array(named, { minLength: 5, maxLength: 5 }),
    )
    .map(([slots, odd, pointer, form, words]) => {
      const data = words.flat().slice(0, 4 * slots + odd);
      return kind === 7
        ? [7, 3 + data.length, pointer, ...data]
        : [68, 4 + data.length, pointer, form, ...data];
    });
}

const option: fc.Arbitrary<readonly number[]> = fc.oneof(
  { weight: 3, arbitrary: recordingOption(7) },
  { weight: 3, arbitrary: recordingOption(68) },
  {
    weight: 1,
    arbitrary: fc.constantFrom([1], [1, 1], [148, 4, 0, 0], [148, 3, 0], [131, 7, 4, 10, 7, 0, 2]),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      [0],
      [0, 7, 7],
      [200, 6, 1, 2, 3, 4],
      [7],
      [68, 40],
      [131, 2],
      [137, 7, 1, 0, 0, 0, 0],
    ),
  },
);

const options = fc.array(option, { maxLength: 3 }).map((list) => {
  const flat = list.flat().slice(0, 40);
  while (flat.length % 4 !== 0) flat.push(0);
  return Uint8Array.from(flat);
});

function packets(family: Family): fc.Arbitrary<Shape> {
  const places =
    family === 'ipv4'
      ? {
          sources: ['10.7.0.2', '10.7.0.77', '203.0.113.9'],
          destinations: [
            '10.7.0.1',
            '172.16.9.1',
            '172.16.9.5',
            '10.7.0.66',
            '198.51.100.9',
            '192.0.2.9',
            '10.7.0.255',
          ],
        }
      : {
          sources: ['fd07::2', 'fd07::77', '2001:db8::9'],
          destinations: ['fd07::1', 'fd09:0:0:9::1', 'fd09:0:0:9::5', 'ff02::1'],
        };
  const echo = family === 'ipv4' ? fc.constantFrom(8, 8, 8, 13, 15, 0) : fc.constantFrom(128, 128, 129, 139);
  return fc.record({
    family: fc.constant(family),
    source: fc.constantFrom(...places.sources).map(addressBytes),
    destination: fc.constantFrom(...places.destinations).map(addressBytes),
    tos: fc.constantFrom(0, 0x10, 0xb8, 3),
    ttl: fc.constantFrom(1, 2, 64, 64, 64),
    id: fc.integer({ min: 1, max: 0xffff }),
    dontFragment: fc.boolean(),
    ipOptions: family === 'ipv4' ? options : fc.constant(new Uint8Array()),
    extensions: fc.constant([]),
    transport: fc.record({
      kind: fc.constant('icmp' as const),
      type: echo,
      code: fc.constantFrom(0, 0, 5),
      id: fc.constantFrom(1, 2),
    }),
    payloadBytes: fc.constantFrom(0, 3, 4, 12, 56, 600),
    wrongChecksum: fc.constantFrom(false, false, false, true),
    inDevice: fc.constant('eth0'),
    sourceMac: fc.constant(DEFAULT_SOURCE_MAC),
  });
}

/** Milliseconds since midnight, wherever they stand, are left out; and so are identifications, flow labels and all sums. */
function withoutChance(line: string): string {
  const [device, hex] = line.split(' ') as [string, string];
  const bytes = Buffer.from(hex, 'hex');
  if (bytes[0]! >> 4 === 4) {
    const start = (bytes[0]! & 15) * 4;
    if (bytes[9] === ICMP && [0, 3, 5, 11, 12, 14].includes(bytes[start]!)) bytes.fill(0, 4, 6);
    bytes.fill(0, 10, 12).fill(0, start + 2, start + 4);
    // What an error quotes has a sum over its options, too.
    if (bytes[9] === ICMP && [3, 5, 11, 12].includes(bytes[start]!)) bytes.fill(0, start + 18, start + 20);
  } else if (bytes[6] === ICMPV6) {
    bytes.fill(0, 1, 4);
  }
  const now = Date.now() % 86_400_000;
  for (let at = 0; at + 4 <= bytes.length; at++) {
    if (Math.abs(bytes.readUInt32BE(at) - now) < 5_000) bytes.fill(0, at, at + 4);
  }
  return `${device} ${bytes.toString('hex')}`;
}

describeKernel('what a host says of itself', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: the kernel and the netstack say the same', async (family) => {
    let answers = 0;
    await withNamespaces(['fw'], ({ fw }) => {
      const taps = openTaps(fw);
      // A route back by a router on the same link: senders there are no neighbours.
      fw.exec('ip', ['route', 'add', '192.0.2.0/24', 'via', '10.7.0.200', 'dev', 'eth0']);
      fw.exec('ip', ['route', 'add', '203.0.113.0/24', 'via', '10.7.0.201', 'dev', 'eth0']);
      fw.sysctl('net/ipv4/icmp_ratelimit', 0);
      fw.sysctl('net/ipv6/icmp/ratelimit', 0);
      fw.sysctl('net/ipv4/icmp_msgs_per_sec', 1_000_000);
      fw.sysctl('net/ipv4/icmp_msgs_burst', 1_000_000);
      fw.exec(family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore', ['-w'], {
        input: RULES,
      });
      const twin = stackOf(fw, family, RULES);
      sentByKernel(taps, family);
      let host = 0;
      const property = fc.property(packets(family), (drawn) => {
        // Of each host on the link one packet: the kernel stops redirecting those that do not listen.
        const shape =
          family === 'ipv4' && drawn.source[0] === 10
            ? { ...drawn, source: Uint8Array.of(10, 7, 0, 2 + (host++ % 190)) }
            : drawn;
        const bytes = buildPacket(shape);
        taps.get('eth0')!.inject(bytes);
        twin.sent.length = 0;
        twin.stack.receive({ family, bytes }, 'eth0');
        const expected = sentByKernel(taps, family).map(withoutChance).sort();
        answers += expected.length;
        expect(twin.sent.map(withoutChance).sort(), Buffer.from(bytes).toString('hex')).toEqual(expected);
      });
      fc.assert(property, { numRuns: PACKETS });
    });
    console.log(`${family}: ${PACKETS} packets, ${answers} that left compared`);
    expect(answers).toBeGreaterThan(PACKETS / 6);
  });
});
