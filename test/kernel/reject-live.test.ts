/**
 * REJECT at xdp and tcx ingress: byte for byte what the kernel's own REJECT answers to the same packet, or nothing where it
 * answers nothing; and clients are refused at once.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compilePolicy, entryIndex, GENERATIONS_OFFSET } from '../../src/compile/index.ts';
import { netnsTables } from '../../src/host/policy/surroundings.ts';
import { attachTcx, attachXdp, type Link } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { addToSum, foldSum, pseudoHeaderSum } from '../../src/wire/index.ts';
import { buildPacket, type Shape, type Transport } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces, withPair } from '../support/netns.ts';
import { LoadedPolicy } from '../support/policy.ts';
import { CountingProgram } from '../support/program.ts';
import { REFUSALS } from '../support/refusals.ts';
import { PEER_MAC, Tap } from '../support/tap.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const RUNS = SOAK ? 400 : 30;
const PACKETS = 24;
const XDP_PASS = 2;

const MODES = ['xdp native', 'xdp generic', 'tcx'] as const;
type Mode = (typeof MODES)[number];

const OWN = { ipv4: '10.21.0.1', ipv6: 'fd21::1' } as const;
const BEHIND = { ipv4: '10.99.0.7', ipv6: 'fd99::7' } as const;
const SOURCES = {
  ipv4: ['10.21.0.2', '10.21.0.77'],
  ipv6: ['fd21::2', 'fd21::77'],
} as const;
/** Groups, and networks' own addresses, which are all routers' of an IPv6 network. */
const GROUPS = {
  ipv4: ['10.21.0.255', '224.0.0.1', '255.255.255.255'],
  ipv6: ['ff02::1', 'fd21::', 'fd99::'],
} as const;

function rules(kind: string): string {
  const match = kind === 'tcp-reset' ? '-p tcp ' : '';
  return [
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    `-A INPUT -i tap0 ${match}-j REJECT --reject-with ${kind}`,
    `-A FORWARD -i tap0 ${match}-j REJECT --reject-with ${kind}`,
    'COMMIT',
    '',
  ].join('\n');
}

function compile(family: Family, text: string, mode: Mode) {
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'reject', family });
  expect(diagnostics).toEqual([]);
  return compilePolicy([ruleset], { hooks: [mode === 'tcx' ? 'tcx-ingress' : 'xdp'], fragments: 'rules' });
}

/** The policy at a device of the host. */
function enforce(host: Host, device: string, family: Family, text: string, mode: Mode) {
  const loaded = new LoadedPolicy(compile(family, text, mode), {
    addresses: host.run(netnsTables).addresses,
  });
  let link: Link | undefined;
  try {
    loaded.enter(host.cookie, GENERATIONS_OFFSET);
    const place =
      mode === 'tcx' ? ({ flavour: mode, direction: 'ingress' } as const) : ({ flavour: 'xdp' } as const);
    const program = loaded.dispatchers.get(entryIndex(place))!;
    const ifindex = host.device(device).index;
    link = host.run(() =>
      mode === 'tcx'
        ? attachTcx(program, { ifindex, direction: 'ingress' })
        : attachXdp(program, { ifindex, mode: mode === 'xdp native' ? 'native' : 'generic' }),
    );
  } catch (error) {
    loaded.close();
    throw error;
  }
  return {
    [Symbol.dispose](): void {
      link.close();
      loaded.close();
    },
  };
}

const transports: fc.Arbitrary<Transport> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('tcp' as const),
      sourcePort: fc.integer({ min: 1, max: 65535 }),
      destinationPort: fc.integer({ min: 1, max: 65535 }),
      // Mostly without RST, which is never answered by another.
      flags: fc.oneof(fc.constantFrom(0x02, 0x10, 0x12, 0x11, 0x18, 0x01, 0x00), fc.nat(255)),
      options: fc.uint8Array({ maxLength: 12 }).map((bytes) => bytes.fill(1)),
      seq: fc.integer({ min: 0, max: 0xffffffff }),
      ack: fc.integer({ min: 0, max: 0xffffffff }),
      window: fc.nat(65535),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('ports' as const),
      protocol: fc.constant(17),
      sourcePort: fc.integer({ min: 1, max: 65535 }),
      destinationPort: fc.integer({ min: 1, max: 65535 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('icmp' as const),
      type: fc.oneof(fc.constantFrom(0, 3, 4, 5, 8, 11, 12, 13, 18, 19, 1, 2, 128, 129), fc.nat(255)),
      code: fc.nat(3),
      id: fc.nat(65535),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'raw' as const, protocol: 47 }) },
);

function shapes(family: Family): fc.Arbitrary<Shape> {
  return fc.record({
    family: fc.constant(family),
    source: fc.constantFrom(...SOURCES[family]).map(addressBytes),
    destination: fc
      .oneof(
        { weight: 5, arbitrary: fc.constant(OWN[family]) },
        { weight: 3, arbitrary: fc.constant(BEHIND[family]) },
        { weight: 2, arbitrary: fc.constantFrom(...GROUPS[family]) },
      )
      .map(addressBytes),
    tos: fc.nat(255),
    ttl: fc.constantFrom(64, 2, 255),
    id: fc.nat(65535),
    dontFragment: fc.boolean(),
    ipOptions:
      family === 'ipv4'
        ? fc.constantFrom(0, 0, 4, 12).map((n) => new Uint8Array(n).fill(1))
        : fc.constant(new Uint8Array()),
    extensions: fc.constant([]),
    transport: transports,
    payloadBytes: fc.oneof(fc.nat(80), fc.nat(1300)),
    inDevice: fc.constant('tap0'),
    sourceMac: fc.constant(PEER_MAC),
  });
}

/** What the host sends back to one packet: IP packets, less what is chance (identification, flow label). */
function answers(tap: Tap, packet: Uint8Array): string[] {
  tap.drain();
  tap.inject(packet);
  return tap.take().flatMap((frame) => {
    const answer = frame.slice(14);
    const four = frame[12] === 8 && frame[13] === 0;
    const six = frame[12] === 0x86 && frame[13] === 0xdd;
    if (!four && !six) return [];
    // Neighbour discovery and group reports, these behind a hop-by-hop header, are the host's own.
    if (six && answer[6] === 58 && answer[40]! >= 130) return [];
    if (six && answer[6] === 0 && answer[40] === 58) return [];
    expect(answer.length).toBe(four ? (answer[2]! << 8) | answer[3]! : 40 + ((answer[4]! << 8) | answer[5]!));
    checkSums(answer, four);
    if (four) answer.fill(0, 10, 12);
    if (four && answer[9] === 1) answer.fill(0, 4, 6);
    if (six) answer.fill(0, 1, 4);
    // A packet on its way through is quoted as it came in; the kernel has counted its hops down by then.
    const quote = four ? 28 : 48;
    const icmp = four ? answer[9] === 1 : answer[6] === 58;
    if (icmp && four && answer[quote + 16] === 10 && answer[quote + 17] === 99) {
      answer
        .fill(0, 22, 24)
        .fill(0, quote + 8, quote + 9)
        .fill(0, quote + 10, quote + 12);
    }
    if (icmp && six && answer[quote + 25] === 0x99) answer.fill(0, 42, 44).fill(0, quote + 7, quote + 8);
    return [Buffer.from(answer).toString('hex')];
  });
}

function checkSums(answer: Uint8Array, four: boolean): void {
  const start = four ? 20 : 40;
  const protocol = four ? answer[9]! : answer[6]!;
  if (four) expect(foldSum(addToSum(0, answer, 0, 20))).toBe(0xffff);
  const pseudo =
    four && protocol === 1
      ? 0
      : pseudoHeaderSum(
          answer,
          four ? 12 : 8,
          four ? 16 : 24,
          four ? 4 : 16,
          protocol,
          answer.length - start,
        );
  expect(foldSum(addToSum(pseudo, answer, start, answer.length))).toBe(0xffff);
}

describeKernel('REJECT by crafted answers', () => {
  for (const [family, forwarding] of [
    ['ipv4', true],
    ['ipv6', true],
    ['ipv4', false],
    ['ipv6', false],
  ] as const) {
    test(`answers are the kernel's own, ${family}, ${forwarding ? 'forwarding' : 'without forwarding'}`, () =>
      withNamespaces(['h'], ({ h }) => {
        const runs = forwarding ? RUNS : RUNS / 3;
        h.sysctl('net/ipv4/ip_forward', forwarding ? 1 : 0);
        h.sysctl('net/ipv6/conf/all/forwarding', forwarding ? 1 : 0);
        h.sysctl('net/ipv4/icmp_ratelimit', 0);
        h.sysctl('net/ipv4/icmp_ratemask', 0);
        h.sysctl('net/ipv6/icmp/ratelimit', 0);
        const tap = Tap.open(h, 'tap0', `${OWN.ipv4}/24`, `${OWN.ipv6}/64`);
        Tap.open(h, 'tap1', '10.99.0.1/24', 'fd99::1/64');
        const restore = family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
        const open = '*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n';
        let answered = 0;
        let unanswered = 0;
        const property = fc.property(
          fc.constantFrom(...REFUSALS[family], 'tcp-reset'),
          fc.array(shapes(family), { minLength: PACKETS, maxLength: PACKETS }),
          (kind, made) => {
            const packets = made.map(buildPacket);
            const text = rules(kind);
            h.exec(restore, ['-w'], { input: text });
            const expected = packets.map((packet) => answers(tap, packet));
            h.exec(restore, ['-w'], { input: open });
            for (const mode of MODES) {
              using _enforced = enforce(h, 'tap0', family, text, mode);
              for (const [index, packet] of packets.entries()) {
                const sent = Buffer.from(packet).toString('hex');
                const answer = answers(tap, packet);
                expect({ mode, kind, sent, answer }).toEqual({ mode, kind, sent, answer: expected[index] });
              }
            }
            answered += expected.filter(({ length }) => length === 1).length;
            unanswered += expected.filter(({ length }) => length === 0).length;
          },
        );
        fc.assert(property, { numRuns: runs, endOnFailure: true });
        expect(answered).toBeGreaterThan(runs * 4);
        expect(unanswered).toBeGreaterThan(runs);
      }));
  }

  for (const mode of MODES) {
    test(`clients are refused at once at ${mode}, their checksums unfinished`, () =>
      withPair(({ a, b }) => {
        // veth sends frames of XDP_TX only to a device that runs XDP itself.
        const pass = a.keep(new CountingProgram('BPF_PROG_TYPE_XDP', XDP_PASS));
        if (mode === 'xdp native') {
          a.keep(a.run(() => attachXdp(pass.program, { ifindex: a.device('b').index, mode: 'native' })));
        }
        for (const family of ['ipv4', 'ipv6'] as const) {
          const address = b[family];
          const listener = b.listen(0, address);
          for (const kind of [
            'tcp-reset',
            family === 'ipv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable',
          ]) {
            using _enforced = enforce(b, 'a', family, rules(kind).replaceAll('tap0', 'a'), mode);
            const error = errorOf(() => a.connect(address, listener.port, 2000));
            expect({ family, kind, error }).toEqual({ family, kind, error: 'ECONNREFUSED' });
          }
          expect(errorOf(() => a.connect(address, listener.port, 5000))).toBe('connected');
        }
      }));
  }

  test('frames to a group or to another host are dropped without an answer', () =>
    withNamespaces(['h'], ({ h }) => {
      const tap = Tap.open(h, 'tap0', `${OWN.ipv4}/24`);
      const [packet] = fc.sample(shapes('ipv4'), { seed: 1, numRuns: 1 }).map((shape) =>
        buildPacket({
          ...shape,
          destination: addressBytes(OWN.ipv4),
          transport: { kind: 'ports', protocol: 17, sourcePort: 9, destinationPort: 9 },
        }),
      );
      for (const mode of MODES) {
        using _enforced = enforce(h, 'tap0', 'ipv4', rules('icmp-port-unreachable'), mode);
        expect(answers(tap, packet!)).toHaveLength(1);
        for (const destination of ['ffffffffffff', '01005e000001', '020000000555']) {
          tap.drain();
          tap.inject(packet!, { destination: Uint8Array.from(Buffer.from(destination, 'hex')) });
          expect({ mode, destination, frames: tap.take() }).toEqual({ mode, destination, frames: [] });
        }
      }
    }));
});

function errorOf(use: () => unknown): string {
  try {
    use();
    return 'connected';
  } catch (error) {
    return (error as { errnoName?: string }).errnoName ?? String(error);
  }
}
