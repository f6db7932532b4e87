/**
 * Cases for rules as tables: rulesets in which a packet fits many rules and chains call each other, chains of more rules than
 * a block has, addresses of more pieces than the small root takes, calls as deep as tables allow.
 */
import { type Family, formatAddressBytes } from '../../src/net/index.ts';
import { anyShape } from './generate/packets.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import type { HookCase } from './hook-cases.ts';
import { plainShapes } from './hook-rules.ts';
import type { CasePacket, MachineCase } from './machine-cases.ts';
import { longChainCase, sample } from './mistake-cases.ts';
import { overlappingRules } from './overlapping.ts';

const SEED = 20180220;
const PACKETS = 60;
/** Jumps that can be under way. */
const DEEPEST = 16;
/** Rules: a few more than a block has. */
const LONG = 4200;

/** All cases of a family. */
export function tableCases(family: Family): MachineCase[] {
  return [
    ...[40, 100].map((size) => overlappingCase(family, size)),
    deepCase(family),
    pairsCase(family),
    devicesCase(family),
    ...(family === 'ipv4' ? [longCase(), stateCase()] : [lostProtocolCase(), deepAddressCase()]),
  ];
}

/** Several tables at one hook, whose chains come one after the other; none of them answers, which tables do not. */
export function hookTableCases(place: HookCase['place']): HookCase[] {
  const rules = (chain: string): string[] =>
    ['-p tcp', '-p udp -m udp --dport 53', '! -p tcp', '-i eth0'].map((one) => `-A ${chain} ${one}`);
  const chains = {
    raw: ['PREROUTING'],
    mangle: ['PREROUTING', 'INPUT', 'FORWARD'],
    filter: ['INPUT', 'FORWARD'],
  };
  const text = Object.entries(chains)
    .flatMap(([table, own]) => [
      `*${table}`,
      ...own.map((chain) => `:${chain} ACCEPT [0:0]`),
      ...own.flatMap(rules),
      'COMMIT',
      '',
    ])
    .join('\n');
  return (['ipv4', 'ipv6'] as const).map((family) => ({
    family,
    place,
    text,
    shapes: plainShapes(family, PACKETS, SEED),
    strategy: 'classifier',
  }));
}

/** Each rule asks for everything, so that each value of each field is one rule's alone. */
function pairsCase(family: Family): MachineCase {
  const address = (at: number): Uint8Array =>
    family === 'ipv4'
      ? Uint8Array.of(10, at, 3 * at, 7)
      : Uint8Array.of(0xfd, at, 3 * at, 7, ...new Uint8Array(11), at);
  const numbers = Array.from({ length: 130 }, (_, at) => at + 1);
  const rules = numbers.map(
    (at) =>
      `-A INPUT -s ${formatAddressBytes(address(at))} -d ${formatAddressBytes(address(at + 50))} -p udp -m udp --dport ${at}`,
  );
  const [base] = shapesWithoutOptions(family, 1);
  const packets = numbers.flatMap((at) =>
    [0, 0, 1].map((off, index) =>
      packet(
        buildPacket({
          ...base!,
          source: address(at),
          destination: address(at + 50 + (index === 1 ? 1 : 0)),
          transport: { kind: 'ports', protocol: 17, sourcePort: 1, destinationPort: at + off },
        }),
      ),
    ),
  );
  return { family, group: 'filter', hook: 1, text: filterText([], rules), packets };
}

/** Names of devices that begin alike, up to the longest that there are. */
function devicesCase(family: Family): MachineCase {
  const names = ['e', 'eth0', 'eth01', 'eth0123', 'eth01234', 'eth0123456', 'eth01234567', 'eth012345678901'];
  const rules = names.flatMap((name) => [
    `-A INPUT -i ${name}`,
    `-A INPUT -i ${name.slice(0, 14)}+ -m ttl --ttl-gt 9`,
  ]);
  const text = filterText(
    [],
    family === 'ipv4' ? rules : rules.map((rule) => rule.replace('ttl --ttl', 'hl --hl')),
  );
  const [shape] = shapesWithoutOptions(family, 1);
  const bytes = buildPacket({ ...shape!, ttl: 64 });
  const packets = [...names, 'eth1', 'eth0x', 'eth01x', 'lo'].map((inDevice) => ({
    ...packet(bytes),
    inDevice,
  }));
  return { family, group: 'filter', hook: 1, text, packets };
}

/** Words that rules keep, one beside the other. */
function stateCase(): MachineCase {
  const rules = ['-m limit --limit 1/hour --limit-burst 3', '-m statistic --mode nth --every 3 --packet 1'];
  const text = filterText(
    [],
    [...rules, ...rules.toReversed(), ...rules].map((rule) => `-A INPUT ${rule}`),
  );
  const [shape] = shapesWithoutOptions('ipv4', 1);
  const bytes = buildPacket(shape!);
  const packets = Array.from({ length: 40 }, (_, at) => ({
    ...packet(bytes),
    waitMs: at % 7 === 6 ? 500_000 : 3,
  }));
  return { family: 'ipv4', group: 'filter', hook: 1, text, packets };
}

/** Many addresses of one network, which differ in the lower half only. */
function deepAddressCase(): MachineCase {
  const address = (at: number): Uint8Array =>
    Uint8Array.of(
      0x20,
      1,
      0xd,
      0xb8,
      ...new Uint8Array(4),
      at % 3,
      7,
      at % 5,
      (at * 5) & 255,
      9,
      at & 255,
      1,
      (at * 3) & 255,
    );
  const numbers = Array.from({ length: 300 }, (_, at) => at);
  const rules = numbers.map(
    (at) => `-A INPUT -s ${formatAddressBytes(address(at))}/${at % 9 === 8 ? 113 : 128}`,
  );
  const [base] = shapesWithoutOptions('ipv6', 1);
  // Those that rules ask for, and their neighbours.
  const packets = numbers.flatMap((at) =>
    at % 4 > 0
      ? []
      : [0, 1, -1].map((off) => {
          const source = address(at);
          source[15] = (source[15]! + off) & 255;
          return packet(buildPacket({ ...base!, source, destination: address(at + 1) }));
        }),
  );
  return { family: 'ipv6', group: 'filter', hook: 1, text: filterText([], rules), packets };
}

/** IPv6 packets whose extension chain has no end, and rules that ask for the protocol before anything else. */
function lostProtocolCase(): MachineCase {
  const protocols = ['tcp', 'udp', '! tcp', 'esp', 'ipv6-icmp', '! udp', '47', '0', '60', '43'];
  const rules = protocols.map((one) => `-A PREROUTING ${one.replace(/^(! )?/, '$1-p ')}`);
  const mac = '-A PREROUTING -m mac --mac-source 02:00:00:00:00:77';
  const text = ['*raw', ':PREROUTING ACCEPT [0:0]', mac, ...rules, 'COMMIT', ''].join('\n');
  return { ...longChainCase(), text };
}

function packet(bytes: Uint8Array): CasePacket {
  return { bytes, inDevice: 'eth0', outDevice: 'eth1', mark: 0, packetType: 0, waitMs: 0 };
}

function overlappingCase(family: Family, size: number): MachineCase {
  const { text, packets } = overlappingRules(size, family, SEED + size * 3, PACKETS);
  return { family, group: 'filter', hook: 1, text, packets: packets.map(packet) };
}

function filterText(chains: readonly string[], rules: readonly string[]): string {
  return [
    '*filter',
    ':INPUT DROP [0:0]',
    ...chains.map((chain) => `:${chain} - [0:0]`),
    ...rules,
    'COMMIT',
    '',
  ].join('\n');
}

/** Chains that call each other as deep as may be, each with rules behind the call; a packet leaves each in a way of its own. */
function deepCase(family: Family): MachineCase {
  const chains = Array.from({ length: DEEPEST - 1 }, (_, at) => `c${at}`);
  const rules = chains.flatMap((chain, at) => [
    `-A ${at === 0 ? 'INPUT' : chains[at - 1]} -j ${chain}`,
    `-A ${chain} -p udp`,
    ...(at % 3 === 0 ? [`-A ${chain} -p tcp -j RETURN`] : []),
  ]);
  const behind = chains.flatMap((chain, at) => [
    `-A ${chain} -p tcp`,
    ...(at % 4 === 3 ? [`-A ${chain} -p udp -g end`] : []),
    `-A ${chain} ! -p udp`,
  ]);
  const text = filterText(
    ['end', ...chains],
    ['-A end -p udp', ...rules, ...behind, '-A INPUT -p tcp -j ACCEPT'],
  );
  return {
    family,
    group: 'filter',
    hook: 1,
    text,
    packets: shapesWithoutOptions(family, 20).map((shape) => packet(buildPacket(shape))),
  };
}

function shapesWithoutOptions(family: Family, count: number): Shape[] {
  return sample(anyShape(family), count).map((shape) => ({
    ...shape,
    ipOptions: new Uint8Array(0),
    extensions: [],
  }));
}

/** Sources of one rule each, but for a few networks around them all; now and then a destination; a call from the second block, to return to. */
function longCase(): MachineCase {
  const address = (at: number): string => `10.${at >> 8}.${at & 255}.${(at * 7) & 255}`;
  const rules = Array.from({ length: LONG }, (_, at) => {
    if (at % 1400 === 1399) return `-A INPUT -s 10.0.0.0/${8 + (at % 7)}`;
    if (at === LONG - 60) return '-A INPUT -j behind';
    return at % 1050 === 64 ? `-A INPUT -d ${address(at)}` : `-A INPUT -s ${address(at)}`;
  });
  const [base] = shapesWithoutOptions('ipv4', 1);
  const bytesOf = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number));
  const places = [0, 3, 63, 64, 65, 2047, 4030, 4031, 4095, 4096, 4097, 4100, 4159, 4160, LONG - 1, LONG];
  const packets = places.flatMap((at) =>
    [at, at ^ 1, at - 1].map((other) =>
      packet(
        buildPacket({
          ...base!,
          source: bytesOf(address(Math.max(0, at))),
          destination: bytesOf(address(Math.max(0, other))),
        }),
      ),
    ),
  );
  return {
    family: 'ipv4',
    group: 'filter',
    hook: 1,
    text: filterText(['behind'], [...rules, '-A behind ! -p tcp']),
    packets,
  };
}
