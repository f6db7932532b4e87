/** `run --engine kernel` with real packets in a namespace of its own: rules about devices, connections, marks, addresses. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Decision,
  EvaluationEngine,
  kernelEngine,
  NetstackEngine,
  PacketHopsError,
  parseHostConfig,
  type ReplayOptions,
  type ReplayPacket,
  type Vantage,
} from '../../src/host/index.ts';
import { HOOK_CHAINS } from '../../src/ir/index.ts';
import { type Family, formatAddress, formatPrefix, type Prefix } from '../../src/net/index.ts';
import { PacketType } from '../../src/netstack/index.ts';
import { parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { sluice } from '../support/cli.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket, type Shape } from '../support/generate/shape.ts';
import { ADDRESSES, prefix } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { disagreements, engineFor, walkOptions, walkPackets } from '../support/replays.ts';
import { sharedDataFiles } from '../support/shared-data.ts';
import { parseWalkRules, readWalk } from '../support/walks.ts';
import { xorshift } from '../support/xorshift.ts';

const RULESETS = process.env.SLUICE_SOAK === '1' ? 500 : 10;
const PACKETS = 60;
const WALKS = process.env.SLUICE_SOAK === '1' ? Number.MAX_SAFE_INTEGER : 40;
const CAPTURE = fileURLToPath(new URL('../../examples/edge.pcapng', import.meta.url));
/** What real packets in a namespace do not have; refused, which is tested below. */
const BEYOND = / (--limit|--mode random|--chunk-types|--limit-iface|--ctexpire)/;
/** What sends rules to a namespace: a test run would do for others. */
const NEEDS_PACKETS = / (-i|-o|--mac-source|--pkt-type|--mark|-m conntrack|-m state) /;

/** A shape as captured at an Ethernet device, or, sent by this host, in a cooked capture. */
function packetOf(shape: Shape, index: number, own: ReadonlySet<string>): ReplayPacket {
  const bytes = buildPacket(shape);
  const sent = own.has(String(shape.source));
  const ethernet = new Uint8Array(14);
  if (shape.destinationMac !== undefined) ethernet.set(shape.destinationMac);
  ethernet.set(shape.sourceMac, 6);
  ethernet.set(shape.family === 'ipv4' ? [8, 0] : [0x86, 0xdd], 12);
  return {
    number: index + 1,
    timeMs: index,
    linkType: 1,
    device: shape.inDevice,
    frame: bytes,
    ip: { family: shape.family, bytes, cut: false },
    packetType: sent ? PacketType.OUTGOING : packetTypeOf(shape.destinationMac),
    ethernet,
    tagged: false,
  };
}

function packetTypeOf(destination: Uint8Array | undefined): number {
  if (destination === undefined || (destination[0]! & 1) === 0) return PacketType.HOST;
  return destination.every((byte) => byte === 0xff) ? PacketType.BROADCAST : PacketType.MULTICAST;
}

type IpPacket = { readonly family: Family; readonly bytes: Uint8Array };

function destinationOf({ family, bytes }: IpPacket): Uint8Array {
  return family === 'ipv4' ? bytes.subarray(16, 20) : bytes.subarray(24, 40);
}

function isOwn(address: Uint8Array): boolean {
  return OWN.ipv4.some(({ address: { bytes } }) => bytes.every((byte, at) => byte === address[at]));
}

function sourceOf({ family, bytes }: IpPacket): Uint8Array {
  return family === 'ipv4' ? bytes.subarray(12, 16) : bytes.subarray(8, 24);
}

/** From one machine to one other, by addresses that any router hands on. */
function isOrdinary(ip: IpPacket): boolean {
  return [sourceOf(ip), destinationOf(ip)].every((address) =>
    ip.family === 'ipv6'
      ? address[0] !== 0xff && address[0] !== 0xfe && address[0] !== 0
      : address[0]! < 224 && address[0] !== 127 && address[0] !== 0,
  );
}

/** What the reference takes and no kernel does: "nothing is a martian" there. */
function isMartian({ family, source, destination }: Shape): boolean {
  return family === 'ipv4' && (source[0]! >= 224 || source[0] === 0 || destination[0] === 0);
}

const OWN: Readonly<Record<Family, readonly Prefix[]>> = {
  ipv4: ADDRESSES.ipv4.map(({ address }) => prefix(address.split('/')[0]!)),
  ipv6: ADDRESSES.ipv6.map(({ address }) => prefix(address.split('/')[0]!)),
};
const ELSEWHERE: Readonly<Record<Family, Prefix>> = {
  ipv4: prefix('198.51.100.0/24'),
  ipv6: prefix('2001:db8::/32'),
};

interface Case {
  readonly ruleset: Ruleset;
  readonly packets: readonly ReplayPacket[];
  /** What a failure shows of it. */
  readonly [fc.toStringMethod]: () => string;
}

function cases(family: Family): fc.Arbitrary<Case> {
  const own = new Set(OWN[family].map(({ address }) => String(address.bytes)));
  return generatedRuleset({ family, maximumRules: 8, stateful: true })
    .filter(({ text }) => !BEYOND.test(text) && NEEDS_PACKETS.test(text))
    .chain((generated) =>
      fc
        .array(
          packetsFor(generated, { fragments: true }).filter((shape) => !isMartian(shape)),
          { minLength: PACKETS, maxLength: PACKETS },
        )
        .map((shapes) => ({
          // Generated rulesets silence the host by its raw OUTPUT chain; here nothing that it says is seen anyway.
          ruleset: parseRuleset(generated.text.replace(':OUTPUT DROP', ':OUTPUT ACCEPT'), {
            file: 'generated',
            family,
          }).ruleset,
          packets: shapes.map((shape, index) => packetOf(shape, index, own)),
          [fc.toStringMethod]: () => generated.text,
        })),
    );
}

function optionsFor(ruleset: Ruleset, vantage: Vantage): ReplayOptions {
  return {
    rulesets: [ruleset],
    vantage,
    routes: [{ prefix: ELSEWHERE[ruleset.family], device: 'wan' }],
    verifyChecksums: true,
    random32: xorshift(7),
  };
}

/** Without IPv4 options: the kernel looks into them on the way to later hooks. */
function hasPlainHeader({ ip }: ReplayPacket): boolean {
  return ip!.family === 'ipv6' || ip!.bytes[0] === 0x45;
}

function hexOf({ ip }: ReplayPacket): string {
  return Buffer.from(ip!.bytes).toString('hex');
}

/** Where another engine's words for a packet are not those of the reference. */
function rulesOf({ verdict, by, table, chain, rule, matched }: Decision): unknown {
  return by === 'stack' ? { by, matched } : { verdict, by, table, chain, rule, matched };
}

/** Runs the packets through both; how many there were, or 0 where the rules are refused. */
async function compare(
  { ruleset, packets }: Omit<Case, typeof fc.toStringMethod>,
  vantage: Vantage,
): Promise<number> {
  const options = optionsFor(ruleset, vantage);
  const kernel = engineFor(() => kernelEngine(options));
  if (kernel === undefined) return 0;
  try {
    const reference = new EvaluationEngine(options);
    const found = await disagreements(reference, kernel, packets);
    expect(
      found.map((one) => ({ ...one, hex: hexOf(packets.find(({ number }) => number === one.packet)!) })),
    ).toEqual([]);
    expect(await kernel.counters()).toEqual(reference.counters());
    return packets.length;
  } finally {
    await kernel.close();
  }
}

describeKernel('run --engine kernel, real packets', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`generated rulesets, ${family}: every decision and every counter`, async () => {
      let compared = 0;
      const property = fc.asyncProperty(cases(family), async (one) => {
        compared += await compare(one, { kind: 'host', local: OWN[family] });
      });
      await fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
      console.log(`${family}: ${compared} packets compared`);
      expect(compared).toBeGreaterThan(RULESETS * 5);
    });
  }

  test('one hook alone, whichever it is', async () => {
    let compared = 0;
    const property = fc.asyncProperty(
      fc.constantFrom(...HOOK_CHAINS),
      fc.oneof(cases('ipv4'), cases('ipv6')),
      async (chain, { ruleset, packets }) => {
        const options = optionsFor(ruleset, { kind: 'chain', chain });
        // The reference lets no hook see what a device would not have let in; a process may send it.
        const sound = packets.filter((packet) => new EvaluationEngine(options).decide(packet).by !== 'stack');
        const known = chain === 'PREROUTING' || chain === 'OUTPUT' ? sound : sound.filter(hasPlainHeader);
        // The kernel takes one hop off before FORWARD; groups and what came to many stay.
        const forwardable = known.filter(({ ip, packetType }) => {
          const hops = ip!.bytes[ip!.family === 'ipv4' ? 8 : 7]!;
          return hops > 0 && hops < 255 && packetType === PacketType.HOST && isOrdinary(ip!);
        });
        const chosen = chain === 'FORWARD' || chain === 'POSTROUTING' ? forwardable : known;
        compared += await compare({ ruleset, packets: chosen }, { kind: 'chain', chain });
      },
    );
    await fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
    expect(compared).toBeGreaterThan(RULESETS * 5);
  });

  test('three engines on one host: the rules alone, the whole stack, the kernel', async () => {
    let compared = 0;
    const property = fc.asyncProperty(cases('ipv4'), async ({ ruleset, packets }) => {
      const options = {
        ...optionsFor(ruleset, { kind: 'host', local: OWN.ipv4 }),
        inDevice: 'eth0',
        verifyChecksums: true,
      };
      const host = parseHostConfig(
        JSON.stringify({
          devices: [
            { name: 'eth0', mtu: 65_521, addresses: OWN.ipv4.map(({ address }) => formatAddress(address)) },
            { name: 'wan', mtu: 65_521, addresses: [] },
          ],
          routes: [
            { to: formatPrefix(ELSEWHERE.ipv4), dev: 'wan' },
            { to: 'default', dev: 'eth0' },
          ],
          sysctls: { 'net.ipv4.ip_forward': 1, 'net.ipv4.conf.all.rp_filter': 0 },
        }),
      );
      const kernel = engineFor(() => kernelEngine(options));
      if (kernel === undefined) return;
      try {
        const stack = new NetstackEngine({ ...options, host });
        const reference = new EvaluationEngine(options);
        // Of special addresses, and of what this host sends to itself, the reference knows less.
        const plain = packets.filter(
          ({ ip, packetType }) =>
            isOrdinary(ip!) && (packetType !== PacketType.OUTGOING || !isOwn(destinationOf(ip!))),
        );
        for (const packet of plain) {
          const expected = rulesOf(reference.decide(packet));
          expect(rulesOf(await kernel.decide(packet)), `kernel ${hexOf(packet)}`).toEqual(expected);
          expect(rulesOf(stack.decide(packet)), `netstack ${hexOf(packet)}`).toEqual(expected);
        }
        compared += plain.length;
        stack.close();
      } finally {
        await kernel.close();
      }
    });
    await fc.assert(property, { numRuns: RULESETS / 2, endOnFailure: true });
    expect(compared).toBeGreaterThan(RULESETS);
  });

  test('recorded packets through real rulesets that test runs cannot tell', async () => {
    let compared = 0;
    const found: unknown[] = [];
    for (const file of sharedDataFiles('kernel-walks').slice(0, WALKS)) {
      const walk = readWalk(file);
      const ruleset = parseWalkRules(file, walk.canonical);
      const options = walkOptions(walk, ruleset);
      const reference = engineFor(() => new EvaluationEngine(options));
      const kernel = reference === undefined ? undefined : engineFor(() => kernelEngine(options));
      if (reference === undefined || kernel === undefined) continue;
      try {
        const packets = walkPackets(walk, ruleset);
        for (const one of await disagreements(reference, kernel, packets)) found.push({ file, ...one });
        expect(await kernel.counters()).toEqual(reference.counters());
        compared += packets.length;
      } finally {
        await kernel.close();
      }
    }
    console.log(`${compared} recorded packets compared`);
    expect(found).toEqual([]);
  });

  test('prints what the reference prints, and says nothing of its own answers', async () => {
    const stdin =
      '*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j MARK --set-mark 7\nCOMMIT\n' +
      '*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:web - [0:0]\n-A INPUT -i lan0 -j DROP\n' +
      '-A INPUT -m mark --mark 7 -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -i eth+ -j web\n' +
      '-A INPUT -p tcp -j REJECT --reject-with tcp-reset\n-A INPUT -p udp -j REJECT\n-A INPUT -p icmp -j LOG\n' +
      '-A web -m statistic --mode nth --every 2 --packet 0 -j ACCEPT\n-A OUTPUT -p icmp -j DROP\nCOMMIT\n';
    for (const more of [[], ['--local', '192.0.2.0/24'], ['--in', 'eth7'], ['--in', 'lo']]) {
      const words = ['run', '-4', '-', '--pcap', CAPTURE, '--json', ...more];
      const reference = await sluice(words, { stdin });
      expect(await sluice([...words, '--engine', 'kernel'], { stdin }), more.join(' ')).toEqual(reference);
      expect(reference.stdout).toContain('"web"');
    }
  });

  test('refuses what no packet in a namespace can tell, and rules that translate', async () => {
    const stdin =
      '*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j ACCEPT\nCOMMIT\n' +
      '*filter\n:INPUT DROP [0:0]\n-A INPUT -i eth0 -j ACCEPT\n-A INPUT -m limit --limit 3/s -j ACCEPT\nCOMMIT\n';
    const words = ['run', '-4', '-', '--pcap', CAPTURE, '--engine', 'kernel'];
    const { code, stdout, stderr } = await sluice(words, { stdin });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain('3:1: error: nat table: programs do not translate');
    expect(stderr).toContain("time: the kernel's clock does not follow the capture");
    expect(stderr).not.toContain('input device');
  });

  test('a packet that FORWARD could not see as it is', async () => {
    const { ruleset } = parseRuleset('*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i eth0 -j ACCEPT\nCOMMIT\n', {
      file: 'rules',
      family: 'ipv4',
    });
    const engine = kernelEngine(optionsFor(ruleset, { kind: 'chain', chain: 'FORWARD' }));
    const bytes = Uint8Array.from(
      Buffer.from('4500001c00000000ff11b6cac0000201c00002020000000000080000', 'hex'),
    );
    const packet = (ttl: number): ReplayPacket => {
      const ip = { family: 'ipv4', bytes: bytes.with(8, ttl), cut: false } as const;
      return { number: 1, timeMs: 0, linkType: 101, frame: bytes, ip, packetType: 0, tagged: false };
    };
    try {
      expect(() => engine.decide(packet(255))).toThrow(PacketHopsError);
    } finally {
      await engine.close();
    }
  });

  test('says which privilege is missing', async () => {
    const stdin = '*filter\n:INPUT DROP [0:0]\n-A INPUT -i eth0 -j ACCEPT\nCOMMIT\n';
    const words = ['run', '-4', '-', '--pcap', CAPTURE, '--engine', 'kernel'];
    process.seteuid?.(65_534);
    try {
      const { code, stdout, stderr } = await sluice(words, { stdin });
      expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
      expect(stderr).toContain('hint: ');
    } finally {
      process.seteuid?.(0);
    }
  });
});
