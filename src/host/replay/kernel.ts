/**
 * The rules as programs in the running kernel, asked by test runs: nothing is attached, no packet leaves. The way through
 * the host is the reference's, as for the interpreter.
 *
 * A netfilter test run (net/bpf/test_run.c) has no input device, `lo` as its output device, no connection, no mark, and
 * the kernel's own clock and chance. Rules that ask for one of these are refused, all of them at once.
 */
import {
  ACTIONS_MAP,
  buildDispatcher,
  type CompiledPolicy,
  type CompiledProgram,
  CompileError,
  compilePolicy,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  GENERATIONS_OFFSET,
  Generation,
  generationImage,
  initializeArena,
  Record as PolicyRecord,
  programArrayName,
  type Refusal,
  recordHome,
} from '../../compile/index.ts';
import type { Predicate } from '../../ir/index.ts';
import {
  Arena,
  BpfMap,
  currentNetnsCookie,
  kernelTypes,
  linkProgram,
  netfilterContext,
  Program,
  possibleCpus,
  testRun,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import { type EvaluationPacket, placesInOrder, type Ruleset } from '../../rules/index.ts';
import type { ReplayPacket } from './capture.ts';
import { ReplayClock } from './clock.ts';
import { CompiledTables, type ProgramRun } from './compiled.ts';
import type { CounterReport, Decision, ReplayEngine, ReplayOptions } from './engine.ts';
import { EvaluationEngine } from './evaluation.ts';
import { generationAddresses } from './host.ts';
import { COMPILED_TABLES } from './interpreter.ts';
import { installSets, setsRoom } from './sets.ts';

export class KernelEngine implements ReplayEngine {
  readonly name = 'kernel';
  readonly #way: EvaluationEngine;
  readonly #loaded: LoadedPolicy;

  /**
   * @throws {CompileError} when rules have no program, or ask for what a test run does not have
   * @throws {UnsupportedRulesError} when rules of the nat table cannot be evaluated
   * @throws {KernelError} without privilege, koffi or a kernel that is new enough
   */
  constructor(options: ReplayOptions) {
    const policy = compilePolicy(options.rulesets, {
      hooks: ['netfilter'],
      tables: COMPILED_TABLES,
      sets: placesInOrder(options.sets),
    });
    const refusals = beyondTestRuns(policy, options.rulesets);
    if (refusals.length > 0)
      throw new CompileError(refusals, '--engine interpreter runs the same programs on such rules, too');
    this.#loaded = new LoadedPolicy(policy, options);
    try {
      const tables = new CompiledTables(this.#loaded);
      this.#way = new EvaluationEngine(options, { clock: new ReplayClock(), runTable: tables.run });
    } catch (error) {
      this.#loaded.close();
      throw error;
    }
  }

  /** @throws {PacketTooLongError} */
  decide(packet: ReplayPacket): Decision {
    return this.#way.decide(packet);
  }

  counters(): readonly CounterReport[] {
    return this.#way.counters();
  }

  close(): void {
    this.#loaded.close();
  }
}

/** A packet that no test run takes: the kernel wants it in one page with its own structures. */
export class PacketTooLongError extends Error {
  readonly code = 'UNSUPPORTED_PACKET';
  readonly hint = '--engine interpreter takes packets of any length';
  constructor(bytes: number) {
    super(`a packet of ${bytes} bytes: test runs take ${MAXIMUM_FRAME - ETH_HLEN}`);
    this.name = 'PacketTooLongError';
  }
}

/** Every rule whose answer a test run would get wrong. */
function beyondTestRuns(policy: CompiledPolicy, rulesets: readonly Ruleset[]): Refusal[] {
  const refusals: Refusal[] = [];
  for (const { ir } of policy.tables) {
    const source = rulesets
      .find(({ family }) => family === ir.family)!
      .tables.find(({ name }) => name === ir.table)!;
    for (const { name: chain, rules } of ir.chains.values()) {
      for (const { predicates, source: place } of rules) {
        const span = source.chains.find(({ name }) => name === chain)?.rules[place.rule - 1]?.span;
        for (const what of new Set(predicates.flatMap(missingInTestRun))) {
          const { table, rule } = place;
          const reason = `a test run in the kernel has no ${what} of the packet`;
          refusals.push({ code: 'NOT_AT_HOOK', table, chain, rule, span, what, reason, hooks: [] });
        }
      }
    }
  }
  return refusals;
}

const DEVICE = { in: 'input device', out: 'output device' } as const;

/** What the predicate asks for that a test run does not have. */
function missingInTestRun(predicate: Predicate): readonly string[] {
  switch (predicate.kind) {
    case 'all':
    case 'any':
      return predicate.of.flatMap(missingInTestRun);
    case 'not':
      return missingInTestRun(predicate.of);
    case 'device':
      return [DEVICE[predicate.side]];
    case 'scalar':
      if (predicate.field === 'meta.mark') return ['mark'];
      if (predicate.field === 'meta.packetType') return ['packet type'];
      return predicate.field.startsWith('ct.') ? ['connection'] : [];
    case 'address':
    case 'address-range':
      return predicate.field.startsWith('ct.') ? ['connection'] : [];
    case 'address-type':
      return predicate.limitTo === 'none' ? [] : [DEVICE[predicate.limitTo]];
    case 'mac-source':
      return ['Ethernet header'];
    case 'limit':
      return ['time'];
    case 'statistic':
      return predicate.mode.kind === 'random' ? ['repeatable chance'] : [];
    case 'set':
      return predicate.key.words.flatMap(({ from }) => {
        if (from === 'in' || from === 'out') return [DEVICE[from]];
        if (from === 'mark') return ['mark'];
        return from.startsWith('mac') ? ['Ethernet header'] : [];
      });
    default:
      return [];
  }
}

const PAGE_BYTES = 4096;
const GIB4 = 0x1_0000_0000n;
/** Where arenas are mapped: a multiple of 4 GiB of its own each, so that pointers are offsets. */
let nextArena = 0x2000n;

const ETH_HLEN = 14;
const LOCAL_OUT = 3;
/** What bpf_test_init() leaves of a page. */
const MAXIMUM_FRAME = 3712;

/** The policy's dispatchers and programs in the kernel, with no links. Closed with all that it made. */
class LoadedPolicy {
  readonly policy: CompiledPolicy;
  readonly #arena: Arena;
  readonly #maps: Record<string, BpfMap> = {};
  readonly #programs: Program[] = [];
  readonly #dispatchers = new Map<number, Program>();

  /** @throws {KernelError} having closed everything */
  constructor(policy: CompiledPolicy, options: ReplayOptions) {
    this.policy = policy;
    const cpus = possibleCpus();
    const entries = new Map(
      policy.programs.map(({ point }, index) => [entryIndex(point), FIRST_PROGRAM_INDEX + index]),
    );
    const image = generationImage(
      policy.counters,
      policy.state,
      { cpus, number: 1n, addresses: generationAddresses(options), devices: new Map(), entries },
      policy.classifier,
    );
    this.#arena = Arena.create({
      name: 'slc_run',
      pages: Math.ceil((GENERATIONS_OFFSET + image.size + setsRoom(options.sets)) / PAGE_BYTES),
      address: nextArena++ * GIB4,
    });
    try {
      for (const map of policy.maps) {
        this.#maps[map.name] = BpfMap.create({ ...map, name: map.name.slice(0, 15) });
      }
      for (const [index, program] of policy.programs.entries()) {
        const array = this.#maps[programArrayName(program.point)]!;
        array.update(FIRST_PROGRAM_INDEX + index, this.#load(program).fd.number);
        const dispatcher = this.#load(buildDispatcher(program.point, 'only'));
        array.update(entryIndex(program.point), dispatcher.fd.number);
        this.#dispatchers.set(entryIndex(program.point), dispatcher);
      }
      const memory = new Uint8Array(this.#arena.buffer);
      initializeArena(memory, cpus);
      memory.set(image.build(GENERATIONS_OFFSET), GENERATIONS_OFFSET);
      installSets(this.#arena.buffer, GENERATIONS_OFFSET + image.size, options.sets);
      const cookie = currentNetnsCookie();
      const view = new DataView(this.#arena.buffer);
      view.setUint32(recordHome(cookie) + PolicyRecord.root, GENERATIONS_OFFSET, true);
      view.setBigUint64(recordHome(cookie) + PolicyRecord.cookie, cookie, true);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #load({ type, name, code, attachType }: CompiledProgram): Program {
    const program = Program.load({
      type,
      name,
      instructions: linkProgram(code, {
        maps: this.#maps,
        arenas: { arena: this.#arena },
        types: kernelTypes(),
      }),
      expectedAttachType: attachType,
    });
    this.#programs.push(program);
    return program;
  }

  run(place: number, { family, hook, bytes }: EvaluationPacket): ProgramRun | undefined {
    const dispatcher = this.#dispatchers.get(place);
    if (dispatcher === undefined) return undefined;
    const data = hook === LOCAL_OUT ? bytes : frameOf(family, bytes);
    if (data.length > MAXIMUM_FRAME) throw new PacketTooLongError(bytes.length);
    const context = netfilterContext(family, hook);
    const { returnValue } = testRun(dispatcher, { data, context, dataRoom: 0 });
    return { accepted: returnValue !== 0, handed: this.#takeHanded() };
  }

  readCounters(into: BigUint64Array): void {
    const view = new DataView(this.#arena.buffer, GENERATIONS_OFFSET);
    const first = view.getUint32(Generation.counters, true);
    const stride = view.getUint32(Generation.counterStride, true);
    const cpus = view.getUint32(Generation.cpus, true);
    into.fill(0n);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const counters = new BigUint64Array(this.#arena.buffer, first + cpu * stride, into.length);
      for (let index = 0; index < into.length; index++) into[index] = into[index]! + counters[index]!;
    }
  }

  /** What the program handed on to the action chain, which is not there: taken out. */
  #takeHanded(): bigint {
    let handed = 0n;
    const actions = this.#maps[ACTIONS_MAP];
    if (actions === undefined) return handed;
    for (const [key, value] of [...actions.entries()]) {
      handed = new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true);
      actions.delete(key);
    }
    return handed;
  }

  close(): void {
    for (const program of this.#programs) program.close();
    for (const map of Object.values(this.#maps)) map.close();
    this.#arena.close();
  }
}

/** Test runs at all hooks but LOCAL_OUT take an Ethernet frame; its addresses are those of `lo`. */
function frameOf(family: Family, packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETH_HLEN + packet.length);
  frame.set(family === 'ipv4' ? [0x08, 0x00] : [0x86, 0xdd], ETH_HLEN - 2);
  frame.set(packet, ETH_HLEN);
  return frame;
}
