/** Nanoseconds of look-ups, by test runs of the kernel: rivals are interleaved, the 10th percentile of the rounds counts. */

import { SocketSteering } from '../../src/host/index.ts';
import { Assembler } from '../../src/isa/index.ts';
import {
  attachSkLookup,
  changeDevice,
  createNamedNetns,
  deleteNetns,
  type Fd,
  linkProgram,
  openPinnedProgram,
  Program,
  skLookupContext,
  testRun,
  withNetns,
} from '../../src/kernel/index.ts';
import type { Binding } from '../../src/sklookup/index.ts';
import { addressBytes } from '../../test/support/netns.ts';
import { TcpListener } from '../../test/support/socket.ts';
import {
  addressAt,
  bindingsOf,
  CHAIN,
  PATTERNS,
  type Pattern,
  randomLoads,
  randomLookups,
  tenOver,
} from './traffic.ts';

const MILLION = 1_000_000;
const SIZES = [1, 10, 1000, MILLION] as const;
const ROUNDS = 25;
const REPEATS = 20_000;

const p10 = (samples: readonly number[]): number =>
  samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 10)]!;

/** A namespace with steering and one listener for both families. */
export class SteeredNetns {
  readonly name: string;
  readonly netns: Fd;
  readonly steering: SocketSteering;
  readonly server: TcpListener;

  private constructor(name: string, netns: Fd, steering: SocketSteering, server: TcpListener) {
    this.name = name;
    this.netns = netns;
    this.steering = steering;
    this.server = server;
  }

  static async make(name: string): Promise<SteeredNetns> {
    const netns = createNamedNetns(name);
    withNetns(netns, () => changeDevice(1, { up: true }));
    const { steering } = await SocketSteering.load(name);
    const server = withNetns(netns, () => new TcpListener(addressBytes('::'), 0));
    await steering.register(server.fd, { label: 'web' });
    return new SteeredNetns(name, netns, steering, server);
  }

  program(): Program {
    return openPinnedProgram(`/sys/fs/bpf/sluice/sockets/${this.steering.netns.cookie}/program`)!;
  }

  async apply(bindings: readonly Binding[]): Promise<number> {
    const start = performance.now();
    await this.steering.apply({ bindings, labels: new Map() });
    return Math.round(performance.now() - start);
  }

  async close(): Promise<void> {
    this.server.close();
    this.steering.close();
    await SocketSteering.unload(this.name);
    this.netns.close();
    deleteNetns(this.name);
  }
}

function emptyProgram(): Program {
  return Program.load({
    type: 'BPF_PROG_TYPE_SK_LOOKUP',
    name: 'slc_empty',
    instructions: linkProgram(new Assembler().return(1).finish(), {}),
    expectedAttachType: 'BPF_SK_LOOKUP',
  });
}

/** Runs each rival once a round. @returns the 10th percentile of each */
function race<const T extends Readonly<Record<string, () => number>>>(rivals: T): Record<keyof T, number> {
  const samples = Object.keys(rivals).map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++)
    for (const [index, run] of Object.values(rivals).entries()) samples[index]!.push(run());
  return Object.fromEntries(Object.keys(rivals).map((name, index) => [name, p10(samples[index]!)])) as Record<
    keyof T,
    number
  >;
}

/** What the program adds to a look-up when one packet is repeated: everything is in the nearest cache. */
export async function measureRepeated(at: SteeredNetns): Promise<object[]> {
  const pattern = PATTERNS[0]!;
  const context = (localAddress: Uint8Array): Uint8Array =>
    skLookupContext({
      protocol: 6,
      localAddress,
      localPort: 443,
      remoteAddress: Uint8Array.of(192, 0, 2, 1),
      remotePort: 4000,
    });
  using empty = emptyProgram();
  using program = at.program();
  const rows = [];
  for (const bindings of SIZES) {
    const applyMs = await at.apply(bindingsOf(pattern, bindings));
    const run = (which: Program, address: Uint8Array) => (): number =>
      testRun(which, { context: context(address), repeat: REPEATS }).durationNs;
    const hit = addressAt(pattern, bindings >> 1);
    const ns = race({
      empty: run(empty, hit),
      hit: run(program, hit),
      miss: run(program, Uint8Array.of(9, 9, 9, 9)),
    });
    rows.push({
      bindings,
      applyMs,
      emptyNs: ns.empty,
      addedHitNs: ns.hit - ns.empty,
      addedMissNs: ns.miss - ns.empty,
    });
  }
  return rows;
}

/** How many times as much a million bindings cost as ten. */
interface MillionToTen {
  /** The whole look-up of the same packets, which is what has a bound. */
  readonly wholeSamePackets: number;
  /** The whole look-up, each of its own bindings' packets: the kernel's part grows with the destinations, too. */
  readonly whole: number;
  /** What the program adds to an empty one. */
  readonly added: number;
  readonly addedSamePackets: number;
}

/** `tenSamePacketsNs`: ten bindings that take the million's packets. */
interface LookupTimes {
  readonly tenNs: number;
  readonly tenSamePacketsNs: number;
  readonly millionNs: number;
}

interface PatternResult {
  readonly pattern: string;
  readonly applyMs: number;
  readonly added: LookupTimes;
  readonly whole: LookupTimes;
  readonly millionToTen: MillionToTen;
}

const BOUND = 2;

/** A million bindings cost at most twice what ten do: the whole look-up of the same packets. */
export function againstBound(results: readonly PatternResult[]): object {
  const ratios = results.map(
    ({ pattern, millionToTen }) => [pattern, millionToTen.wholeSamePackets] as const,
  );
  return {
    measured: 'whole look-up of the same packets, a million bindings ÷ ten',
    bound: BOUND,
    ratios: Object.fromEntries(ratios),
    holds: ratios.every(([, ratio]) => ratio <= BOUND),
  };
}

/**
 * Each look-up is for a random binding. `million` and `ten` have as many bindings and are asked for these; `tenSame` has
 * ten that take the million's packets, which it gets. Each is compared with the empty program under its packets.
 */
export async function measureRandom(name: string, million: SteeredNetns): Promise<PatternResult[]> {
  const ten = await SteeredNetns.make(`${name}-ten`);
  const bare = createNamedNetns(`${name}-bare`);
  using empty = emptyProgram();
  const link = attachSkLookup(empty, bare.number);
  try {
    const rows: PatternResult[] = [];
    for (const pattern of PATTERNS) rows.push(await measurePattern(pattern, million, ten, bare));
    return rows;
  } finally {
    link.close();
    bare.close();
    deleteNetns(`${name}-bare`);
    await ten.close();
  }
}

async function measurePattern(
  pattern: Pattern,
  million: SteeredNetns,
  ten: SteeredNetns,
  bare: Fd,
): Promise<PatternResult> {
  const applyMs = await million.apply(bindingsOf(pattern, MILLION));
  const used = pattern.stride === 1n ? 20 : pattern.bits;
  const tenSame = await SteeredNetns.make(`${ten.name}-same`);
  try {
    await ten.apply(bindingsOf(pattern, 10));
    await tenSame.apply(tenOver(pattern, used));
    using few = randomLookups(pattern, 10);
    using many = randomLookups(pattern, MILLION);
    const data = new Uint8Array(64);
    const run = (netns: Fd, program: Program) => (): number =>
      withNetns(netns, () => testRun(program, { data, repeat: REPEATS })).durationNs;
    const ns = race({
      ten: run(ten.netns, few),
      tenBare: run(bare, few),
      million: run(million.netns, many),
      millionBare: run(bare, many),
      tenSame: run(tenSame.netns, many),
    });
    const added = {
      tenNs: ns.ten - ns.tenBare,
      tenSamePacketsNs: ns.tenSame - ns.millionBare,
      millionNs: ns.million - ns.millionBare,
    };
    const whole = { tenNs: ns.ten, tenSamePacketsNs: ns.tenSame, millionNs: ns.million };
    const ratio = (to: number, of: number): number => Number((of / to).toFixed(2));
    return {
      pattern: pattern.name,
      applyMs,
      added,
      whole,
      millionToTen: {
        added: ratio(added.tenNs, added.millionNs),
        whole: ratio(whole.tenNs, whole.millionNs),
        addedSamePackets: ratio(added.tenSamePacketsNs, added.millionNs),
        wholeSamePackets: ratio(whole.tenSamePacketsNs, whole.millionNs),
      },
    };
  } finally {
    await tenSame.close();
  }
}

/** One dependent load of a random word, by how much memory the words take. */
export function measureLoads(): object[] {
  return [2 ** 15, 2 ** 19, 2 ** 20, 2 ** 21, 2 ** 22, 2 ** 24, 2 ** 26].map((bytes) => {
    const loads = randomLoads(bytes);
    try {
      const data = new Uint8Array(64);
      const ns = race({ loads: () => testRun(loads.program, { data, repeat: REPEATS }).durationNs });
      return { bytes, loadNs: Number((ns.loads / CHAIN).toFixed(1)) };
    } finally {
      loads.close();
    }
  });
}
