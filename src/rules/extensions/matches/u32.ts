/** `-m u32`: net/netfilter/xt_u32.c. */
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatU32Tests, parseU32Tests, type U32Test } from '../../text/u32-tests.ts';
import { hasBytes, readUint32 } from '../header.ts';

const MAXIMUM_SHIFT = 31;

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
  print: (state) => `${state.negate ? ' !' : ''} --u32 "${formatU32Tests(state.tests!)}"`,
  // Computed offsets of any depth: the packet reads of a program are not.
  semantics: {
    evaluate: (state, packet) => failingTest(state, packet) < 0 !== state.negate,
    explain: (state, packet) =>
      state.negate ? 'all tests hold' : `test ${failingTest(state, packet) + 1} of u32 does not hold`,
  },
});
