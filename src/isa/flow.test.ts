import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runs } from '../../test/support/instructions.ts';
import { analyseFlow, type ControlFlow, successorsOf, unreachableSlots } from './flow.ts';
import { type Instruction, instruction } from './instruction.ts';
import { parseProgram } from './parse.ts';

describe('control flow', () => {
  test('blocks, edges, dominators of a diamond with a loop', () => {
    const { instructions } = parseProgram(`
      r0 = 0
      if r1 == 0x0 goto right
      r0 += 1
      goto join
      right:
      r0 += 2
      join:
      r2 += -1
      if r2 != 0x0 goto join
      exit
      r0 = 9
      exit
    `);
    const flow = analyseFlow(instructions);
    expect(flow.blocks.map(({ start, end, successors }) => [start, end, successors])).toEqual([
      [0, 2, [1, 2]],
      [2, 4, [3]],
      [4, 5, [3]],
      [5, 7, [4, 3]],
      [7, 8, []],
      [8, 10, []],
    ]);
    expect([...flow.dominators]).toEqual([-1, 0, 0, 0, 3, -1]);
    expect(unreachableSlots(instructions, flow)).toEqual([8, 9]);
  });

  test('functions have their own entries', () => {
    const { instructions } = parseProgram('call f\nexit\nf:\nif r1 > 0x1 goto end\nr0 = 1\nend:\nexit');
    const flow = analyseFlow(instructions);
    expect(flow.entries).toEqual([0, 1]);
    expect(flow.blocks.map(({ entry }) => entry)).toEqual([0, 1, 1, 1]);
    expect(unreachableSlots(instructions, flow)).toEqual([]);
  });

  /** Random forward and backward jumps, ending in exit. */
  const programs: fc.Arbitrary<Instruction[]> = fc
    .array(fc.tuple(fc.constantFrom('mov', 'if', 'goto', 'exit'), fc.nat()), { minLength: 1, maxLength: 25 })
    .map((plan) => [
      ...plan.map(([kind, at], index) => {
        const off = (at % (plan.length + 1)) - index - 1;
        if (kind === 'mov') return instruction(0xb7);
        if (kind === 'exit') return instruction(0x95);
        return kind === 'if' ? instruction(0x15, 0, 0, off) : instruction(0x05, 0, 0, off);
      }),
      instruction(0x95),
    ]);

  const reach = (program: readonly Instruction[], without: number): Set<number> => {
    const seen = new Set<number>();
    const todo = without === 0 ? [] : [0];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      todo.push(...successorsOf(program, at).filter((next) => next !== without));
    }
    return seen;
  };
  const dominates = (flow: ControlFlow, upper: number, block: number): boolean => {
    for (let at = block; at !== -1; at = flow.dominators[at]!) if (at === upper) return true;
    return false;
  };

  test('a block dominates another exactly when removing it cuts the other off', () => {
    fc.assert(
      fc.property(programs, (program) => {
        const flow = analyseFlow(program);
        const reachable = reach(program, -1);
        for (const block of flow.blocks) {
          expect(flow.reachable[block.id] === 1).toBe(reachable.has(block.start));
          const left = reach(program, block.start);
          for (const other of flow.blocks) {
            if (!reachable.has(other.start)) continue;
            expect(dominates(flow, block.id, other.id)).toBe(!left.has(other.start));
          }
        }
      }),
      { numRuns: runs(300) },
    );
  });
});
