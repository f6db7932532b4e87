/**
 * Random programs of well-formed instructions on everything that a machine has: maps of every kind, helpers and kernel functions
 * with arguments of every kind, callbacks, arena pointers, tail calls. None does worse than a typed error, none goes on for
 * ever, and the machine is as it was: what no program may touch is untouched, and other programs do what they did.
 */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { imm32 } from '../../../test/support/instructions.ts';
import {
  type AssembledProgram,
  Assembler,
  HELPERS,
  type HelperName,
  IsaError,
  JUMP_CONDITIONS,
  type JumpCondition,
  type Label,
  type ProgramType,
  R0,
  R1,
  R2,
  R3,
  R4,
  R10,
  REGISTERS,
} from '../../isa/index.ts';
import { type Context, NetfilterContext, SkbContext, SkLookupContext, XdpContext } from '../context.ts';
import { VmError } from '../error.ts';
import { KFUNC_NAMES } from '../helpers/index.ts';
import { Machine } from '../machine.ts';
import type { MapSpec } from '../maps/map.ts';
import type { ObjectMap } from '../maps/object-map.ts';
import type { Program } from '../program.ts';

const RUNS = process.env.SLUICE_SOAK === '1' ? 15_000 : 1500;
const BUDGET = 20_000;
const PACKET = Uint8Array.from({ length: 90 }, (_, at) =>
  at === 12 ? 8 : at === 13 ? 0 : at === 14 ? 0x45 : at,
);

const MAPS: readonly MapSpec[] = (
  [
    ['hash', 'BPF_MAP_TYPE_HASH', 8, 16],
    ['array', 'BPF_MAP_TYPE_ARRAY', 4, 16],
    ['percpu', 'BPF_MAP_TYPE_PERCPU_HASH', 4, 8],
    ['lru', 'BPF_MAP_TYPE_LRU_HASH', 8, 8],
    ['lpm', 'BPF_MAP_TYPE_LPM_TRIE', 8, 8],
    ['jumps', 'BPF_MAP_TYPE_PROG_ARRAY', 4, 4],
    ['queue', 'BPF_MAP_TYPE_QUEUE', 0, 8],
    ['ring', 'BPF_MAP_TYPE_RINGBUF', 0, 0],
    ['arena', 'BPF_MAP_TYPE_ARENA', 0, 0],
  ] as const
).map(([name, type, keySize, valueSize]) => ({
  name,
  type,
  keySize,
  valueSize,
  maxEntries: type === 'BPF_MAP_TYPE_RINGBUF' ? 4096 : 4,
  // Tries must not be made ahead of their entries.
  ...(type === 'BPF_MAP_TYPE_LPM_TRIE' ? { flags: 1 } : {}),
}));

const TYPES = [
  'BPF_PROG_TYPE_XDP',
  'BPF_PROG_TYPE_SCHED_CLS',
  'BPF_PROG_TYPE_CGROUP_SKB',
  'BPF_PROG_TYPE_NETFILTER',
  'BPF_PROG_TYPE_SK_LOOKUP',
] as const satisfies readonly ProgramType[];

/** A few instructions; they find a label before them and one behind them, and the function that is called back. */
type Piece = (
  asm: Assembler,
  labels: { readonly back: Label; readonly ahead: Label; readonly callback: Label },
) => void;

const general = fc.integer({ min: 0, max: 9 }).map((number) => REGISTERS[number]!);
const any = fc.integer({ min: 0, max: 10 }).map((number) => REGISTERS[number]!);
const stackOffset = fc.integer({ min: 1, max: 64 }).map((slot) => -8 * slot);
const mapName = fc.constantFrom(...MAPS.map(({ name }) => name));

/** What helpers are called with: numbers, the stack, maps, the context, the packet, arena memory, functions. */
const argument = (index: number): fc.Arbitrary<Piece> => {
  const to = REGISTERS[index]!;
  return fc.oneof(
    imm32.map(
      (value): Piece =>
        (asm) =>
          asm.mov(to, value),
    ),
    fc.nat(64).map(
      (value): Piece =>
        (asm) =>
          asm.mov(to, value),
    ),
    stackOffset.map(
      (offset): Piece =>
        (asm) =>
          asm.mov(to, R10).add(to, offset),
    ),
    mapName.map(
      (name): Piece =>
        (asm) =>
          asm.loadMap(to, name),
    ),
    fc.constant<Piece>((asm) => asm.mov(to, REGISTERS[6]!)),
    any.map(
      (from): Piece =>
        (asm) =>
          asm.mov(to, from),
    ),
    fc.nat(70_000).map(
      (at): Piece =>
        (asm) =>
          asm.loadArena(to, 'arena', at).castToKernel(to, to),
    ),
    fc.constant<Piece>((asm, { callback }) => asm.loadFunction(to, callback)),
  );
};
const args = fc.tuple(...[1, 2, 3, 4, 5].map(argument));
const calling =
  (call: (asm: Assembler) => void, given: readonly Piece[]): Piece =>
  (asm, labels) => {
    for (const one of given) one(asm, labels);
    call(asm);
  };

const sizes = fc.constantFrom('u8', 'u16', 'u32', 'u64');
const operations = fc.constantFrom(
  'add',
  'sub',
  'mul',
  'div',
  'mod',
  'and',
  'or',
  'xor',
  'lsh',
  'rsh',
  'arsh',
  'mov',
);
const conditions = fc.constantFrom(...(Object.keys(JUMP_CONDITIONS) as JumpCondition[]));

const piece: fc.Arbitrary<Piece> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(operations, general, fc.oneof(any, imm32)).map(
      ([what, to, by]): Piece =>
        (asm) =>
          asm.alu(what, to, by),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(operations, general, fc.oneof(any, imm32)).map(
      ([what, to, by]): Piece =>
        (asm) =>
          asm.alu32(what, to, by),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(sizes, stackOffset, fc.oneof(general, imm32)).map(
      ([size, at, value]): Piece =>
        (asm) =>
          asm.store(size, R10, at, value),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(sizes, general, any, fc.integer({ min: -520, max: 520 })).map(
      ([size, to, from, at]): Piece =>
        (asm) =>
          asm.load(size, to, from, at),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(sizes, any, fc.integer({ min: -520, max: 520 }), general).map(
      ([size, to, at, value]): Piece =>
        (asm) =>
          asm.store(size, to, at, value),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(stackOffset, general, fc.constantFrom('add', 'or', 'and', 'xor')).map(
      ([at, from, what]): Piece =>
        (asm) =>
          asm.atomic(what as 'add', 'u64', R10, at, from, 'fetch'),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(conditions, any, fc.oneof(any, imm32)).map(
      ([when, a, b]): Piece =>
        (asm, { ahead }) =>
          asm.jump(when, a, b, ahead),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(conditions, any, fc.oneof(any, imm32)).map(
      ([when, a, b]): Piece =>
        (asm, { back }) =>
          asm.jump32(when, a, b, back),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Piece>((asm, { ahead }) => asm.mayGoto(ahead)) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom(...(Object.keys(HELPERS) as HelperName[])), args)
      .map(([name, given]) => calling((asm) => asm.call(name), given)),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(...KFUNC_NAMES), args)
      .map(([name, given]) => calling((asm) => asm.callKfunc(name), given)),
  },
  // As programs mean it: look-ups with a key on the stack, loops with a function, tail calls with the context.
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constantFrom('lookup', 'update', 'delete'), mapName, stackOffset, stackOffset).map(
      ([what, name, key, value]): Piece =>
        (asm, { ahead }) => {
          asm.mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, value).mov(R4, 0).loadMap(R1, name);
          asm.call(`bpf_map_${what}_elem` as HelperName);
          if (what === 'lookup') asm.jump('==', R0, 0, ahead).load('u64', R3, R0, 0);
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(300), stackOffset).map(
      ([rounds, context]): Piece =>
        (asm, { callback }) => {
          asm
            .mov(R1, rounds)
            .loadFunction(R2, callback)
            .mov(R3, R10)
            .add(R3, context)
            .mov(R4, 0)
            .call('bpf_loop');
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(mapName, stackOffset).map(
      ([name, context]): Piece =>
        (asm, { callback }) => {
          asm.loadMap(R1, name).loadFunction(R2, callback).mov(R3, R10).add(R3, context).mov(R4, 0);
          asm.call('bpf_for_each_map_elem');
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.nat(5).map(
      (index): Piece =>
        (asm) => {
          asm.mov(R1, REGISTERS[6]!).loadMap(R2, 'jumps').mov(R3, index).call('bpf_tail_call');
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(70_000), sizes).map(
      ([at, size]): Piece =>
        (asm) => {
          asm
            .loadArena(R1, 'arena', at)
            .castToKernel(R2, R1)
            .load(size, R3, R2, 0)
            .store(size, R2, 8, R3)
            .castToUser(R1, R2);
        },
    ),
  },
);

function assemble(body: readonly Piece[], callback: readonly Piece[]): AssembledProgram | undefined {
  const asm = new Assembler();
  const called = asm.label('called_back');
  const section = (pieces: readonly Piece[]): void => {
    let back = asm.label('back');
    asm.place(back);
    for (const one of pieces) {
      const ahead = asm.label('ahead');
      one(asm, { back, ahead, callback: called });
      asm.place(ahead);
      back = ahead;
    }
  };
  asm.mov(REGISTERS[6]!, R1);
  section(body);
  asm.mov(R0, 0).exit();
  asm.function('called_back', called);
  section(callback);
  asm.mov(R0, 0).exit();
  try {
    return asm.finish();
  } catch (error) {
    // A second operand that the instruction set does not have.
    if (error instanceof IsaError) return undefined;
    throw error;
  }
}

class World {
  readonly machine = new Machine({ budget: BUDGET, cpus: 2, environment: { netnsCookie: () => 1n } });
  readonly #contexts: ReadonlyMap<ProgramType, Context>;
  readonly #witness: Program;

  constructor() {
    const { machine } = this;
    for (const spec of MAPS) machine.createMap(spec);
    const packet = machine.createPacket();
    const skb = new SkbContext(machine, packet);
    this.#contexts = new Map<ProgramType, Context>([
      ['BPF_PROG_TYPE_XDP', new XdpContext(machine, packet)],
      ['BPF_PROG_TYPE_SCHED_CLS', skb],
      ['BPF_PROG_TYPE_CGROUP_SKB', skb],
      ['BPF_PROG_TYPE_NETFILTER', new NetfilterContext(machine, packet)],
      ['BPF_PROG_TYPE_SK_LOOKUP', new SkLookupContext(machine)],
    ]);
    const asm = new Assembler();
    asm.mov(R0, 40).mov(R1, 2).add(R0, R1).store('u64', R10, -8, R0).load('u64', R0, R10, -8).exit();
    this.#witness = machine.load(asm.finish());
  }

  /** What became of the program: its result, or the code of its error. */
  run(code: AssembledProgram, type: ProgramType): string {
    const { machine } = this;
    try {
      const program = machine.load(code, { type });
      const jumps = machine.map('jumps') as ObjectMap<Program>;
      const context = this.#contexts.get(type)!;
      context.packet?.set(PACKET, 14);
      try {
        jumps.put(0, program);
      } catch (error) {
        // Programs of one type only.
        if (!(error instanceof VmError)) throw error;
      }
      try {
        program.run(context);
        expect(machine.executed).toBeLessThanOrEqual(BUDGET);
        return 'ended';
      } finally {
        const key = new Uint8Array(4);
        if (jumps.get(key) !== undefined) jumps.remove(key);
        machine.unload(program);
      }
    } catch (error) {
      if (error instanceof VmError) return error.code;
      throw error;
    }
  }

  /** @throws when something is left of what ran before */
  check(): void {
    expect(this.machine.runRaw(this.#witness, new Uint8Array(0))).toBe(42n);
  }
}

describe('random programs', () => {
  test('end, or end in a typed error, and leave the machine whole', () => {
    const world = new World();
    const outcomes = new Map<string, number>();
    const program = fc.record({
      body: fc.array(piece, { minLength: 1, maxLength: 14 }),
      callback: fc.array(piece, { maxLength: 4 }),
      type: fc.constantFrom(...TYPES),
    });
    fc.assert(
      fc.property(program, ({ body, callback, type }) => {
        const code = assemble(body, callback);
        if (code === undefined) return;
        const outcome = world.run(code, type);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        world.check();
      }),
      { numRuns: RUNS },
    );
    // Programs that end, that touch what they must not, and that call what they must not are all among them.
    for (const outcome of ['ended', 'VM_ACCESS', 'VM_HELPER'])
      expect(outcomes.get(outcome) ?? 0).toBeGreaterThan(RUNS / 200);
    console.log([...outcomes].map(([outcome, count]) => `${outcome} ${count}`).join(', '));
  });
});
