/** `-m u32`: net/netfilter/xt_u32.c. */
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatU32Tests, parseU32Tests, type U32Test } from '../../text/u32-tests.ts';
import { refuse } from '../../uapi/errno.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { hasBytes, readUint32 } from '../header.ts';

const MAXIMUM_SHIFT = 31;

/** XT_U32_MAXSIZE + 1: of tests, of numbers and of values. */
const MOST = 11;
/** Places in struct xt_u32_test, and the number of tests behind them. */
const VALUES_AT = 8 * MOST;
const NUMBERS_AT = 16 * MOST;
const TEST_BYTES = 16 * MOST + 4;
const COUNT_AT = TEST_BYTES * MOST;
/** By number of XT_U32_*. */
const OPERATORS = ['&', '<<', '>>', '@'] as const;

function readTest(view: DataView, at: number): U32Test {
  const [numbers, values] = [view.getUint8(at + NUMBERS_AT), view.getUint8(at + NUMBERS_AT + 1)];
  if (numbers === 0 || numbers > MOST || values > MOST) refuse('a test of u32 is too long');
  const steps = Array.from({ length: numbers - 1 }, (_, index) => {
    const step = at + 8 * (index + 1);
    const operator = OPERATORS[view.getUint8(step + 4)];
    if (operator === undefined) refuse('a test of u32 computes something unknown');
    return { operator, operand: view.getUint32(step, true) };
  });
  const ranges = Array.from({ length: values }, (_, index) => {
    const value = at + VALUES_AT + 8 * index;
    return { min: view.getUint32(value, true), max: view.getUint32(value + 4, true) };
  });
  return { start: view.getUint32(at, true), steps, ranges };
}

function writeTest(view: DataView, at: number, { start, steps, ranges }: U32Test): void {
  view.setUint32(at, start, true);
  for (const [index, { operator, operand }] of steps.entries()) {
    view.setUint32(at + 8 * (index + 1), operand, true);
    view.setUint8(at + 8 * (index + 1) + 4, OPERATORS.indexOf(operator));
  }
  for (const [index, { min, max }] of ranges.entries()) {
    view.setUint32(at + VALUES_AT + 8 * index, min, true);
    view.setUint32(at + VALUES_AT + 8 * index + 4, max, true);
  }
  view.setUint8(at + NUMBERS_AT, steps.length + 1);
  view.setUint8(at + NUMBERS_AT + 1, ranges.length);
}

interface U32State {
  tests: readonly U32Test[] | undefined;
  negate: boolean;
}

/** Index of the first test that does not hold, -1 when all do (u32_match_it). */
function failingTest({ tests }: U32State, packet: EvaluationPacket): number {
  return tests!.findIndex(({ start, steps, ranges }) => {
    const value = valueAt(packet, start, steps);
    return value === undefined || !ranges.some(({ min, max }) => value >= min && value <= max);
  });
}

function valueAt(packet: EvaluationPacket, start: number, steps: U32Test['steps']): number | undefined {
  if (!hasBytes(packet, start, 4)) return undefined;
  let value = readUint32(packet, start);
  let base = 0;
  for (const { operator, operand } of steps) {
    if (operator === '&') value = (value & operand) >>> 0;
    else if (operator === '<<') value = (value << operand) >>> 0;
    else if (operator === '>>') value >>>= operand;
    else {
      base += value;
      if (!hasBytes(packet, base + operand, 4)) return undefined;
      value = readUint32(packet, base + operand);
    }
  }
  return value;
}

export const u32: MatchExtension = defineMatch<U32State>({
  name: 'u32',
  families: ['ipv4', 'ipv6'],
  summary: 'Numbers of 4 bytes at computed places of the packet',
  options: [
    {
      name: 'u32',
      arguments: 1,
      negatable: true,
      syntax: '"location=value[,…][&&…]"',
      summary: 'All tests hold: the number at the location is one of the values, or in one of the ranges',
      apply(state, [value], negated) {
        state.tests = parseU32Tests(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ tests: undefined, negate: false }),
  finish: (state) => requireAll('u32', { u32: state.tests !== undefined }),
  admit({ tests }) {
    for (const { steps } of tests!)
      for (const { operator, operand } of steps)
        if ((operator === '<<' || operator === '>>') && operand > MAXIMUM_SHIFT)
          throw new OptionError(`numbers are shifted by at most ${MAXIMUM_SHIFT} bits, not by ${operand}`, {
            argument: -1,
          });
  },
  list: (state) => ` u32${state.negate ? ' !' : ''} "${formatU32Tests(state.tests!)}"`,
  print: (state) => `${state.negate ? ' !' : ''} --u32 "${formatU32Tests(state.tests!)}"`,
  // struct xt_u32
  abi: [
    {
      name: 'u32',
      revision: 0,
      everyFamily: true,
      size: 1984,
      decode(view) {
        const count = view.getUint8(COUNT_AT);
        if (count > MOST) refuse(`there are no ${count} tests`);
        const tests = Array.from({ length: count }, (_, index) => readTest(view, index * TEST_BYTES));
        return { tests, negate: readBoolean(view, COUNT_AT + 1) };
      },
      encode({ tests, negate }, view) {
        for (const [index, test] of tests!.entries()) writeTest(view, index * TEST_BYTES, test);
        view.setUint8(COUNT_AT, tests!.length);
        view.setUint8(COUNT_AT + 1, negate ? 1 : 0);
      },
    },
  ],
  // Computed offsets of any depth: the packet reads of a program are not.
  semantics: {
    evaluate: (state, packet) => failingTest(state, packet) < 0 !== state.negate,
    explain: (state, packet) =>
      state.negate ? 'all tests hold' : `test ${failingTest(state, packet) + 1} of u32 does not hold`,
  },
});
