/** `-m set` and `-j SET` in programs against the evaluator: the same verdicts, and the same sets after the same packets. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileCase, firstDifference, judgeCase } from '../support/machine-cases.ts';
import { kinds, listCases, type SetCase, setCases } from '../support/set-cases.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

/** Runs the packets through both, and compares verdicts, counters and sets. */
function compare({ form, given }: SetCase): void {
  const strategy = form === 'code' ? 'inline' : 'classifier';
  const judged = judgeCase(given)!;
  if (judged.expected.some((one) => one === undefined)) throw new Error('a packet that no rule sees');
  const policy = compileCase(judged, strategy);
  expect(new Set(policy.choices.map((choice) => choice.strategy))).toEqual(new Set([strategy]));
  expect(firstDifference(judged, policy)).toBe(undefined);
}

describe.each(['ipv4', 'ipv6'] as const)('sets in %s programs', (family) => {
  const every = (cases: fc.Arbitrary<SetCase>): void =>
    fc.assert(fc.property(cases, compare), { numRuns: 12 * SOAK });

  it.each(kinds(family))('%s', (type, entries) => every(setCases(family, type, entries)));

  it('list:set is looked up in every form', () => every(listCases(family, 'asked')));

  it('the first member of a list:set that takes an entry gets it, and the first that has it loses it', () =>
    every(listCases(family, 'changed')));
});
