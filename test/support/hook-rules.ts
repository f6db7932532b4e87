/** Rulesets and packets for the hooks other than netfilter: generated ones, and one for each thing that such a hook does. */
import fc from 'fast-check';
import type { FragmentStrategy } from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { focusedRuleset, focusesOf } from './generate/focused.ts';
import { anyShape, packetsFor } from './generate/packets.ts';
import { generatedRuleset } from './generate/rulesets.ts';
import type { Shape, Transport } from './generate/shape.ts';
import { INTERESTING } from './generate/world.ts';
import type { HookCase } from './hook-cases.ts';
import { REFUSALS } from './refusals.ts';

const SEED = 20180218;
const PACKETS = 99;
const RULESETS = 6;
const STRATEGIES: readonly FragmentStrategy[] = ['rules', 'drop', 'first-only', 'track'];
const FOCUSES = ['mac', 'pkttype', 'length', 'mark', 'addrtype', 'addrtype, going out', 'tcp, ports'];

function sample<T>(arbitrary: fc.Arbitrary<T>, count: number, seed = 0): T[] {
  return fc.sample(arbitrary, { seed: SEED + seed, numRuns: count });
}

type Place = HookCase['place'];

/** Longer than what a record has of it. */
const LONG_LINK = Uint8Array.from({ length: 40 }, (_, index) => 0xa0 + index);

/** All cases of a hook, of both families. */
export function hookCases(place: Place): HookCase[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) => casesOf(place, family));
}

function casesOf(place: Place, family: Family): HookCase[] {
  return [
    ...sample(generatedRuleset({ family, maximumRules: 6 }), RULESETS).map(
      (generated, index): HookCase => ({
        family,
        place,
        text: withoutOthers(generated.text, place),
        shapes: sample(packetsFor(generated), PACKETS, index),
        fragments: STRATEGIES[index % STRATEGIES.length]!,
      }),
    ),
    ...FOCUSES.filter((name) => name !== 'mac' || place.ways !== 'out').map((name) =>
      focused(place, family, name),
    ),
    pieces(place, family, 'track'),
    pieces(place, family, 'drop'),
    pieces(place, family, 'first-only'),
    devices(place, family),
    logged(place, family),
    { ...logged(place, family), link: LONG_LINK },
    ...(place.answered === undefined ? [] : rejected(place, family)),
  ];
}

/** The rules that the hook can run: those of the evaluator's answers, or without them. */
function withoutOthers(text: string, { name, answered }: Place): string {
  const lines =
    answered === undefined ? text.replace(/-j REJECT.*/g, '-j DROP').split('\n') : text.split('\n');
  const unable = name === 'xdp' ? /-m mark|-j MARK/ : /^$/;
  return lines.filter((line) => line === '' || !unable.test(line)).join('\n');
}

function focused(place: Place, family: Family, name: string): HookCase {
  const [ruleset] = sample(focusedRuleset(family, focusesOf(family).get(name)!, 12), 1);
  const text = withoutOthers(toFilter(ruleset!.text, place), place);
  return { family, place, text, shapes: sample(packetsFor(ruleset!), PACKETS) };
}

/** The same conditions in the chains of the filter table that the place runs. */
function toFilter(text: string, { ways }: Place): string {
  const rules = text.split('\n').filter((line) => line.startsWith('-A ') && !line.includes('-j MARK'));
  const chains = ways === 'out' ? ['OUTPUT'] : ways === 'in' ? ['INPUT', 'FORWARD'] : ['INPUT'];
  const all = chains.flatMap((chain) => rules.map((rule) => rule.replace(/^-A \S+/, `-A ${chain}`)));
  return filterTable(all);
}

function filterTable(rules: readonly string[]): string {
  return [
    '*filter',
    ':INPUT ACCEPT [0:0]',
    ':FORWARD ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...rules,
    'COMMIT',
    '',
  ].join('\n');
}

/** Packets of all kinds from and to addresses that mean something. */
export function plainShapes(
  family: Family,
  count: number,
  seed: number,
  transport?: fc.Arbitrary<Transport>,
): Shape[] {
  const shape = fc.record({
    shape: anyShape(family),
    source: fc.constantFrom(...INTERESTING[family]),
    destination: fc.constantFrom(...INTERESTING[family]),
    transport: transport ?? fc.constant(undefined),
  });
  return sample(shape, count, seed).map(({ shape: base, source, destination, transport: own }) => ({
    ...base,
    source,
    destination,
    ...(own === undefined ? {} : { transport: own }),
  }));
}

/** Datagrams in pieces, the pieces in any order, some of them late, some with another datagram's identification. */
function pieces(place: Place, family: Family, fragments: FragmentStrategy): HookCase {
  const rules = ['INPUT', 'FORWARD', 'OUTPUT'].map(
    (chain) => `-A ${chain} -p udp -m udp --dport 1000:2000 -j DROP`,
  );
  const [base] = plainShapes(family, 1, 5);
  const shapes = Array.from({ length: 80 }, (_, index): Shape => {
    const port = index % 3 === 0 ? 1500 : 80;
    return {
      ...base!,
      source: INTERESTING[family][1]!,
      destination: INTERESTING[family][index % 5 === 4 ? 5 : 0]!,
      ipOptions: new Uint8Array(0),
      extensions: [],
      payloadBytes: 16,
      id: [7, 7, 8, 9][index % 4]!,
      transport: {
        kind: 'ports',
        protocol: index % 7 === 6 ? 136 : 17,
        sourcePort: 9,
        destinationPort: port,
      },
      ...(index % 8 === 7
        ? {}
        : { fragment: { offset: [0, 3, 0, 1, 2][index % 5]!, more: index % 5 !== 3, reserved: 0 } }),
    };
  });
  return { family, place, text: filterTable(rules), shapes, fragments };
}

function devices(place: Place, family: Family): HookCase {
  const names = ['eth0', 'eth1', 'eth+', 'lo'];
  const rules = names.flatMap((name) => [
    ...['INPUT', 'FORWARD'].map((chain) => `-A ${chain} -i ${name}`),
    ...['FORWARD', 'OUTPUT'].map((chain) => `-A ${chain} -o ${name}`),
    `-A FORWARD ! -i ${name}`,
    `-A FORWARD ! -o ${name} -p tcp`,
  ]);
  return { family, place, text: filterTable(rules), shapes: plainShapes(family, PACKETS, 1) };
}

function logged(place: Place, family: Family): HookCase {
  const rules = ['INPUT', 'FORWARD', 'OUTPUT'].flatMap((chain) => [
    `-A ${chain} -p udp -j LOG --log-prefix "u: " --log-level 5`,
    `-A ${chain} -p tcp -j LOG --log-prefix "t: " --log-uid`,
    `-A ${chain} -j LOG`,
  ]);
  // Some are longer than what is recorded of them.
  const shapes = plainShapes(family, PACKETS, 2).map((shape, index) =>
    index % 4 === 3 ? { ...shape, payloadBytes: 100 + index * 4 } : shape,
  );
  return { family, place, text: filterTable(rules), shapes };
}

/** Every kind of answer, to packets of every kind. */
function rejected(place: Place, family: Family): HookCase[] {
  const chains = ['INPUT', 'FORWARD'];
  const resets = chains.map((chain) => `-A ${chain} -p tcp -j REJECT --reject-with tcp-reset`);
  const unreachable = (kind: string): string[] =>
    chains.map((chain) => `-A ${chain} -j REJECT --reject-with ${kind}`);
  const flags = fc.oneof(fc.constantFrom(0x02, 0x10, 0x12, 0x11, 0x18, 0x01, 0x00, 0x04), fc.nat(255));
  const tcp = fc.record({
    kind: fc.constant('tcp' as const),
    sourcePort: fc.nat(65535),
    destinationPort: fc.nat(65535),
    flags,
    options: fc.constantFrom(0, 4, 12).map((bytes) => new Uint8Array(bytes).fill(1)),
    seq: fc.integer({ min: 0, max: 0xffffffff }),
    ack: fc.integer({ min: 0, max: 0xffffffff }),
    window: fc.nat(65535),
  });
  const types = family === 'ipv4' ? [0, 3, 4, 5, 8, 11, 12, 13, 18, 19, 30] : [1, 2, 127, 128, 129, 200];
  const icmp = fc.record({
    kind: fc.constant('icmp' as const),
    type: fc.constantFrom(...types),
    code: fc.nat(3),
    id: fc.nat(65535),
  });
  const udp = fc.record({
    kind: fc.constant('ports' as const),
    protocol: fc.constantFrom(17, 136),
    sourcePort: fc.nat(65535),
    destinationPort: fc.nat(65535),
  });
  const anything = fc.oneof(tcp, udp, icmp, fc.constant<Transport>({ kind: 'raw', protocol: 47 }));
  return [
    { family, place, text: filterTable(resets), shapes: answerable(family, 3, tcp) },
    { family, place, text: filterTable(resets), shapes: answerable(family, 3, tcp), forwarding: false },
    ...REFUSALS[family].map(
      (kind, index): HookCase => ({
        family,
        place,
        text: filterTable([...unreachable(kind)]),
        shapes: answerable(family, 4 + index, anything).slice(0, index === 3 ? PACKETS : 20),
      }),
    ),
  ];
}

/** A network's broadcast address; of IPv6 its routers'. */
const NETWORK = 2;
/** Whose first byte, or none of whose words, is like those of addresses that are nobody's. */
const SENDER = {
  ipv4: Uint8Array.of(1, 2, 3, 4),
  ipv6: Uint8Array.from({ length: 16 }, (_, index) => 0x21 + index),
} as const;

/** To this host, through it, to routers and groups; hops enough, no options, which answers do not echo. */
function answerable(family: Family, seed: number, transport: fc.Arbitrary<Transport>): Shape[] {
  return plainShapes(family, PACKETS, seed, transport).map((shape, index) => ({
    ...shape,
    source: index % 12 === 1 ? SENDER[family] : INTERESTING[family][index % 10 === 9 ? 6 : 1]!,
    destination: INTERESTING[family][[0, 0, 5, 0, NETWORK, INTERESTING[family].length - 1][index % 6]!]!,
    ttl: 64,
    ipOptions: new Uint8Array(0),
    extensions: [],
    inDevice: 'eth0',
    payloadBytes: [0, 5, 40, 500, 547, 548, 549, 600, 1231, 1232, 1300][index % 11]!,
  }));
}
