/** A compiled policy in the kernel, without links: its dispatchers and programs are run on given packets (test run). */
import {
  buildDispatcher,
  COUNTER_SIZE,
  type CompiledPolicy,
  type CompiledProgram,
  entryIndex,
  FIRST_PROGRAM_INDEX,
  type FlightRole,
  GENERATIONS_OFFSET,
  Generation,
  type GenerationParts,
  generationImage,
  initializeArena,
  Record as PolicyRecord,
  PROGRAM_ARRAY_SIZE,
  programArrayName,
  recordHome,
} from '../../src/compile/index.ts';
import {
  Arena,
  BpfMap,
  currentNetnsCookie,
  kernelTypes,
  linkProgram,
  Program,
  possibleCpus,
  type TestRunOptions,
  type TestRunResult,
  testRun,
} from '../../src/kernel/index.ts';

const PAGE = 4096;
const GIB4 = 0x1_0000_0000n;
/** Where arenas of tests are mapped: a fresh multiple of 4 GiB each. */
let nextAddress = 0x1000n;

export interface CountedCounter {
  readonly packets: bigint;
  readonly bytes: bigint;
}

export class LoadedPolicy {
  policy: CompiledPolicy;
  readonly arena: Arena;
  readonly maps: Record<string, BpfMap> = {};
  readonly programs = new Map<number, Program>();
  readonly dispatchers = new Map<number, Program>();
  #image: { root: number; size: number };
  readonly #surroundings: (entries: ReadonlyMap<number, number>) => GenerationParts;
  readonly #entries = new Map<number, number>();

  constructor(
    policy: CompiledPolicy,
    extra: Partial<GenerationParts> = {},
    role: FlightRole = 'only',
    places?: readonly number[],
    room = 1,
    /** Room for larger generations, see {@link renew}. */
    spareBytes = 0,
  ) {
    this.policy = policy;
    const surroundings = (entries: ReadonlyMap<number, number>): GenerationParts => ({
      cpus: possibleCpus(),
      number: 1n,
      addresses: [],
      devices: new Map(),
      ...extra,
      entries,
    });
    this.#surroundings = surroundings;
    const probe = generationImage(policy.counters, policy.state, surroundings(new Map()), policy.classifier);
    nextAddress += 1n;
    this.arena = Arena.create({
      name: 'slc_test_arena',
      pages: Math.ceil((GENERATIONS_OFFSET + probe.size * room + spareBytes) / PAGE),
      address: nextAddress * GIB4,
    });
    try {
      for (const map of policy.maps) {
        this.maps[map.name] = BpfMap.create({ ...map, name: map.name.slice(0, 15) });
      }
      const entries = this.#entries;
      const known = new Map<CompiledProgram['code'], Program>();
      for (const [index, program] of policy.programs.entries()) {
        const place = entryIndex(program.point);
        if (places !== undefined && !places.includes(place)) continue;
        const loaded = known.get(program.code) ?? this.#load(program);
        known.set(program.code, loaded);
        this.programs.set(place, loaded);
        entries.set(place, FIRST_PROGRAM_INDEX + index);
        this.#array(program).update(FIRST_PROGRAM_INDEX + index, loaded.fd.number);
        const dispatcher = this.#load(buildDispatcher(program.point, role));
        this.dispatchers.set(place, dispatcher);
        this.#array(program).update(place, dispatcher.fd.number);
      }
      const root = GENERATIONS_OFFSET;
      const image = generationImage(policy.counters, policy.state, surroundings(entries), policy.classifier);
      this.#image = { root, size: image.size };
      const memory = new Uint8Array(this.arena.buffer);
      initializeArena(memory, possibleCpus());
      memory.set(image.build(root), root);
      this.enter(currentNetnsCookie(), root);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes of the generation's extent; there is room for `room` of them. */
  get size(): number {
    return this.#image.size;
  }

  /** Puts another policy's generation in the place of this one's; it must have the same programs, as tables do. */
  renew(policy: CompiledPolicy): void {
    const root = GENERATIONS_OFFSET;
    const surroundings = this.#surroundings(this.#entries);
    const image = generationImage(policy.counters, policy.state, surroundings, policy.classifier);
    new Uint8Array(this.arena.buffer).set(image.build(root), root);
    this.#image = { root, size: image.size };
    this.policy = policy;
  }

  get view(): DataView {
    return new DataView(this.arena.buffer);
  }

  /** Makes the record of a namespace. */
  enter(cookie: bigint, root: number): void {
    const record = recordHome(cookie);
    this.view.setUint32(record + PolicyRecord.root, root, true);
    this.view.setBigUint64(record + PolicyRecord.cookie, cookie, true);
  }

  #array(program: CompiledProgram): BpfMap {
    const name = programArrayName(program.point);
    this.maps[name] ??= BpfMap.create({
      type: 'BPF_MAP_TYPE_PROG_ARRAY',
      name: name.slice(0, 15),
      keySize: 4,
      valueSize: 4,
      maxEntries: PROGRAM_ARRAY_SIZE,
    });
    return this.maps[name];
  }

  #load(program: CompiledProgram): Program {
    this.#array(program);
    return Program.load({
      type: program.type,
      name: program.name,
      instructions: linkProgram(program.code, {
        maps: this.maps,
        arenas: { arena: this.arena },
        types: kernelTypes(),
      }),
      expectedAttachType: program.attachType,
    });
  }

  /** Runs the dispatcher of a place on a packet. */
  run(place: number, options: TestRunOptions): TestRunResult {
    return testRun(this.dispatchers.get(place)!, options);
  }

  /** Sum over the CPUs of counter `index` of the generation. */
  counter(index: number): CountedCounter {
    const { view } = this;
    const { root } = this.#image;
    const base = view.getUint32(root + Generation.counters, true);
    const stride = view.getUint32(root + Generation.counterStride, true);
    const cpus = view.getUint32(root + Generation.cpus, true);
    let packets = 0n;
    let bytes = 0n;
    for (let cpu = 0; cpu < cpus; cpu++) {
      packets += view.getBigUint64(base + cpu * stride + index * COUNTER_SIZE, true);
      bytes += view.getBigUint64(base + cpu * stride + index * COUNTER_SIZE + 8, true);
    }
    return { packets, bytes };
  }

  /** Values of a hash map of 8-byte keys and values, which is emptied. */
  takeAll(name: string): bigint[] {
    const map = this.maps[name];
    if (map === undefined) return [];
    const values: bigint[] = [];
    for (const [key, value] of map.entries()) {
      values.push(new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true));
      map.delete(key);
    }
    return values;
  }

  /** All counters to zero, and state words as in a fresh generation: the next packets count alone. */
  reset(): void {
    const { view } = this;
    const { root } = this.#image;
    const base = view.getUint32(root + Generation.counters, true);
    const stride = view.getUint32(root + Generation.counterStride, true);
    const cpus = view.getUint32(root + Generation.cpus, true);
    new Uint8Array(this.arena.buffer, base, stride * cpus).fill(0);
    const state = view.getUint32(root + Generation.state, true);
    for (const [index, value] of this.policy.state.entries())
      view.setBigUint64(state + index * 8, value, true);
  }

  close(): void {
    for (const program of [...this.programs.values(), ...this.dispatchers.values()]) program.close();
    for (const map of Object.values(this.maps)) map.close();
    this.arena.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
