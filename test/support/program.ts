/** Small programs for kernel tests: a verdict and a counter of how often it was given. */
import { Assembler, type AttachType, type ProgramType, R0, R1, R2 } from '../../src/isa/index.ts';
import { BpfMap, linkProgram, MapFlag, Program, type ProgramObjects } from '../../src/kernel/index.ts';

/** Assembles and links in one go. */
export function assemble(emit: (asm: Assembler) => void, objects: ProgramObjects = {}): Uint8Array {
  const asm = new Assembler();
  emit(asm);
  return linkProgram(asm.finish(), objects);
}

/** Attach types that PROG_LOAD wants to know. */
const expected: Partial<Record<ProgramType, AttachType>> = {
  BPF_PROG_TYPE_NETFILTER: 'BPF_NETFILTER',
  BPF_PROG_TYPE_SK_LOOKUP: 'BPF_SK_LOOKUP',
};

/** Loads a program of `type`; `attachType` where the type alone does not say it (cgroup). */
export function loadProgram(
  type: ProgramType,
  emit: (asm: Assembler) => void,
  objects: ProgramObjects = {},
  attachType?: AttachType,
): Program {
  const expectedAttachType = attachType ?? expected[type];
  const instructions = assemble(emit, objects);
  return Program.load({
    type,
    name: 'slc_test',
    instructions,
    ...(expectedAttachType === undefined ? {} : { expectedAttachType }),
  });
}

/** A program that counts its runs and always says `verdict`. */
export class CountingProgram {
  readonly program: Program;
  readonly #map: BpfMap;
  readonly #words: BigUint64Array;
  readonly #unmap: () => void;

  constructor(type: ProgramType, verdict: number, attachType?: AttachType) {
    this.#map = BpfMap.create({
      type: 'BPF_MAP_TYPE_ARRAY',
      name: 'slc_count',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
      flags: MapFlag.BPF_F_MMAPABLE,
    });
    const mapping = this.#map.mmap();
    this.#words = new BigUint64Array(mapping.buffer, 0, 1);
    this.#unmap = () => mapping.unmap();
    this.program = loadProgram(
      type,
      (asm) => {
        asm.loadMapValue(R1, 'count').mov(R2, 1).atomic('add', 'u64', R1, 0, R2).mov(R0, verdict).exit();
      },
      { maps: { count: this.#map } },
      attachType,
    );
  }

  /** Runs so far. */
  get count(): number {
    return Number(Atomics.load(this.#words, 0));
  }

  close(): void {
    this.program.close();
    this.#unmap();
    this.#map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
