/** `-m u32`: net/netfilter/xt_u32.c. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatU32Tests, parseU32Tests, type U32Test } from '../../text/u32-tests.ts';

const MAXIMUM_SHIFT = 31;

interface U32State {
  tests: readonly U32Test[] | undefined;
  negate: boolean;
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
});
