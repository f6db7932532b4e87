/** Pruned programs say what they say unpruned, in fewer instructions, and have no needless jumps. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as op from '../src/isa/index.ts';
import {
  type AssembledProgram,
  Assembler,
  formatProgram,
  type JumpCondition,
  link,
  R0,
  R1,
} from '../src/isa/index.ts';
import { Machine, XdpContext } from '../src/vm/index.ts';
import { runs } from './support/instructions.ts';

const CONDITIONS: readonly JumpCondition[] = [
  '==',
  '!=',
  '<',
  '<=',
  '>',
  '>=',
  '&',
  's<',
  's<=',
  's>',
  's>=',
];

/** A block does something, then perhaps jumps on: to the block so many further, on a condition or without. */
interface Block {
  readonly add: number;
  readonly jump?: { readonly condition?: JumpCondition; readonly value: number; readonly over: number };
}

const block: fc.Arbitrary<Block> = fc.record(
  {
    add: fc.nat(2),
    jump: fc.record(
      {
        condition: fc.constantFrom(...CONDITIONS),
        value: fc.integer({ min: -2, max: 6 }),
        over: fc.nat(3),
      },
      { requiredKeys: ['value', 'over'] },
    ),
  },
  { requiredKeys: ['add'] },
);

/** Blocks that add nothing are nothing but their jump. */
function assemble(blocks: readonly Block[], start: number, prune: boolean): AssembledProgram {
  const asm = new Assembler();
  const labels = [...blocks, undefined].map(() => asm.label());
  asm.mov(R0, start);
  for (const [index, { add, jump }] of blocks.entries()) {
    asm.place(labels[index]!);
    if (add > 0) asm.add(R0, add);
    if (jump === undefined) continue;
    const target = labels[Math.min(index + 1 + jump.over, blocks.length)]!;
    if (jump.condition === undefined) asm.goto(target);
    else asm.jump(jump.condition, R0, jump.value, target);
  }
  asm.place(labels.at(-1)!).exit();
  return asm.finish({ prune });
}

function run(program: AssembledProgram): number {
  const machine = new Machine();
  const unknown = (): undefined => undefined;
  const slots = link(program, {
    map: unknown,
    arena: unknown,
    kfunc: unknown,
    type: unknown,
    variable: unknown,
    field: unknown,
  });
  const packet = machine.createPacket(64).set(new Uint8Array(64), 0);
  return machine.load(slots, { type: 'BPF_PROG_TYPE_XDP' }).run(new XdpContext(machine, packet));
}

describe('pruning', () => {
  test('keeps what programs say', () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 12 }), fc.integer({ min: -3, max: 5 }), (blocks, start) => {
        const pruned = assemble(blocks, start, true);
        const whole = assemble(blocks, start, false);
        expect(run(pruned)).toBe(run(whole));
        expect(pruned.instructions.length).toBeLessThanOrEqual(whole.instructions.length);
        for (const [slot, { opcode, off }] of pruned.instructions.entries()) {
          const jumps = op.classOf(opcode) === op.BPF_JMP && opcode !== op.EXIT;
          if (jumps) expect(off, `slot ${slot}`).not.toBe(0);
          if (jumps) expect(pruned.instructions[slot + 1 + off]!.opcode, `slot ${slot}`).not.toBe(op.JA);
        }
      }),
      { numRuns: runs(300) },
    );
  });

  test('a branch around a jump becomes the opposite branch, and goes where that jump leads', () => {
    const asm = new Assembler();
    const [next, far, end] = [asm.label(), asm.label(), asm.label()];
    asm.jump('<', R1, 7, next).note('gone with the jump').goto(far);
    asm.place(next).note('stays').mov(R0, 1).exit();
    asm.place(far).goto(end).mov(R0, 9).exit();
    asm.place(end).mov(R0, 2).exit();
    const { instructions, references, notes } = asm.finish({ prune: true });
    expect(formatProgram(instructions, { references, notes }).split('\n')).toEqual([
      '   0: (35) if r1 >= 0x7 goto pc+2',
      '; stays',
      '   1: (b7) r0 = 1',
      '   2: (95) exit',
      '   3: (b7) r0 = 2',
      '   4: (95) exit',
    ]);
  });

  test('a jump into a jump that others come to by itself stays one', () => {
    const asm = new Assembler();
    const [again, out] = [asm.label(), asm.label()];
    asm.place(again).goto(again);
    asm.place(out).exit();
    expect(asm.finish({ prune: true }).instructions).toHaveLength(1);
  });
});
