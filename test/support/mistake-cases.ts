/**
 * Cases that seeded mistakes are shown to: rules about one extension at a time and packets at their edges, packets that are cut
 * short at every byte, clocks and draws at the edge, connections of every kind.
 */
import fc from 'fast-check';
import { MAX_EXTENSION_HEADERS } from '../../src/compile/prologue/ipv6.ts';
import { type Family, parsePrefix } from '../../src/net/index.ts';
import { aimAt } from './generate/aim.ts';
import { conversation } from './generate/conversations.ts';
import { connectionRuleset, focusedRuleset, focusesOf } from './generate/focused.ts';
import { anyShape, packetsFor } from './generate/packets.ts';
import { ports, SCTP, TCP } from './generate/protocol-pieces.ts';
import type { GeneratedRuleset } from './generate/rulesets.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import {
  CASE_SEED,
  type CasePacket,
  compilable,
  ethernetOf,
  type MachineCase,
  machineCases,
} from './machine-cases.ts';
import { xorshift } from './xorshift.ts';

const SEED = 20180217;
const RULES = 20;
const REJECTS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['icmp-net-unreachable', 'icmp-port-unreachable', 'icmp-admin-prohibited'],
  ipv6: ['icmp6-no-route', 'icmp6-adm-prohibited', 'icmp6-port-unreachable'],
};
const FOCUSED_PACKETS = 80;
const GENERATED_RULESETS = 4;
const GENERATED_PACKETS = 40;
/** Bytes behind the fixed IP header at which packets end, and how many packets of each ruleset do. */
const LONGEST_CUT = 44;
const CUT_AIMS = 3;

export function sample<T>(arbitrary: fc.Arbitrary<T>, count: number): T[] {
  return fc.sample(arbitrary, { seed: SEED, numRuns: count });
}

function packet(shape: Shape, index: number): CasePacket {
  return {
    bytes: buildPacket(shape),
    inDevice: shape.inDevice,
    outDevice: index % 2 === 0 ? 'eth1' : 'eth0',
    mark: [0, 1, 0xffffffff][index % 3]!,
    packetType: shape.destinationMac === undefined ? 0 : shape.destinationMac[0] === 0xff ? 1 : 2,
    ethernet: index % 7 === 6 ? undefined : ethernetOf(shape),
    linearBytes: [undefined, undefined, 0, 20, 41][index % 5],
    waitMs: 0,
  };
}

export type Place = Pick<MachineCase, 'group' | 'hook'>;

/** The text without what no program does, and the packets of the shapes with all that can surround them. */
export function caseOf(
  { family, text }: Pick<GeneratedRuleset, 'family' | 'text'>,
  place: Place,
  shapes: readonly Shape[],
): MachineCase {
  return { family, ...place, text: compilable(text), packets: shapes.map(packet) };
}

/** Twenty rules about one extension, twice, and packets at their edges. */
export function focusedCases(family: Family): MachineCase[] {
  return [...focusesOf(family).values()].flatMap((focus) =>
    sample(focusedRuleset(family, focus, RULES), 2).map((ruleset) => {
      const place: Place =
        focus.place === undefined
          ? { group: 'raw', hook: 0 }
          : focus.place === 'mangle'
            ? { group: 'mangle', hook: 0 }
            : { group: 'filter', hook: 2 };
      return caseOf(ruleset, place, sample(packetsFor(ruleset), FOCUSED_PACKETS));
    }),
  );
}

/** All cases of a family. */
export function mistakeCases(family: Family): MachineCase[] {
  return [
    ...focusedCases(family),
    ...truncatedCases(family),
    ...headerCases(family),
    ...(family === 'ipv6' ? [longChainCase()] : []),
    ...connectionCases(family),
    icmpCase(family),
    addressKindCase(family),
    ...effectCases(family),
    ...sample(machineCases(family, GENERATED_PACKETS), GENERATED_RULESETS).flat(),
  ];
}

/** Rules that log, mark or refuse, and those whose outcome hangs on time, chance or connections. */
export function effectCases(family: Family): readonly MachineCase[] {
  return [
    logCase(family),
    limitCase(family),
    lastCreditCase(family),
    drawCase(family),
    markCase(family),
    rejectCase(family),
    stateCase(family),
  ];
}

/** Buckets and counters of packets, on a clock that moves. */
function limitCase(family: Family): MachineCase {
  const limits = [
    '1/sec --limit-burst 1',
    '60/min --limit-burst 2',
    '3/sec --limit-burst 5',
    '1/hour --limit-burst 4',
  ];
  const lines = [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ...limits.map((limit) => `-A PREROUTING -m limit --limit ${limit}`),
    '-A PREROUTING -m statistic --mode random --probability 0.3',
    '-A PREROUTING -m statistic --mode random ! --probability 0.7',
    'COMMIT',
    '',
  ];
  const [ruleset] = sample(focusedRuleset(family, focusesOf(family).get('length')!, 1), 1);
  const shapes = sample(packetsFor(ruleset!), FOCUSED_PACKETS);
  const given = caseOf({ family, text: lines.join('\n') }, { group: 'raw', hook: 0 }, shapes);
  const waits = [0, 0, 0, 972, 200, 400, 1000, 0, 0, 5000, 0, 996, 0, 90_000];
  return {
    ...given,
    packets: given.packets.map((one, index) => ({ ...one, waitMs: waits[index % waits.length]! })),
  };
}

/** A bucket that lacks one credit in the end: one more at its fullest would be enough. */
function lastCreditCase(family: Family): MachineCase {
  const text =
    '*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m limit --limit 13/sec --limit-burst 34\nCOMMIT\n';
  // A packet costs 2460; 34 of them leave 27 of a full bucket, and 76 ms bring 2432.
  const waits = [0, 90_000, ...Array.from({ length: 33 }, () => 0), 76];
  const [base] = sample(anyShape(family), 1);
  const shapes = waits.map(
    (): Shape => ({
      ...base!,
      extensions: [],
      ipOptions: new Uint8Array(0),
      transport: { kind: 'raw', protocol: 47 },
    }),
  );
  const given = caseOf({ family, text }, { group: 'raw', hook: 0 }, shapes);
  return { ...given, packets: given.packets.map((one, index) => ({ ...one, waitMs: waits[index]! })) };
}

/** Draws at the edge: each probability is just what is drawn for it, which does not fit, or the least that does. */
function drawCase(family: Family): MachineCase {
  const random = xorshift(CASE_SEED);
  const draws = Array.from({ length: 8 }, () => (random() & 0x7fffffff) >>> 0);
  const rules = draws.map(
    (draw, index) =>
      `-A PREROUTING -m statistic --mode random --probability ${((draw + (index % 2)) / 2 ** 31).toFixed(11)}`,
  );
  const text = ['*raw', ':PREROUTING ACCEPT [0:0]', ...rules, 'COMMIT', ''].join('\n');
  return caseOf({ family, text }, { group: 'raw', hook: 0 }, sample(anyShape(family), 1));
}

/** Marks that become others whole, and in some bits, from marks that have other bits. */
function markCase(family: Family): MachineCase {
  const rules = [
    '-p tcp -j MARK --set-mark 0x4',
    '-p udp -j MARK --xor-mark 0x1',
    '! -p tcp -j MARK --or-mark 0x2',
    '-m mark --mark 0x4 -j MARK --xor-mark 0x1',
  ];
  const chains = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
  const text = [
    '*mangle',
    ...chains.map((chain) => `:${chain} ACCEPT [0:0]`),
    ...rules.map((rule) => `-A PREROUTING ${rule}`),
    'COMMIT',
    '',
  ].join('\n');
  const given = caseOf({ family, text }, { group: 'mangle', hook: 0 }, sample(anyShape(family), 40));
  const marks = [0, 1, 2, 4, 8, 0x80000001, 0xffffffff];
  return {
    ...given,
    packets: given.packets.map((one, index) => ({ ...one, mark: marks[index % marks.length]! })),
  };
}

/** Every kind of REJECT. */
function rejectCase(family: Family): MachineCase {
  const rules = REJECTS[family].map(
    (kind, index) => `-A FORWARD -m length --length ${60 + index} -j REJECT --reject-with ${kind}`,
  );
  const text = ['*filter', ':FORWARD ACCEPT [0:0]', ...rules, 'COMMIT', ''].join('\n');
  const [base] = sample(anyShape(family), 1);
  const shapes = REJECTS[family].map((_, index) =>
    aimAt(
      { ...base!, extensions: [], ipOptions: new Uint8Array(0), transport: { kind: 'raw', protocol: 47 } },
      { totalLength: 60 + index },
    ),
  );
  return caseOf({ family, text }, { group: 'filter', hook: 2 }, shapes);
}

/** Every state, status and direction, of packets that belong together. */
function stateCase(family: Family): MachineCase {
  const conditions = [
    ...['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'NEW,ESTABLISHED'].map((state) => `--ctstate ${state}`),
    ...['NONE', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'EXPECTED'].map((status) => `--ctstatus ${status}`),
    '--ctdir ORIGINAL',
    '--ctdir REPLY',
    '! --ctstate ESTABLISHED',
  ];
  const text = [
    '*filter',
    ':FORWARD DROP [0:0]',
    ...conditions.map((condition) => `-A FORWARD -m conntrack ${condition}`),
    'COMMIT',
    '',
  ].join('\n');
  const shapes = sample(conversation(family), 12).flat();
  return caseOf({ family, text }, { group: 'filter', hook: 2 }, shapes);
}

/** The same rules, and packets of theirs that end at every byte. */
export function truncatedCases(family: Family): MachineCase[] {
  return [...focusesOf(family)].flatMap(([name, focus]) => {
    if (focus.protocol === undefined && name !== 'ah' && name !== 'frag') return [];
    const [ruleset] = sample(focusedRuleset(family, focus, RULES), 1);
    const cuts = Array.from({ length: LONGEST_CUT + 1 }, (_, cutAt) => cutAt);
    const aimed = ruleset!.rules.flatMap(({ aims }) => aims.flat()).slice(0, CUT_AIMS);
    const [base] = sample(anyShape(family), 1);
    const whole: Shape = { ...base!, ipOptions: new Uint8Array(0), extensions: [], payloadBytes: 4 };
    const shapes = aimed.flatMap((aim) => cuts.map((cutAt) => ({ ...aimAt(whole, aim), cutAt })));
    return [caseOf(ruleset!, { group: 'raw', hook: 0 }, shapes)];
  });
}

/** Extension chains up to the length that programs follow, later fragments of extension headers, headers cut short. */
export function longChainCase(): MachineCase {
  const family = 'ipv6';
  const [base] = sample(anyShape(family), 1);
  const ports = { sourcePort: 1, destinationPort: 2 };
  const tcp = aimAt({ ...base!, extensions: [], payloadBytes: 0, transport: TCP }, ports);
  const lengths = [0, 1, MAX_EXTENSION_HEADERS - 1, MAX_EXTENSION_HEADERS];
  const shapes: Shape[] = lengths.map((length) => ({
    ...tcp,
    extensions: Array.from({ length }, () => ({ kind: 'destination', words: 0 })),
  }));
  for (const kind of ['routing', 'destination', 'hop-by-hop'] as const) {
    for (let cutAt = 0; cutAt < 40; cutAt++) {
      shapes.push({ ...tcp, extensions: [{ kind, words: 0 }], cutAt });
      shapes.push({
        ...tcp,
        extensions: [
          { kind, words: 1 },
          { kind: 'ah', spi: 1, reserved: 0, words: 4 },
        ],
        cutAt,
      });
    }
    shapes.push({
      ...tcp,
      extensions: [{ kind, words: 0 }],
      fragment: { offset: 9, more: true, reserved: 0 },
    });
    // A header that says it is longer than the packet: what follows is known, and not there.
    shapes.push({ ...tcp, extensions: [{ kind, words: 200 }], cutAt: 20 });
  }
  const text = [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    '-A PREROUTING -m frag --fragid 0:4294967295',
    '-A PREROUTING -m ah --ahspi 0:9',
    '-A PREROUTING -p tcp -m tcp --dport 2',
    '-A PREROUTING -p tcp',
    '-A PREROUTING ! -p tcp',
    'COMMIT',
    '',
  ].join('\n');
  return caseOf({ family, text }, { group: 'raw', hook: 0 }, shapes);
}

/** Headers that end at every byte, each rule alone so that none drops what the next is asked about. */
export function headerCases(family: Family): MachineCase[] {
  const rules: readonly (readonly [string, Shape['transport'], boolean?])[] = [
    ['-p tcp -m tcp --dport 2', TCP],
    ['-p tcp -m tcp --tcp-option 3', TCP],
    ['-p udp -m udp --dport 2', ports(17)],
    ['-p sctp -m sctp --dport 2', SCTP],
    ['-p esp -m esp --espspi 7', { kind: 'esp', spi: 7 }],
    ...(family === 'ipv4'
      ? ([
          ['-p icmp -m icmp --icmp-type 8/0', { kind: 'icmp', type: 8, code: 0, id: 1 }],
          ['-p ah -m ah --ahspi 7', { kind: 'ah', spi: 7, reserved: 0, words: 1 }],
        ] as const)
      : ([
          ['-p ipv6-icmp -m icmp6 --icmpv6-type 128/0', { kind: 'icmp', type: 128, code: 0, id: 1 }],
          ['-m frag --fragmore', ports(17), true],
          ['-m frag --fragid 7', ports(17), true],
          ['-m ah --ahspi 7', { kind: 'ah', spi: 7, reserved: 0, words: 4 }],
        ] as const)),
  ];
  const [base] = sample(anyShape(family), 1);
  return rules.map(([rule, transport, inPieces]) => {
    const text = `*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING ${rule}\nCOMMIT\n`;
    const whole: Shape = {
      ...base!,
      id: 7,
      transport,
      ipOptions: new Uint8Array(0),
      extensions: [],
      payloadBytes: 4,
    };
    const cut = inPieces === true ? { ...whole, fragment: { offset: 0, more: true, reserved: 0 } } : whole;
    const shapes = Array.from({ length: LONGEST_CUT + 1 }, (_, cutAt) => ({ ...cut, cutAt }));
    return caseOf({ family, text }, { group: 'raw', hook: 0 }, [cut, ...shapes]);
  });
}

/** ICMP types with and without codes, as they are and not, and packets of all of them. */
export function icmpCase(family: Family): MachineCase {
  const [name, option] = family === 'ipv4' ? ['icmp', '-m icmp'] : ['ipv6-icmp', '-m icmp6'];
  const flag = family === 'ipv4' ? '--icmp-type' : '--icmpv6-type';
  const rules = ['3', '3/1', '4/1', '3/3'].flatMap((type) =>
    ['', '! '].map((not) => `-A PREROUTING -p ${name} ${option} ${not}${flag} ${type}`),
  );
  const [base] = sample(anyShape(family), 1);
  const shapes = [2, 3, 4, 5].flatMap((type) =>
    [0, 1, 2, 3, 4].map(
      (code): Shape => ({
        ...base!,
        ipOptions: new Uint8Array(0),
        extensions: [],
        transport: { kind: 'icmp', type, code, id: 1 },
      }),
    ),
  );
  const text = ['*raw', ':PREROUTING ACCEPT [0:0]', ...rules, 'COMMIT', ''].join('\n');
  return caseOf({ family, text }, { group: 'raw', hook: 0 }, shapes);
}

const PACKET_LOOPBACK = 5;
/** Groups, hosts, IPv4 in IPv6, nothing at all: what rules tell by the address alone. */
const KINDS_OF_ADDRESS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['223.255.255.255', '224.0.0.1', '239.255.255.255', '240.0.0.0', '10.7.0.1', '255.255.255.255'],
  ipv6: [
    'ff02::1',
    'fe00::1',
    '7f02::1',
    '::',
    '::1',
    '::ffff:1.2.3.4',
    '::fffe:1.2.3.4',
    '1::ffff:1.2.3.4',
    '8000::',
  ],
};

/** Types of packets and of addresses that depend on the packet's addresses. */
export function addressKindCase(family: Family): MachineCase {
  const types = ['unicast', 'broadcast', 'multicast'];
  const rules = types.flatMap((type) => [
    `-m pkttype --pkt-type ${type}`,
    `-m pkttype ! --pkt-type ${type}`,
    ...(type === 'broadcast' && family === 'ipv6'
      ? []
      : ['src', 'dst'].flatMap((side) => [
          `-m addrtype --${side}-type ${type.toUpperCase()}`,
          `-m addrtype ! --${side}-type ${type.toUpperCase()}`,
        ])),
  ]);
  const text = [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ...rules.map((rule) => `-A PREROUTING ${rule}`),
    'COMMIT',
    '',
  ].join('\n');
  const [base] = sample(anyShape(family), 1);
  const addresses = KINDS_OF_ADDRESS[family].map((one) => parsePrefix(one)!.address.bytes);
  // Not every pair: the counters of all would be the same with the ends exchanged.
  const shapes = addresses.flatMap((source, index) =>
    addresses.slice(index % 3).map(
      (destination): Shape => ({
        ...base!,
        ipOptions: new Uint8Array(0),
        extensions: [],
        source,
        destination,
      }),
    ),
  );
  const given = caseOf({ family, text }, { group: 'raw', hook: 0 }, shapes);
  const packetTypes = [0, 1, 2, PACKET_LOOPBACK];
  return {
    ...given,
    packets: given.packets.flatMap((one) => packetTypes.map((packetType) => ({ ...one, packetType }))),
  };
}

/** All that rules ask of connections: ends, ports, marks, states in both spellings, and how long they have to live. */
export function connectionCases(family: Family): MachineCase[] {
  const talks = sample(conversation(family), 10);
  const [ruleset] = sample(connectionRuleset(family, talks.flat(), RULES), 1);
  const place: Place = { group: 'filter', hook: 2 };
  const marks = talks
    .flat()
    .flatMap(({ transport }) => (transport.kind === 'tcp' ? [transport.sourcePort] : []))
    .slice(0, 2);
  const rules = [
    ...['NEW', 'ESTABLISHED', 'INVALID', 'RELATED', 'NEW,ESTABLISHED', 'UNTRACKED'].map(
      (state) => `-m state --state ${state}`,
    ),
    '-m state ! --state NEW',
    ...[0, ...marks, ...marks.map((mark) => mark + 1)].flatMap((mark) => [
      `-m connmark --mark ${mark}`,
      `-m connmark ! --mark ${mark}/0xffff`,
      `-m connmark --mark ${mark & 0xff}/0xff`,
    ]),
    ...['0', '1:29', '30', '119:120', '100:1000000'].map((seconds) => `-m conntrack --ctexpire ${seconds}`),
  ];
  const text = [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ...rules.map((rule) => `-A FORWARD ${rule}`),
    'COMMIT',
    '',
  ].join('\n');
  return [ruleset!, { family, text }].map((one) => {
    const given = caseOf(one, place, talks.flat());
    return {
      ...given,
      packets: given.packets.map((packet, index) => ({ ...packet, waitMs: index % 9 === 8 ? 1000 : 0 })),
    };
  });
}

/** LOG with every part of what it says, of packets of all kinds. */
function logCase(family: Family): MachineCase {
  const rules = [
    '-p tcp -j LOG --log-prefix "tcp: " --log-level 5',
    '! -p tcp -j LOG --log-ip-options',
    '-j LOG --log-uid --log-macdecode --log-prefix "all"',
  ];
  const text = [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ...rules.map((rule) => `-A FORWARD ${rule}`),
    'COMMIT',
    '',
  ].join('\n');
  return caseOf({ family, text }, { group: 'filter', hook: 2 }, sample(anyShape(family), 60));
}
