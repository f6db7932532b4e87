/**
 * What a router answers, against the running kernel: hop counts used up, destinations without a route, packets that do not fit,
 * and every kind of REJECT. The same packets go into a namespace and into a netstack made from it; answers and what is
 * forwarded, in fragments where it has to be, must be the same but for what the kernel draws by chance.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { DEFAULT_SOURCE_MAC } from '../support/generate/packets.ts';
import { buildPacket, type Shape, type Transport } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { openTaps, sentByKernel, stackOf } from '../support/live-stack.ts';
import { addressBytes, type Host, withNamespaces } from '../support/netns.ts';
import { REFUSALS } from '../support/refusals.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const PACKETS = 600 * SOAK;
const MTU = 1300;

const FIRST_PORT = 1000;
const RESET_PORT = 999;

/** A port for each kind of refusal; the host's own protocols see nothing, so that they say nothing. */
function rulesOf(family: Family): string {
  const rules = ['INPUT', 'FORWARD'].flatMap((chain) => [
    `-A ${chain} -p tcp -m tcp --dport ${RESET_PORT} -j REJECT --reject-with tcp-reset`,
    ...REFUSALS[family].flatMap((kind, index) =>
      ['tcp', 'udp'].map(
        (protocol) =>
          `-A ${chain} -p ${protocol} -m ${protocol} --dport ${FIRST_PORT + index} -j REJECT --reject-with ${kind}`,
      ),
    ),
  ]);
  return [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    'COMMIT',
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    '-A FORWARD -m conntrack --ctstate INVALID',
    ...rules,
    'COMMIT',
    '',
  ].join('\n');
}

const SOURCES = { ipv4: ['10.7.0.2', '10.7.0.77'], ipv6: ['fd07::2', 'fd07::77'] } as const;
/** Nowhere, and two that routes refuse. An IPv4 host is told so once a second only: it has tests of its own. */
const UNROUTABLE = ['203.0.113.5', '192.0.2.5', '198.51.100.5'];
const DESTINATIONS = {
  // A neighbour behind the narrow device, the host itself; of IPv6 those that lead nowhere, too.
  ipv4: ['172.16.9.5', '10.7.0.1'],
  ipv6: ['fd09:0:0:9::5', 'fd07::1', '2001:db8:99::5', '2001:db8:1::5', '2001:db8:2::5'],
} as const;

function packets(family: Family): fc.Arbitrary<Shape> {
  const port = fc.integer({ min: RESET_PORT - 1, max: FIRST_PORT + REFUSALS[family].length });
  const tcp = fc.record({
    kind: fc.constant('tcp' as const),
    sourcePort: fc.constantFrom(4000, 4001),
    destinationPort: port,
    flags: fc.constantFrom(0x02, 0x10, 0x12, 0x04, 0x14, 0x01, 0x11, 0x18),
    options: fc.constant(new Uint8Array()),
    seq: fc.integer({ min: 0, max: 0x7fffffff }),
    ack: fc.integer({ min: 0, max: 0x7fffffff }),
    window: fc.constant(1000),
  });
  const udp = fc.record({
    kind: fc.constant('ports' as const),
    protocol: fc.constant(17),
    sourcePort: fc.constantFrom(4000, 4001),
    destinationPort: port,
  });
  const icmp = fc.record({
    kind: fc.constant('icmp' as const),
    type: family === 'ipv4' ? fc.constantFrom(8, 3, 13, 11) : fc.constantFrom(128, 1, 3),
    code: fc.constant(0),
    id: fc.constantFrom(1, 2),
  });
  return fc.record({
    family: fc.constant(family),
    source: fc.constantFrom(...SOURCES[family]).map(addressBytes),
    destination: fc.constantFrom(...DESTINATIONS[family]).map(addressBytes),
    tos: fc.constantFrom(0, 0x10, 0xb8, 3),
    ttl: fc.constantFrom(1, 2, 64),
    id: fc.integer({ min: 1, max: 0xffff }),
    dontFragment: fc.boolean(),
    ipOptions: fc.constant(new Uint8Array()),
    extensions: fc.constant([]),
    transport: fc.oneof(tcp, udp, icmp) as fc.Arbitrary<Transport>,
    payloadBytes: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.integer({ min: MTU - 80, max: MTU + 120 })),
    wrongChecksum: fc.constantFrom(false, false, false, true),
    inDevice: fc.constant('eth0'),
    sourceMac: fc.constant(DEFAULT_SOURCE_MAC),
  });
}

/** Identifications and flow labels are drawn; the checksum over them is left out, too. */
function withoutChance(line: string): string {
  const [device, hex] = line.split(' ') as [string, string];
  const bytes = Buffer.from(hex, 'hex');
  if (bytes[0]! >> 4 === 4) {
    const answer = bytes[9] === 1 && [3, 11, 12].includes(bytes[(bytes[0]! & 15) * 4]!);
    if (answer) bytes.fill(0, 4, 6).fill(0, 10, 12);
  } else if (bytes[6] === 58 && bytes[40]! < 128) {
    bytes.fill(0, 1, 4);
  }
  return `${device} ${bytes.toString('hex')}`;
}

function openRouter(fw: Host, family: Family) {
  const taps = openTaps(fw);
  fw.exec('ip', ['route', 'del', 'default']);
  fw.exec('ip', ['-6', 'route', 'del', 'default']);
  fw.exec('ip', ['route', 'add', 'unreachable', '192.0.2.0/24']);
  fw.exec('ip', ['route', 'add', 'prohibit', '198.51.100.0/24']);
  fw.exec('ip', ['-6', 'route', 'add', 'unreachable', '2001:db8:1::/48']);
  fw.exec('ip', ['-6', 'route', 'add', 'prohibit', '2001:db8:2::/48']);
  fw.exec('ip', ['link', 'set', 'eth1', 'mtu', String(MTU)]);
  fw.sysctl('net/ipv4/icmp_ratelimit', 0);
  fw.sysctl('net/ipv6/icmp/ratelimit', 0);
  fw.sysctl('net/ipv4/icmp_msgs_per_sec', 1_000_000);
  fw.sysctl('net/ipv4/icmp_msgs_burst', 1_000_000);
  for (const name of ['all', 'default', 'eth0', 'eth1']) fw.sysctl(`net/ipv4/conf/${name}/send_redirects`, 0);
  const rules = rulesOf(family);
  fw.exec(family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore', ['-w'], {
    input: rules,
  });
  return { taps, twin: stackOf(fw, family, rules) };
}

describeKernel('answers of the kernel and of the netstack', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: the same answers, the same packets forwarded', async (family) => {
    let answers = 0;
    await withNamespaces(['fw'], ({ fw }) => {
      const { taps, twin } = openRouter(fw, family);
      sentByKernel(taps, family);
      const property = fc.property(packets(family), (shape) => {
        const bytes = buildPacket(shape);
        taps.get(shape.inDevice)!.inject(bytes);
        twin.sent.length = 0;
        twin.stack.receive({ family, bytes }, shape.inDevice);
        const expected = sentByKernel(taps, family).map(withoutChance);
        answers += expected.filter((line) => line.startsWith('eth0')).length;
        expect(twin.sent.map(withoutChance), Buffer.from(bytes).toString('hex')).toEqual(expected);
      });
      fc.assert(property, { numRuns: PACKETS });
    });
    console.log(`${family}: ${PACKETS} packets, ${answers} answers compared`);
    expect(answers).toBeGreaterThan(PACKETS / 5);
  });

  test('ipv4: each host is told in its words that there is no route', async () => {
    await withNamespaces(['fw'], ({ fw }) => {
      const { taps, twin } = openRouter(fw, 'ipv4');
      sentByKernel(taps, 'ipv4');
      let answers = 0;
      for (let host = 100; host < 160; host++) {
        const [shape] = fc.sample(packets('ipv4'), { numRuns: 1, seed: host });
        const destination = addressBytes(UNROUTABLE[host % UNROUTABLE.length]!);
        const bytes = buildPacket({ ...shape!, source: addressBytes(`10.7.0.${host}`), destination });
        taps.get('eth0')!.inject(bytes);
        twin.sent.length = 0;
        twin.stack.receive({ family: 'ipv4', bytes }, 'eth0');
        const expected = sentByKernel(taps, 'ipv4').map(withoutChance);
        answers += expected.length;
        expect(twin.sent.map(withoutChance), Buffer.from(bytes).toString('hex')).toEqual(expected);
      }
      expect(answers).toBeGreaterThan(30);
    });
  });
});
