/**
 * Rules at xdp, tcx and cgroup against the evaluator: frames with tags, of other families, cut short; both ways through the
 * host; every fragment strategy; what is logged; what is answered.
 */
import { SystemCounter } from '../../src/compile/arena/layout.ts';
import {
  type CompiledPolicy,
  CompileError,
  compilePolicy,
  type FragmentStrategy,
  type HookName,
  type StrategyName,
} from '../../src/compile/index.ts';
import { StackTables } from '../../src/host/index.ts';
import type { Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import { NetworkStack } from '../../src/netstack/index.ts';
import { createHost, type EvaluationHost, parseRuleset, type Ruleset } from '../../src/rules/index.ts';
import { addToSum, finishSum, pseudoHeaderSum } from '../../src/wire/index.ts';
import { type Counts, evaluatorCounts, type Judged, judge, programCounts } from './compare.ts';
import { buildPacket, type Shape } from './generate/shape.ts';
import { ADDRESSES, prefix, worldRouting } from './generate/world.ts';
import {
  forwardedTo,
  HookMachine,
  type HookOutcome,
  type HookPacket,
  type HookPoint,
  WORLD_DEVICES,
} from './hook-machine.ts';
import { expectedLogs, logDifference } from './log-records.ts';
import { compilable, ethernetOf } from './machine-cases.ts';
import { MACHINE_HZ } from './machine-policy.ts';
import type { Subject } from './mistakes.ts';
import { xorshift } from './xorshift.ts';

const SEED = 7;
/** What answers draw: the same in both orders of bytes. */
const DRAWN = 0x5a5a5a5a;
const START_MS = 1_000_000;
const FORGOTTEN_MS = 30_000;
const OTHER_HOST = 3;
const ETHER_TYPES = { ipv4: 0x0800, ipv6: 0x86dd } as const;
const ICMP = { ipv4: 1, ipv6: 58 } as const;
const ICMP_HEADER = 8;
const FIXED_HEADER = { ipv4: 20, ipv6: 40 } as const;

interface Place {
  readonly name: HookName;
  readonly point: HookPoint;
  readonly accept: number;
  readonly drop: number;
  /** What it returns for an answer. */
  readonly answered?: number;
  /** Priority tags that are looked through. */
  readonly tags: number;
  /** The hooks of the tables that it stands for. */
  readonly ways: 'in' | 'out' | 'local';
}

export const PLACES: readonly Place[] = [
  { name: 'xdp', point: { flavour: 'xdp' }, accept: 2, drop: 1, answered: 3, tags: 2, ways: 'in' },
  {
    name: 'tcx-ingress',
    point: { flavour: 'tcx', direction: 'ingress' },
    accept: -1,
    drop: 2,
    answered: 7,
    tags: 1,
    ways: 'in',
  },
  {
    name: 'tcx-egress',
    point: { flavour: 'tcx', direction: 'egress' },
    accept: -1,
    drop: 2,
    tags: 1,
    ways: 'out',
  },
  {
    name: 'cgroup-ingress',
    point: { flavour: 'cgroup', direction: 'ingress' },
    accept: 1,
    drop: 0,
    tags: 0,
    ways: 'local',
  },
  {
    name: 'cgroup-egress',
    point: { flavour: 'cgroup', direction: 'egress' },
    accept: 1,
    drop: 0,
    tags: 0,
    ways: 'out',
  },
];

/** A packet, and the time before it. */
export interface HookShape {
  readonly shape: Shape;
  readonly packet: HookPacket;
  readonly waitMs: number;
}

/**
 * Packets of shapes as they come in by a device or leave by one, with all that a frame can have around them. `link` is what
 * packets without an Ethernet header have in its place.
 */
export function hookShapes(shapes: readonly Shape[], place: Place, link?: Uint8Array): HookShape[] {
  const vlan = (tci: number, protocol = 0x8100) => ({ protocol, tci });
  const tags = [
    [],
    [],
    [],
    [vlan(0)],
    [vlan(7)],
    [vlan(0, 0x88a8), vlan(0xe000)],
    [vlan(0x2001, 0x88a8)],
    [vlan(0), vlan(1)],
    [vlan(0), vlan(0), vlan(0)],
  ];
  return shapes.map((shape, index) => {
    const whole = buildPacket(shape);
    const odd = index % 11;
    const cgroup = place.point.flavour === 'cgroup';
    // Behind what says how long the packet is there may be padding.
    const bytes = odd === 7 ? whole.subarray(0, index % FIXED_HEADER[shape.family]) : whole;
    const padded = odd === 8 && !cgroup ? Uint8Array.of(...bytes, 1, 2, 3, 4) : bytes;
    const bare = place.point.flavour !== 'xdp' && index % 5 === 4;
    const alien = bare ? link : undefined;
    // Frames that end within a tag.
    const cut = odd === 6 && !cgroup && alien === undefined ? Math.trunc(index / 11) % 8 : undefined;
    const packetType = shape.destinationMac === undefined ? 0 : shape.destinationMac[0] === 0xff ? 1 : 2;
    return {
      shape,
      waitMs: [0, 0, 4, 1000][index % 4]!,
      packet: {
        ethernet: bare ? undefined : ethernetOf(shape),
        ...(alien === undefined ? {} : { link: alien }),
        tags:
          cgroup || alien !== undefined
            ? []
            : cut === undefined
              ? tags[index % tags.length]!
              : [vlan(0), vlan(cut % 2 === 0 ? 1 : 0)],
        etherType:
          odd === 9 ? 0x0806 : odd === 10 ? ETHER_TYPES[other(shape.family)] : ETHER_TYPES[shape.family],
        ...(cut === undefined ? { bytes: padded } : { bytes: new Uint8Array(0), carried: cut }),
        device: shape.inDevice,
        packetType:
          place.point.flavour === 'tcx' && place.ways === 'in' && index % 13 === 12 ? OTHER_HOST : packetType,
        mark: [0, 1, 0xffffffff][index % 3]!,
        cameInBy: place.ways === 'out' && index % 7 === 6 ? 2 : 0,
      },
    };
  });
}

function other(family: Family): Family {
  return family === 'ipv4' ? 'ipv6' : 'ipv4';
}

type Expected =
  | {
      readonly kind: 'passes' | 'dropped';
      readonly counter?: number;
      readonly judged?: readonly Judged[];
      readonly mark?: number;
    }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'answered'; readonly judged: readonly Judged[] };

/** What the evaluator, and the frame around the packet, say. */
class Oracle {
  readonly host: EvaluationHost;
  readonly #ruleset: Ruleset;
  readonly #family: Family;
  readonly #place: Place;
  readonly #fragments: FragmentStrategy;
  readonly #forwarding: boolean;
  readonly #accepted = new Map<string, number>();
  readonly clock: { ms: number };

  constructor(
    ruleset: Ruleset,
    place: Place,
    fragments: FragmentStrategy,
    clock: { ms: number },
    forwarding: boolean,
  ) {
    this.#forwarding = forwarding;
    this.#ruleset = ruleset;
    this.#family = ruleset.family;
    this.#place = place;
    this.#fragments = fragments;
    this.clock = clock;
    this.host = createHost({
      ruleset,
      routing: worldRouting(ruleset.family),
      nowMs: () => clock.ms,
      random32: xorshift(SEED),
    });
  }

  expect({ packet, shape }: HookShape): Expected {
    const outside = this.#outside(packet);
    if (outside !== undefined) return outside;
    const bytes = trimmed(packet.bytes, this.#family);
    if (bytes === undefined) return { kind: 'dropped', counter: SystemCounter.malformed };
    const strategy = this.#place.point.flavour === 'cgroup' ? 'rules' : this.#fragments;
    const { fragment } = shape;
    const isPiece = fragment !== undefined && (fragment.offset > 0 || fragment.more);
    const datagram = isPiece ? key(shape) : '';
    if (strategy === 'drop' && isPiece) return { kind: 'dropped', counter: SystemCounter.fragments };
    if (strategy === 'first-only' && isPiece && fragment.offset > 0) return { kind: 'passes' };
    if (strategy === 'track' && isPiece) {
      if (fragment.offset > 0) {
        const accepted = this.#accepted.get(datagram);
        const known = accepted !== undefined && this.clock.ms - accepted <= FORGOTTEN_MS;
        return known ? { kind: 'passes' } : { kind: 'dropped', counter: SystemCounter.fragments };
      }
      this.#accepted.delete(datagram);
    }
    const judged = this.#judge(packet, bytes);
    if (judged === undefined) return { kind: 'unknown' };
    const last = judged.at(-1)!;
    if (last.hotdrop) return { kind: 'dropped', counter: SystemCounter.hotdrops, judged };
    if (last.verdict === 'REJECT') return { kind: 'answered', judged };
    if (last.verdict === 'DROP') return { kind: 'dropped', judged };
    if (strategy === 'track' && isPiece) this.#accepted.set(datagram, this.clock.ms);
    return { kind: 'passes', judged, mark: last.mark };
  }

  /** Packets that no rule is asked about. */
  #outside({ tags, etherType, packetType, cameInBy, carried }: HookPacket): Expected | undefined {
    const { point, ways, tags: looked } = this.#place;
    const notIp = { kind: 'passes', counter: SystemCounter.notIp } as const;
    const [first] = tags;
    if (point.flavour === 'tcx') {
      if (first !== undefined && (first.tci & 0xfff) !== 0) return notIp;
      if (ways === 'in' ? packetType === OTHER_HOST : cameInBy !== 0) return notIp;
    }
    for (const [index, { tci }] of tags.entries()) {
      if (point.flavour === 'xdp' && index >= looked)
        return { kind: 'dropped', counter: SystemCounter.malformed };
      // Of the tags in the frame a whole one, with the type behind it, or what names the VLAN.
      const needed = point.flavour === 'xdp' ? 4 * (index + 1) : 4 * index - 2;
      if (carried !== undefined && carried < needed)
        return { kind: 'dropped', counter: SystemCounter.malformed };
      if ((tci & 0xfff) !== 0) return notIp;
      if (point.flavour === 'tcx' && index >= looked)
        return { kind: 'dropped', counter: SystemCounter.malformed };
    }
    if (etherType === ETHER_TYPES[other(this.#family)])
      return { kind: 'passes', counter: SystemCounter.otherFamily };
    return etherType === ETHER_TYPES[this.#family] ? undefined : notIp;
  }

  #judge(packet: HookPacket, bytes: Uint8Array): Judged[] | undefined {
    const [from, length] = this.#family === 'ipv4' ? [16, 4] : [24, 16];
    const { ways } = this.#place;
    const through = ways === 'in' && this.#forwarding;
    const out = through ? forwardedTo(this.#family, bytes.subarray(from, from + length)) : undefined;
    const stages: [Hook, string, string][] =
      ways === 'out'
        ? [
            [3, '', packet.device],
            [4, '', packet.device],
          ]
        : ways === 'local'
          ? [[1, packet.device, '']]
          : [[0, packet.device, ''], out === undefined ? [1, packet.device, ''] : [2, packet.device, out]];
    const judged: Judged[] = [];
    let { mark } = packet;
    if (this.#place.point.flavour === 'xdp') mark = 0;
    for (const [hook, inDevice, outDevice] of stages) {
      const { packetType, ethernet } = packet;
      const known = this.#place.point.flavour === 'xdp' ? typeOf(ethernet!) : packetType;
      const input = { bytes, hook, inDevice, outDevice, packetType: known, mark };
      const one = judge(this.host, this.#ruleset, {
        ...input,
        ...(ethernet === undefined ? {} : { ethernet }),
      });
      if (one === undefined) return undefined;
      judged.push(one);
      if (one.verdict !== 'ACCEPT') break;
      mark = one.mark;
    }
    return judged;
  }
}

/** eth_type_trans(). */
function typeOf(ethernet: Uint8Array): number {
  const destination = ethernet.subarray(0, 6);
  if (destination.every((byte) => byte === 0xff)) return 1;
  return (destination[0]! & 1) === 1 ? 2 : 0;
}

/** The packet without padding; `undefined` where ip_rcv or ipv6_rcv would drop it for its header. */
function trimmed(bytes: Uint8Array, family: Family): Uint8Array | undefined {
  if (bytes.length < FIXED_HEADER[family]) return undefined;
  const length = family === 'ipv4' ? (bytes[2]! << 8) | bytes[3]! : 40 + ((bytes[4]! << 8) | bytes[5]!);
  return bytes.subarray(0, length);
}

function key({ source, destination, id, transport, family }: Shape): string {
  const protocol = family === 'ipv4' && transport.kind === 'raw' ? transport.protocol : transport.kind;
  return [source, destination, id, protocol].join();
}

export interface HookCase {
  readonly family: Family;
  readonly place: Place;
  readonly text: string;
  readonly shapes: readonly Shape[];
  readonly fragments?: FragmentStrategy;
  readonly strategy?: StrategyName;
  /** What packets without an Ethernet header have in its place; nothing when absent. */
  readonly link?: Uint8Array;
  /** Whether the host sends packets of others on; true when absent. */
  readonly forwarding?: boolean;
}

/** The case as what mistakes are shown to, judged when one first is; `undefined` where the hook cannot run the rules. */
export function hookSubject(given: HookCase): Subject | undefined {
  const { family, place, fragments = 'rules', strategy = 'inline' } = given;
  const { ruleset, diagnostics } = parseRuleset(compilable(given.text), { file: 'hook', family });
  const error = diagnostics.find(({ severity }) => severity === 'error');
  if (error !== undefined) throw new Error(`${error.message}\n${given.text}`);
  const compiled = (): CompiledPolicy =>
    compilePolicy([ruleset], { hooks: [place.name], fragments, strategy, hz: MACHINE_HZ });
  try {
    compiled();
  } catch (refused) {
    if (refused instanceof CompileError) return undefined;
    throw refused;
  }
  let judgments: Judgments | undefined;
  return {
    write: () => {
      const policy = compiled();
      return () => {
        judgments ??= judgeAll(ruleset, given);
        return hookDifference(given, policy, judgments);
      };
    },
  };
}

/** What is expected of each packet, and of all of them. */
function judgeAll(
  ruleset: Ruleset,
  { place, shapes, link, fragments = 'rules', forwarding = true }: HookCase,
): Judgments {
  const clock = { ms: START_MS };
  const oracle = new Oracle(ruleset, place, fragments, clock, forwarding);
  const packets = hookShapes(shapes, place, link);
  const expected = packets.map((one) => {
    clock.ms += one.waitMs;
    return oracle.expect(one);
  });
  const counts = evaluatorCounts(oracle.host);
  const answers = expected.map((one, index) =>
    one.kind === 'answered' ? answerOf(ruleset, packets[index]!.packet, forwarding) : undefined,
  );
  return { packets, expected, counts, answers };
}

interface Judgments {
  readonly packets: readonly HookShape[];
  readonly expected: readonly Expected[];
  readonly counts: Counts;
  readonly answers: readonly (Uint8Array | undefined)[];
}

function hookDifference(
  { family, place, forwarding = true }: HookCase,
  policy: CompiledPolicy,
  { packets, expected, counts, answers }: Judgments,
): string | undefined {
  const clock = { ms: START_MS };
  const machine = new HookMachine(policy, family, place.point, {
    forwarding,
    clock: { monotonicNs: () => BigInt(clock.ms) * 1_000_000n },
    random: answers.some((answer) => answer !== undefined) ? () => DRAWN : xorshift(SEED),
  });
  const system = new Map<number, bigint>();
  for (const [index, { packet, waitMs }] of packets.entries()) {
    clock.ms += waitMs;
    const wanted = expected[index]!;
    if (wanted.kind === 'unknown') continue;
    const outcome = machine.run(packet);
    const where = `packet ${index} ${Buffer.from(packet.bytes).toString('hex')}`;
    const difference =
      wanted.kind === 'answered'
        ? answerDifference(place, packet, outcome, answers[index])
        : verdictDifference(place, packet, outcome, wanted);
    if (difference !== undefined) return `${where}: ${difference}`;
    if (wanted.kind !== 'answered' && wanted.counter !== undefined)
      system.set(wanted.counter, (system.get(wanted.counter) ?? 0n) + 1n);
    const logs = 'judged' in wanted ? (wanted.judged ?? []).flatMap((one) => one.logs) : [];
    const unlike = logDifference(
      machine.machine,
      expectedLogs(logs, place.point, { ...packet, family }, clock.ms),
    );
    if (unlike !== undefined) return `${where}: ${unlike}`;
  }
  for (const [name, counter] of Object.entries(SystemCounter)) {
    const { packets: counted } = machine.counter(counter);
    if (counted !== (system.get(counter) ?? 0n))
      return `${name}: ${counted} for ${system.get(counter) ?? 0n}`;
  }
  const counted = programCounts(policy, (index) => machine.counter(index));
  const [a, b] = [counted, counts].map((one) => JSON.stringify(Object.entries(one).sort()));
  return a === b ? undefined : `counters ${a}, the evaluator says ${b}`;
}

function verdictDifference(
  place: Place,
  packet: HookPacket,
  { verdict, mark, frame }: HookOutcome,
  wanted: Exclude<Expected, { kind: 'unknown' | 'answered' }>,
): string | undefined {
  const right = wanted.kind === 'passes' ? place.accept : place.drop;
  if (verdict !== right) return `${verdict} for ${right}`;
  if (wanted.mark !== undefined && place.point.flavour !== 'xdp' && mark !== wanted.mark)
    return `mark ${mark} for ${wanted.mark}`;
  return Buffer.from(frame).includes(Buffer.from(packet.bytes)) ? undefined : 'the packet has changed';
}

function answerDifference(
  place: Place,
  packet: HookPacket,
  { verdict, frame, redirectedTo, tagged }: HookOutcome,
  answer: Uint8Array | undefined,
): string | undefined {
  if (answer === undefined) return verdict === place.drop ? undefined : `${verdict} instead of no answer`;
  if (verdict !== place.answered) return `${verdict} instead of an answer`;
  if (verdict === 7 && redirectedTo !== WORLD_DEVICES.indexOf(packet.device))
    return `sent out by ${redirectedTo}`;
  if (verdict === 7 && tagged) return 'the answer is tagged';
  const { ethernet } = packet;
  const link =
    ethernet === undefined
      ? []
      : [
          ...ethernet.subarray(6, 12),
          ...ethernet.subarray(0, 6),
          packet.etherType >> 8,
          packet.etherType & 0xff,
        ];
  const expected = Buffer.from([...link, ...answer]).toString('hex');
  const actual = Buffer.from(frame).toString('hex');
  return actual === expected ? undefined : `answers ${actual} for ${expected}`;
}

/** What the netstack answers; its hosts take a packet from the device that it came in by. */
function answerOf(ruleset: Ruleset, packet: HookPacket, forwarding: boolean): Uint8Array | undefined {
  const { family } = ruleset;
  const sent: { device: string; bytes: Uint8Array }[] = [];
  const stack = new NetworkStack({
    clock: { nowMs: () => 0 },
    random32: () => ~DRAWN >>> 0,
    devices: WORLD_DEVICES.slice(1, 3).map((name) => ({ name })),
    addresses: ADDRESSES[family].map(({ device, address }) => ({ device, prefix: prefix(address) })),
    routes: [{ prefix: prefix(family === 'ipv4' ? '0.0.0.0/0' : '::/0'), device: 'eth0' }],
    settings: { forwarding: { ipv4: forwarding, ipv6: forwarding } },
    transmit: (device, bytes) => sent.push({ device: device.name, bytes }),
  });
  new StackTables(stack, ruleset);
  const mac = packet.ethernet;
  const bytes = trimmed(packet.bytes, family)!;
  stack.receive(
    { family, bytes: bytes.slice(), ...(mac === undefined ? {} : { mac: mac.slice() }) },
    packet.device,
  );
  const answer = sent[0]?.bytes;
  if (answer === undefined) return undefined;
  const start = FIXED_HEADER[family];
  const icmp = answer[family === 'ipv4' ? 9 : 6] === ICMP[family];
  // A router has counted the hops down when it quotes; programs come before that. They draw no flow label, either.
  if (family === 'ipv6') answer.fill(0, 1, 4);
  if (icmp) {
    answer.set(bytes.subarray(0, answer.length - start - ICMP_HEADER), start + ICMP_HEADER);
    answer.fill(0, start + 2, start + 4);
    const pseudo =
      family === 'ipv4' ? 0 : pseudoHeaderSum(answer, 8, 24, 16, ICMP.ipv6, answer.length - start);
    const sum = finishSum(addToSum(pseudo, answer, start, answer.length));
    answer.set([sum >> 8, sum & 0xff], start + 2);
  }
  return answer;
}
