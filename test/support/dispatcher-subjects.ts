/**
 * Dispatchers of every kind of hook, with records, gates and flight words as they can be: what runs, what it is told, and what
 * is noted of the packet.
 */
import {
  type AttachPoint,
  buildDispatcher,
  COUNTER_SIZE,
  type CompiledPolicy,
  type CompiledProgram,
  compilePolicy,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  FLIGHT_SLOTS,
  FLIGHTS_OFFSET,
  type FlightRole,
  GATE_OPEN,
  GATE_SIZE,
  GATE_SLOTS,
  GATES_OFFSET,
  GENERATIONS_OFFSET,
  Generation,
  generationImage,
  HANDOVER_OFFSET,
  HANDOVER_STRIDE,
  type HookName,
  Record as PolicyRecord,
  programArrayName,
  RECORD_PROBES,
  RECORD_SIZE,
  ROOT_ALIGNMENT,
  ROOT_BITS,
  type RuleTag,
  recordHome,
} from '../../src/compile/index.ts';
import { PolicyMachine } from '../../src/host/replay/machine.ts';
import { Assembler, R2, R3 } from '../../src/isa/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import type { ProgramArrayMap } from '../../src/vm/index.ts';
import { HookMachine, type HookPoint } from './hook-machine.ts';
import { MACHINE_HZ } from './machine-policy.ts';
import type { Subject } from './mistakes.ts';

const TEXT = '*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n';
const PACKET = Uint8Array.from([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
const COOKIE = 1n;
const NOW_NS = 0x1_0000_0005n;
/** Neither the first CPU nor the second: a multiple of anything is another. */
const CPU = 2;
const GENERATIONS = ['first', 'second', 'empty'] as const;
type Which = (typeof GENERATIONS)[number];

interface Place {
  readonly hook: HookName;
  readonly point: AttachPoint;
  readonly roles: readonly FlightRole[];
  readonly accept: number;
  readonly drop: number;
}

const INPUT = { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 } as const;
const PLACES: readonly Place[] = [
  { hook: 'netfilter', point: INPUT, roles: ['only', 'first', 'later'], accept: 1, drop: 0 },
  { hook: 'xdp', point: { flavour: 'xdp' }, roles: ['only'], accept: 2, drop: 1 },
  {
    hook: 'tcx-ingress',
    point: { flavour: 'tcx', direction: 'ingress' },
    roles: ['only', 'first'],
    accept: -1,
    drop: 2,
  },
  {
    hook: 'tcx-egress',
    point: { flavour: 'tcx', direction: 'egress' },
    roles: ['only', 'later'],
    accept: -1,
    drop: 2,
  },
  {
    hook: 'cgroup-ingress',
    point: { flavour: 'cgroup', direction: 'ingress' },
    roles: ['only', 'later'],
    accept: 1,
    drop: 0,
  },
  {
    hook: 'cgroup-egress',
    point: { flavour: 'cgroup', direction: 'egress' },
    roles: ['only', 'first'],
    accept: 1,
    drop: 0,
  },
];

export function dispatcherSubjects(): Subject[] {
  const { ruleset } = parseRuleset(TEXT, { file: 'dispatcher', family: 'ipv4' });
  return PLACES.flatMap((place) =>
    place.roles.map((role) => ({
      write: () => {
        const policy = compilePolicy([ruleset], { hooks: [place.hook], hz: MACHINE_HZ });
        const dispatcher = buildDispatcher(place.point, role);
        return () =>
          difference(new Stand(place, policy, dispatcher), role) ??
          new Stand(place, policy, straightTo(dispatcher)).interrupted(dispatcher);
      },
    })),
  );
}

/** What a record says, and what is expected of the packet then. */
interface Scenario {
  /** Root, with the number of its gate. */
  readonly root?: Which | 'none';
  readonly gate?: number;
  readonly closesNs?: bigint;
  readonly previous?: Which | 'none';
  readonly inFlight?: Which | 'none';
  /** Places behind the home of its cookie; `undefined`: there is no record. */
  readonly probe?: number | undefined;
  /** A flight word: whose it is, and what it names. */
  readonly flight?: { readonly of: 'packet' | 'another' | 'far'; readonly root: Which };
  /** `none`: dropped by the dispatcher itself. */
  readonly runs: Which | 'none';
}

function scenarios(role: FlightRole): Scenario[] {
  const gates = [1, 2, GATE_SLOTS - 1].flatMap((gate) =>
    ([0n, 1n, NOW_NS - 1n, NOW_NS, NOW_NS + 1n, NOW_NS + (1n << 33n), 1n << 63n, GATE_OPEN] as const).map(
      (closesNs): Scenario => ({
        root: 'second',
        previous: 'first',
        gate,
        closesNs,
        runs: closesNs > NOW_NS ? 'second' : 'first',
      }),
    ),
  );
  const flights = (['first', 'second'] as const).flatMap((root) =>
    (['packet', 'another', 'far'] as const).flatMap((of) =>
      ([undefined, 'none', 'first', 'second'] as const).map((inFlight): Scenario => {
        const known = role === 'later' && of === 'packet' && inFlight === root;
        return {
          root: 'second',
          flight: { of, root },
          ...(inFlight === undefined ? {} : { inFlight }),
          runs: known ? root : 'second',
        };
      }),
    ),
  );
  return [
    { root: 'first', runs: 'first' },
    { root: 'second', previous: 'first', runs: 'second' },
    { root: 'empty', runs: 'empty' },
    { root: 'none', runs: 'none' },
    { root: 'none', previous: 'first', runs: 'none' },
    { root: 'second', gate: 3, closesNs: 0n, previous: 'none', runs: 'none' },
    { root: 'second', gate: 3, closesNs: 0n, previous: 'empty', runs: 'empty' },
    ...[0, 1, 2, 3].map((probe): Scenario => ({ root: 'first', probe, runs: 'first' })),
    { root: 'first', probe: RECORD_PROBES, runs: 'none' },
    { root: 'first', probe: undefined, runs: 'none' },
    { root: 'second', inFlight: 'first', runs: 'second' },
    { root: 'first', inFlight: 'first', runs: 'first' },
    ...gates,
    ...flights,
  ];
}

function difference(stand: Stand, role: FlightRole): string | undefined {
  for (const scenario of scenarios(role)) {
    const unlike = stand.difference(scenario, role);
    if (unlike !== undefined)
      return `${unlike}: ${JSON.stringify(scenario, (_, one) => (typeof one === 'bigint' ? `${one}` : one))}`;
  }
  return undefined;
}

/** A machine with three generations, the last of which has nothing to run at the place. */
class Stand {
  readonly #place: Place;
  readonly #machine: PolicyMachine;
  readonly #send: () => number;
  readonly #roots: Readonly<Record<Which, number>>;

  /** @param hanging what the packet meets first */
  constructor(place: Place, policy: CompiledPolicy, hanging: CompiledProgram) {
    const { point } = place;
    this.#place = place;
    const options = {
      clock: { monotonicNs: () => NOW_NS },
      dispatcher: () => hanging,
      surroundings: { cpus: CPU + 1 },
      room: { bytes: 64 * ROOT_ALIGNMENT, counters: 0, state: 0 },
    };
    if (point.flavour === 'netfilter') {
      const machine = new PolicyMachine(policy, options);
      const packet = {
        bytes: PACKET,
        family: 'ipv4',
        hook: point.hook,
        inDevice: 'eth0',
        outDevice: '',
      } as const;
      this.#machine = machine;
      this.#send = () => (machine.run(entryIndex(point), packet)!.accepted ? 1 : 0);
    } else {
      const machine = new HookMachine(policy, 'ipv4', point as HookPoint, options);
      const packet = { bytes: PACKET, mark: 0, ethernet: new Uint8Array(14), tags: [], etherType: 0x0800 };
      const from = { device: 'eth0', packetType: 0, cameInBy: 0 };
      this.#machine = machine.machine;
      this.#send = () => machine.run({ ...packet, ...from }).verdict;
    }
    this.#machine.machine.cpu = CPU;
    const { bytes, base } = this.#machine.arena;
    const first = this.#machine.root;
    const room =
      first + this.#view.getUint32(GENERATIONS_OFFSET + Generation.size, true) - 64 * ROOT_ALIGNMENT;
    this.#roots = { first, second: room, empty: room + 32 * ROOT_ALIGNMENT };
    for (const which of ['second', 'empty'] as const) {
      const entries = new Map(which === 'empty' ? [] : [[entryIndex(point), FIRST_PROGRAM_INDEX]]);
      const parts = { cpus: CPU + 1, number: 2n, addresses: [], devices: new Map(), entries };
      const image = generationImage(policy.counters, policy.state, parts, policy.classifier);
      bytes.set(image.build(this.#roots[which]), this.#roots[which] - base);
    }
  }

  get #view(): DataView {
    const { bytes } = this.#machine.arena;
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  difference(scenario: Scenario, role: FlightRole): string | undefined {
    const identity = this.#prepare(scenario);
    const before = this.#flights();
    const counted = GENERATIONS.map((which) => this.#counted(which));
    const verdict = this.#send();
    const { runs } = scenario;
    const { accept, drop } = this.#place;
    const wanted = runs === 'empty' ? accept : drop;
    if (verdict !== wanted) return `${verdict} for ${wanted}`;
    for (const [index, which] of GENERATIONS.entries()) {
      const more = this.#counted(which) - counted[index]!;
      if (more !== (which === runs ? BigInt(runs === 'empty' ? 0 : 1) : 0n)) return `${which} counts ${more}`;
    }
    if (runs !== 'none' && this.#handover() !== this.#word(identity, runs))
      return 'another word is handed over';
    const noted = new Map(before);
    // A first hook notes what it chose, be it nothing.
    const inFlight = (scenario.inFlight ?? 'none') !== 'none' && scenario.probe !== RECORD_PROBES;
    if (role === 'first' && inFlight) noted.set(placeOf(identity), this.#word(identity, runs));
    const text = (words: ReadonlyMap<number, bigint>): string =>
      [...words].sort(([a], [b]) => a - b).join(' ');
    return text(this.#flights()) === text(noted) ? undefined : 'other flight words';
  }

  /** Lays out what the scenario says; gives the packet's identity, as words have it. */
  #prepare({
    root = 'none',
    gate = 0,
    closesNs = 0n,
    previous = 'none',
    inFlight = 'none',
    ...rest
  }: Scenario): bigint {
    const view = this.#view;
    const home = recordHome(COOKIE);
    const record = (
      at: number,
      cookie: bigint,
      names: { root: number; previous: number; inFlight: number },
    ): void => {
      view.setBigUint64(at + PolicyRecord.cookie, cookie, true);
      view.setUint32(at + PolicyRecord.root, names.root, true);
      view.setUint32(at + PolicyRecord.previous, names.previous, true);
      view.setUint32(at + PolicyRecord.inFlight, names.inFlight, true);
    };
    const nothing = { root: 0, previous: 0, inFlight: 0 };
    this.#flightWords.fill(0n);
    // A packet of no consequence tells its identity.
    for (let probe = 0; probe <= RECORD_PROBES; probe++) record(home + probe * RECORD_SIZE, 0n, nothing);
    record(home, COOKIE, { ...nothing, root: this.#roots.first });
    this.#send();
    const identity = this.#handover() >> BigInt(ROOT_BITS);
    // Before it, behind it and at its place of the other gates there is something else.
    const probe = 'probe' in rest ? rest.probe : 0;
    const strangers = { ...nothing, root: this.#roots.empty };
    for (let at = 0; at <= RECORD_PROBES; at++)
      record(home + at * RECORD_SIZE, COOKIE + (BigInt(at + 1) << 32n), strangers);
    if (probe !== undefined)
      record(home + probe * RECORD_SIZE, COOKIE, {
        root: this.#root(root) | gate,
        previous: this.#root(previous),
        inFlight: this.#root(inFlight),
      });
    for (let number = 0; number < GATE_SLOTS; number++)
      view.setBigUint64(GATES_OFFSET + number * GATE_SIZE, closesNs > NOW_NS ? 0n : GATE_OPEN, true);
    if (gate !== 0) view.setBigUint64(GATES_OFFSET + gate * GATE_SIZE, closesNs, true);
    if (rest.flight !== undefined) {
      const { of, root: noted } = rest.flight;
      const whose = of === 'packet' ? identity : of === 'another' ? identity ^ 1n : identity ^ (1n << 40n);
      view.setBigUint64(FLIGHTS_OFFSET + placeOf(identity) * 8, this.#word(whose, noted), true);
    }
    return identity;
  }

  #root(which: Which | 'none'): number {
    return which === 'none' ? 0 : this.#roots[which];
  }

  #word(identity: bigint, which: Which | 'none'): bigint {
    return (identity << BigInt(ROOT_BITS)) | BigInt(this.#root(which) / ROOT_ALIGNMENT);
  }

  #handover(): bigint {
    return this.#view.getBigUint64(HANDOVER_OFFSET + CPU * HANDOVER_STRIDE, true);
  }

  get #flightWords(): BigUint64Array {
    const { bytes } = this.#machine.arena;
    return new BigUint64Array(bytes.buffer, bytes.byteOffset + FLIGHTS_OFFSET, FLIGHT_SLOTS);
  }

  /** Flight words that are not 0, by place. */
  #flights(): Map<number, bigint> {
    const words = this.#flightWords;
    const found = new Map<number, bigint>();
    for (let place = 0; place < FLIGHT_SLOTS; place++)
      if (words[place] !== 0n) found.set(place, words[place]!);
    return found;
  }

  /** Packets that all counters of this CPU in the generation have; bytes and other CPUs' must be as they were. */
  #counted(which: Which): bigint {
    const { base } = this.#machine.arena;
    const at = this.#roots[which] - base;
    const u32 = (offset: number): number => this.#view.getUint32(at + offset, true);
    const counters = u32(Generation.counters) - base + CPU * u32(Generation.counterStride);
    let packets = 0n;
    for (let index = 0; index < u32(Generation.counterCount); index++)
      packets += this.#view.getBigUint64(counters + index * COUNTER_SIZE, true);
    return packets;
  }

  /** A program that finds another packet's word goes back to `dispatcher`, and drops the packet where there is none. */
  interrupted(dispatcher: CompiledProgram): string | undefined {
    const { point, drop } = this.#place;
    const { machine } = this.#machine;
    const array = machine.map(programArrayName(point)) as ProgramArrayMap;
    const { code, type, name } = dispatcher;
    array.put(entryIndex(point), machine.load(code, { type, name }));
    this.#prepare({ root: 'first', runs: 'first' });
    for (const [word, root] of [
      [0n, this.#roots.second],
      [1n, this.#roots.second],
      [1n, 0],
      [1n << 20n, this.#roots.second],
      [1n << 43n, this.#roots.second],
    ] as const) {
      const before = [this.#counted('first'), this.#counted('second')];
      const spoiled = this.#handover() ^ (word === 0n ? 0n : word << BigInt(ROOT_BITS));
      const other = ((spoiled >> BigInt(ROOT_BITS)) << BigInt(ROOT_BITS)) | BigInt(root / ROOT_ALIGNMENT);
      this.#view.setBigUint64(HANDOVER_OFFSET + CPU * HANDOVER_STRIDE, other, true);
      const verdict = this.#send();
      if (verdict !== drop) return `interrupted: ${verdict} for ${drop}`;
      const after = [this.#counted('first'), this.#counted('second')];
      const own = word === 0n ? 1 : 0;
      for (const index of [0, 1])
        if (after[index]! - before[index]! !== (index === own ? 1n : 0n))
          return `interrupted: generation ${index}`;
    }
    return undefined;
  }
}

/** Where a packet's flight word lies. */
function placeOf(identity: bigint): number {
  return Number(identity % BigInt(FLIGHT_SLOTS));
}

/** Goes to the program as if its dispatcher had just done so. */
function straightTo(like: CompiledProgram): CompiledProgram {
  const asm = new Assembler<RuleTag>();
  asm.loadMap(R2, programArrayName(like.point)).mov(R3, FIRST_PROGRAM_INDEX).call('bpf_tail_call');
  return { ...like, name: 'straight', code: asm.return(77).finish() };
}
