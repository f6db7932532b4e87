/** A compiled policy's netfilter programs in the kernel, with one generation, held by this process alone: no pins. */
import {
  ACTIONS_MAP,
  type ActionFilter,
  type AddressType,
  buildActionFilter,
  buildBackstop,
  buildDispatcher,
  type CompiledPolicy,
  type CompiledProgram,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  GENERATIONS_OFFSET,
  Generation,
  generationImage,
  initializeArena,
  Record as PolicyRecord,
  programArrayName,
  recordHome,
} from '../../compile/index.ts';
import { type Arena, BpfMap, kernelTypes, linkProgram, Program, possibleCpus } from '../../kernel/index.ts';
import type { SetContents } from '../../rules/index.ts';
import { createArena, forgetArena } from '../arenas.ts';
import type { ReadCounters } from './account.ts';
import { installSets, setsRoom } from './sets.ts';

const PAGE_BYTES = 4096;

/** What a program, a backstop or a socket filter is loaded from. */
type Loadable = Omit<CompiledProgram, 'point' | 'attachType'> & Partial<Pick<CompiledProgram, 'attachType'>>;

/** Where a policy runs. */
export interface PolicySite {
  /** Of the namespace. */
  readonly cookie: bigint;
  readonly addresses: readonly AddressType[];
  /** IP sets that rules name. */
  readonly sets?: readonly SetContents[] | undefined;
}

/** Closed with all that it made. */
export class LoadedPolicy {
  readonly policy: CompiledPolicy;
  /** By `entryIndex`. */
  readonly dispatchers: Map<number, Program> = new Map();
  readonly #arena: Arena;
  readonly #maps: Record<string, BpfMap> = {};
  readonly #programs: Program[] = [];
  readonly #filters = new Map<string, Program>();

  /** @throws {KernelError} having closed everything */
  constructor(policy: CompiledPolicy, { cookie, addresses, sets }: PolicySite) {
    this.policy = policy;
    const cpus = possibleCpus();
    const entries = new Map(
      policy.programs.map(({ point }, index) => [entryIndex(point), FIRST_PROGRAM_INDEX + index]),
    );
    const image = generationImage(
      policy.counters,
      policy.state,
      { cpus, number: 1n, addresses, devices: new Map(), entries },
      policy.classifier,
    );
    const bytes = GENERATIONS_OFFSET + image.size + setsRoom(sets);
    this.#arena = createArena('slc_run', Math.ceil(bytes / PAGE_BYTES));
    try {
      for (const map of policy.maps) {
        this.#maps[map.name] = BpfMap.create({ ...map, name: map.name.slice(0, 15) });
      }
      const known = new Map<CompiledProgram['code'], Program>();
      for (const [index, program] of policy.programs.entries()) {
        const array = this.#maps[programArrayName(program.point)]!;
        const loaded = known.get(program.code) ?? this.#load(program);
        known.set(program.code, loaded);
        array.update(FIRST_PROGRAM_INDEX + index, loaded.fd.number);
        const dispatcher = this.#load(buildDispatcher(program.point, 'only'));
        array.update(entryIndex(program.point), dispatcher.fd.number);
        this.dispatchers.set(entryIndex(program.point), dispatcher);
      }
      const memory = new Uint8Array(this.#arena.buffer);
      initializeArena(memory, cpus);
      memory.set(image.build(GENERATIONS_OFFSET), GENERATIONS_OFFSET);
      installSets(this.#arena.buffer, GENERATIONS_OFFSET + image.size, sets);
      const view = new DataView(this.#arena.buffer);
      view.setUint32(recordHome(cookie) + PolicyRecord.root, GENERATIONS_OFFSET, true);
      view.setBigUint64(recordHome(cookie) + PolicyRecord.cookie, cookie, true);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The socket filter by which a rule of the action chain matches. */
  filter(filter: ActionFilter): Program {
    const built = buildActionFilter(filter);
    const program = this.#filters.get(built.name) ?? this.#load(built);
    this.#filters.set(built.name, program);
    return program;
  }

  /** Drops packets whose action nobody has carried out. */
  backstop(): Program {
    return this.#load(buildBackstop());
  }

  #load({ type, name, code, attachType }: Loadable): Program {
    const program = Program.load({
      type,
      name,
      instructions: linkProgram(code, {
        maps: this.#maps,
        arenas: { arena: this.#arena },
        types: kernelTypes(),
      }),
      ...(attachType === undefined ? {} : { expectedAttachType: attachType }),
    });
    this.#programs.push(program);
    return program;
  }

  /** Packets and bytes of every counter, one after the other, summed over the CPUs. */
  readonly readCounters: ReadCounters = (into) => {
    const view = new DataView(this.#arena.buffer, GENERATIONS_OFFSET);
    const first = view.getUint32(Generation.counters, true);
    const stride = view.getUint32(Generation.counterStride, true);
    const cpus = view.getUint32(Generation.cpus, true);
    into.fill(0n);
    for (let cpu = 0; cpu < cpus; cpu++) {
      const counters = new BigUint64Array(this.#arena.buffer, first + cpu * stride, into.length);
      for (let index = 0; index < into.length; index++) into[index] = into[index]! + counters[index]!;
    }
  };

  /** What programs have handed on to the action chain, if it is not there: taken out. */
  takeHanded(): bigint {
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
    for (const program of this.#programs.splice(0)) program.close();
    for (const map of Object.values(this.#maps)) map.close();
    forgetArena(this.#arena.map);
  }
}
