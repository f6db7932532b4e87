/** One ruleset in the evaluator, the interpreter, the kernel's programs and iptables, and the same packets through all. */
import {
  type AddressType,
  type CompiledPolicy,
  compilePolicy,
  entryIndex,
  GROUP_TABLES,
} from '../../src/compile/index.ts';
import { removeAids } from '../../src/host/policy/aids.ts';
import { kernelHz, netnsTables } from '../../src/host/policy/surroundings.ts';
import { CompiledTables } from '../../src/host/replay/compiled.ts';
import { namespaceReassembler } from '../../src/host/replay/host.ts';
import { COMPILED_TABLES } from '../../src/host/replay/interpreter.ts';
import { attachPolicy, REPLAY_POLICY } from '../../src/host/replay/live/place.ts';
import { type Station, Stations } from '../../src/host/replay/live/stations.ts';
import { LoadedPolicy } from '../../src/host/replay/loaded.ts';
import { MACHINE_HZ, PolicyMachine } from '../../src/host/replay/machine.ts';
import { HOOK_CHAINS, Hook } from '../../src/ir/index.ts';
import { currentNetnsCookie, type Link } from '../../src/kernel/index.ts';
import type { Family } from '../../src/net/index.ts';
import { Conntrack } from '../../src/netstack/conntrack/index.ts';
import {
  createHost,
  type EvaluationHost,
  evaluatePacket,
  type PacketInput,
  parseRuleset,
  type Reassembler,
  type Ruleset,
  type RunTable,
} from '../../src/rules/index.ts';
import { programCounts } from './compare.ts';
import type { GeneratedRuleset } from './generate/rulesets.ts';
import type { Shape } from './generate/shape.ts';
import { worldRouting } from './generate/world.ts';
import { type CounterLine, evaluatedCounters, LiveFirewall } from './live-firewall.ts';
import { openTaps } from './live-stack.ts';
import type { Host } from './netns.ts';
import type { Tap } from './tap.ts';

const HOOKS: readonly Hook[] = [Hook.PRE_ROUTING, Hook.LOCAL_IN, Hook.FORWARD, Hook.POST_ROUTING];
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
/** Packets between two times that the devices' queues are emptied. */
const UNREAD = 100;
/** The evaluator's jiffies are those of HZ=250. */
const JIFFY_MS = 4;

export interface FourWayDifference {
  readonly packet: number;
  readonly hex: string;
  readonly inDevice: string;
  /** What each of the others has that the evaluator has not, and the other way round. */
  readonly ways: Readonly<Record<string, readonly string[]>>;
}

/** A host that packets are evaluated at, and the memories that last from ruleset to ruleset. */
class Judge {
  readonly #nowMs: () => number;
  /** Fragments wait in the namespaces whatever rules come and go, so they must wait here, too. */
  readonly #reassembler: Reassembler;
  #host: EvaluationHost | undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#reassembler = namespaceReassembler({ nowMs });
  }

  load(rules: Ruleset, stateful: boolean, runTable?: RunTable): void {
    this.#host = createHost({
      ruleset: rules,
      routing: worldRouting(rules.family),
      nowMs: this.#nowMs,
      random32: () => 0x7fffffff,
      reassembler: this.#reassembler,
      ...(stateful ? { conntrack: new Conntrack({ clock: { nowMs: this.#nowMs } }) } : {}),
      ...(runTable === undefined ? {} : { runTable }),
    });
  }

  /** Counters and verdict, after the packet. */
  decide(input: PacketInput): readonly CounterLine[] {
    const { verdict } = evaluatePacket(this.#host!, input);
    return [...evaluatedCounters(this.#host!), `verdict ${verdict}`];
  }
}

/** Sluice's programs in a namespace like the firewall's. */
class LivePrograms {
  readonly #host: Host;
  readonly #taps: ReadonlyMap<string, Tap>;
  readonly #stations: Stations;
  readonly addresses: readonly AddressType[];
  #loaded: LoadedPolicy | undefined;
  #links: readonly Link[] = [];
  #injected = 0;

  constructor(host: Host) {
    this.#host = host;
    this.#stations = host.keep(host.run(() => new Stations(FAMILIES, HOOKS)));
    this.#taps = openTaps(host);
    this.addresses = host.run(netnsTables).addresses;
    host.keep({ close: () => this.#unload() });
  }

  load(ruleset: Ruleset, policy: CompiledPolicy): void {
    this.#unload();
    // What an earlier ruleset tracked must not be known to this one.
    this.#host.exec('conntrack', ['-F'], { allowFailure: true });
    this.#host.run(() => {
      this.#loaded = new LoadedPolicy(policy, { cookie: currentNetnsCookie(), addresses: this.addresses });
      this.#links = attachPolicy(this.#loaded, [ruleset], [...HOOKS, Hook.LOCAL_OUT]);
    });
  }

  decide(device: string, bytes: Uint8Array, ethernet: Uint8Array): readonly CounterLine[] {
    const tap = this.#taps.get(device)!;
    this.#injected++;
    const destination = String(ethernet.subarray(0, 6));
    tap.inject(bytes, {
      source: ethernet.subarray(6, 12),
      ...(destination === String(tap.mac) ? {} : { destination: ethernet.subarray(0, 6) }),
    });
    if (this.#injected % UNREAD === 0) for (const own of this.#taps.values()) own.drain();
    const { policy } = this.#loaded!;
    const counters = new BigUint64Array(policy.counters * 2);
    this.#loaded!.readCounters(counters);
    const counts = programCounts(policy, (index) => ({
      packets: counters[index * 2]!,
      bytes: counters[index * 2 + 1]!,
    }));
    const lines = Object.entries(counts).map(([key, value]) => `${key.replace(/ 0$/, ' policy')} ${value}`);
    return [...lines.sort(), verdictOf(this.#stations.take())];
  }

  #unload(): void {
    for (const link of this.#links) link.close();
    this.#links = [];
    if (this.#loaded !== undefined) this.#host.run(() => removeAids(REPLAY_POLICY));
    this.#loaded?.close();
    this.#loaded = undefined;
  }
}

export class FourWays {
  readonly #firewall: LiveFirewall;
  readonly #firewallStations: Stations;
  readonly #programs: LivePrograms;
  readonly #nowMs = (): number => performance.now();
  readonly #evaluator = new Judge(this.#nowMs);
  readonly #interpreter = new Judge(this.#nowMs);

  constructor(iptables: Host, sluice: Host) {
    this.#firewallStations = iptables.keep(iptables.run(() => new Stations(FAMILIES, HOOKS)));
    this.#firewall = new LiveFirewall(iptables);
    this.#programs = new LivePrograms(sluice);
  }

  /** The first difference; `undefined` when all four agree after every packet. @throws {CompileError} */
  firstDifference(generated: GeneratedRuleset, shapes: readonly Shape[]): FourWayDifference | undefined {
    const { family, text, stateful } = generated;
    const { ruleset } = parseRuleset(text, { file: 'generated.rules', family });
    const options = { hooks: ['netfilter'], tables: COMPILED_TABLES } as const;
    const policy = compilePolicy([ruleset], { ...options, hz: kernelHz() });
    const interpreted = compilePolicy([ruleset], { ...options, hz: MACHINE_HZ });
    this.#programs.load(ruleset, policy);
    this.#firewall.load(family, text);
    this.#evaluator.load(ruleset, stateful);
    this.#interpreter.load(ruleset, stateful, this.#machineTables(interpreted));
    const counted = countedBy(policy, family);
    this.#firewallStations.take();
    for (const [packet, shape] of shapes.entries()) {
      const input = this.#firewall.inject(shape);
      const iptables = [...this.#firewall.counters(), verdictOf(this.#firewallStations.take())];
      const kernel = this.#programs.decide(input.inDevice, input.bytes, input.ethernet!);
      const interpreter = this.#interpreter.decide(input);
      const evaluator = this.#evaluator.decide(input);
      const ways = {
        ...differing('iptables', iptables, evaluator),
        ...differing('kernel', kernel, evaluator.filter(counted)),
        ...differing('interpreter', interpreter, evaluator),
      };
      if (Object.keys(ways).length === 0) continue;
      const hex = Buffer.from(input.bytes).toString('hex');
      return { packet, hex, inDevice: input.inDevice, ways };
    }
    return undefined;
  }

  #machineTables(policy: CompiledPolicy): RunTable {
    const jiffies = (): number => Math.floor(this.#nowMs() / JIFFY_MS) * JIFFY_MS;
    const machine = new PolicyMachine(policy, {
      clock: { monotonicNs: () => BigInt(jiffies()) * 1_000_000n },
      random: () => 0x7fffffff,
      surroundings: { addresses: this.#programs.addresses },
    });
    return new CompiledTables({
      policy,
      run: (place, packet) => machine.run(place, packet),
      readCounters: (into) => machine.readCounters(into),
    }).run;
  }
}

function differing(
  name: string,
  theirs: readonly string[],
  evaluated: readonly string[],
): Readonly<Record<string, readonly string[]>> {
  const more = theirs.filter((line) => !evaluated.includes(line));
  const less = evaluated.filter((line) => !theirs.includes(line)).map((line) => `evaluator: ${line}`);
  return more.length + less.length === 0 ? {} : { [name]: [...more, ...less] };
}

/** ACCEPT for a packet that is behind the last tables of its way. */
function verdictOf(stations: readonly Station[]): string {
  const last = stations.at(-1);
  const through = last?.passed === true && (last.hook === Hook.LOCAL_IN || last.hook === Hook.POST_ROUTING);
  return `verdict ${through ? 'ACCEPT' : 'DROP'}`;
}

/** Lines that programs count: chains that have one, and counters that have moved. */
function countedBy(policy: CompiledPolicy, family: Family): (line: string) => boolean {
  const places = new Set(policy.programs.map(({ point }) => entryIndex(point)));
  const idle = new Set(
    (['raw', 'mangle', 'filter'] as const).flatMap((group) =>
      GROUP_TABLES[group].flatMap((table) =>
        ([0, 1, 2, 3, 4] as const)
          .filter((hook) => !places.has(entryIndex({ flavour: 'netfilter', group, family, hook })))
          .map((hook) => `${table} ${HOOK_CHAINS[hook]} policy`),
      ),
    ),
  );
  return (line) => !line.endsWith(' 0:0') && !idle.has(line.split(' ').slice(0, 3).join(' '));
}
