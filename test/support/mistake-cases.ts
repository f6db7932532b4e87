/**
 * Cases that seeded mistakes are shown to: rules about one extension at a time and packets at their edges, packets that are cut
 * short at every byte, clocks and draws at the edge, connections of every kind, and packets that no rule gets to see.
 */
import fc from 'fast-check';
import { compilePolicy, entryIndex, SystemCounter } from '../../src/compile/index.ts';
import { MAX_EXTENSION_HEADERS } from '../../src/compile/prologue/ipv6.ts';
import type { MachinePacket } from '../../src/host/replay/machine.ts';
import type { Family } from '../../src/net/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { programCounts } from './compare.ts';
import { aimAt } from './generate/aim.ts';
import { conversation } from './generate/conversations.ts';
import { focusedRuleset, focusesOf } from './generate/focused.ts';
import { anyShape, packetsFor } from './generate/packets.ts';
import { TCP } from './generate/protocol-pieces.ts';
import type { GeneratedRuleset } from './generate/rulesets.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import {
  CASE_SEED,
  type CasePacket,
  compilable,
  ethernetOf,
  type MachineCase,
  xorshift,
} from './machine-cases.ts';
import { MACHINE_HZ, MachinePolicy } from './machine-policy.ts';
import type { Subject } from './mistakes.ts';

const SEED = 20180217;
const RULES = 20;
const REJECTS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['icmp-net-unreachable', 'icmp-port-unreachable', 'icmp-admin-prohibited'],
  ipv6: ['icmp6-no-route', 'icmp6-adm-prohibited', 'icmp6-port-unreachable'],
};
const FOCUSED_PACKETS = 80;
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
    waitMs: 0,
  };
}

type Place = Pick<MachineCase, 'group' | 'hook'>;

function caseOf(
  { family, text }: Pick<GeneratedRuleset, 'family' | 'text'>,
  place: Place,
  shapes: readonly Shape[],
): MachineCase {
  return { family, ...place, text: compilable(text), packets: shapes.map(packet) };
}

/** Twenty rules about one extension, and packets at their edges. */
export function focusedCases(family: Family): MachineCase[] {
  return [...focusesOf(family).values()].map((focus) => {
    const [ruleset] = sample(focusedRuleset(family, focus, RULES), 1);
    const place: Place =
      focus.place === undefined
        ? { group: 'raw', hook: 0 }
        : focus.place === 'mangle'
          ? { group: 'mangle', hook: 0 }
          : { group: 'filter', hook: 2 };
    return caseOf(ruleset!, place, sample(packetsFor(ruleset!), FOCUSED_PACKETS));
  });
}

/** Buckets and counters of packets, on a clock that moves. */
export function limitCase(family: Family): MachineCase {
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
export function lastCreditCase(family: Family): MachineCase {
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
export function drawCase(family: Family): MachineCase {
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
export function markCase(family: Family): MachineCase {
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
export function rejectCase(family: Family): MachineCase {
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
export function stateCase(family: Family): MachineCase {
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

type View = NonNullable<MachinePacket['conntrack']>;
const NAT_BITS = { SNAT: 0x10, DNAT: 0x20 } as const;
const STATES = ['INVALID', 'NEW', 'ESTABLISHED', 'RELATED', 'UNTRACKED'] as const;

/** Connections as the kernel may have them, whatever packets led there, and the rules that they must meet. */
export function connectionSubject(family: Family): Subject {
  const conditions: readonly (readonly [string, (view: View) => boolean])[] = [
    ...STATES.map((state) => [`--ctstate ${state}`, (view: View) => view.state === state] as const),
    ...(['SNAT', 'DNAT'] as const).map(
      (nat) =>
        [`--ctstate ${nat}`, (view: View) => known(view) && (view.status & NAT_BITS[nat]) !== 0] as const,
    ),
    ['--ctdir ORIGINAL', (view) => known(view) && view.direction === 'original'],
    ['--ctdir REPLY', (view) => known(view) && view.direction === 'reply'],
    ['--ctstatus SEEN_REPLY', (view) => known(view) && (view.status & 2) !== 0],
    ['--ctstatus EXPECTED', (view) => known(view) && (view.status & 1) !== 0],
  ];
  const text = [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ...conditions.map(([condition]) => `-A FORWARD -m conntrack ${condition}`),
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset } = parseRuleset(text, { file: 'connections', family });
  const tuple = {
    source: new Uint8Array(16),
    destination: new Uint8Array(16),
    sourcePort: 1,
    destinationPort: 2,
    protocol: 17,
  };
  const views: View[] = STATES.flatMap((state) =>
    (['original', 'reply'] as const).flatMap((direction) =>
      [0, 1, 2, 0x10, 0x20, 0x38a].map(
        (status): View => ({
          state,
          direction,
          status,
          mark: 0,
          expiresSec: 9,
          original: tuple,
          reply: tuple,
        }),
      ),
    ),
  ).filter(({ state, direction }) => state !== 'NEW' || direction === 'original');
  const [shape] = sample(anyShape(family), 1);
  const bytes = buildPacket({ ...shape!, extensions: [], ipOptions: new Uint8Array(0) });
  const place = entryIndex({ flavour: 'netfilter', family, group: 'filter', hook: 2 });
  return {
    difference: () => {
      const policy = compilePolicy([ruleset], { hooks: ['netfilter'], hz: MACHINE_HZ });
      const machine = new MachinePolicy(policy);
      const met = conditions.map(() => 0n);
      for (const conntrack of views) {
        machine.run(place, { family, hook: 2, bytes, inDevice: 'eth0', outDevice: 'eth1', conntrack });
        for (const [index, [, holds]] of conditions.entries()) if (holds(conntrack)) met[index]! += 1n;
        const counts = programCounts(policy, (index) => machine.counter(index));
        const counted = conditions.map(
          (_, index) => counts[`filter FORWARD ${index + 1}`]?.split(':')[0] ?? '0',
        );
        if (counted.join() !== met.join()) return `${conntrack.state}: ${counted.join()} for ${met.join()}`;
      }
      return undefined;
    },
  };
}

function known({ state }: View): boolean {
  return state !== 'INVALID' && state !== 'UNTRACKED';
}

/** What is no IP packet is dropped and counted, where softirq counts and where process context may. */
export function unreadSubject(family: Family): Subject {
  const text =
    '*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp\n-A OUTPUT -p tcp\nCOMMIT\n';
  const { ruleset } = parseRuleset(text, { file: 'unread', family });
  const header = family === 'ipv4' ? 20 : 40;
  const packet = new Uint8Array(header + 4);
  packet[0] = family === 'ipv4' ? 0x45 : 0x60;
  packet[family === 'ipv4' ? 9 : 6] = 17;
  const wrong: Uint8Array[] = Array.from({ length: header }, (_, length) => packet.slice(0, length));
  const firsts = family === 'ipv4' ? [0x44, 0x40, 0x55, 0x65, 0x05] : [0x40, 0x50, 0x70, 0xe0];
  for (const first of firsts) wrong.push(packet.with(0, first));
  return {
    difference: () => {
      const policy = compilePolicy([ruleset], { hooks: ['netfilter'], hz: MACHINE_HZ });
      const machine = new MachinePolicy(policy);
      let dropped = 0n;
      for (const hook of [1, 3] as const) {
        const place = entryIndex({ flavour: 'netfilter', family, group: 'filter', hook });
        const devices = { inDevice: hook === 1 ? 'eth0' : '', outDevice: hook === 1 ? '' : 'eth0' };
        for (const bytes of wrong) {
          const verdict = machine.run(place, { family, hook, bytes, ...devices });
          dropped += 1n;
          const { packets } = machine.counter(SystemCounter.malformed);
          if (verdict !== 'DROP' || packets !== dropped) return `${verdict}, ${packets} of ${dropped}`;
        }
        if (machine.run(place, { family, hook, bytes: packet, ...devices }) !== 'ACCEPT')
          return 'a packet is lost';
      }
      return undefined;
    },
  };
}
