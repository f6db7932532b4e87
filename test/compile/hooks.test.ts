/**
 * Programs of xdp, tcx and cgroup in the user-space machine do what the evaluator says, to every counter: frames with tags and
 * padding, of other families, cut short; both ways through the host; every fragment strategy; records of LOG; and answers,
 * byte for byte those of the netstack.
 */
import { expect, test } from 'vitest';
import { hookSubject, PLACES } from '../support/hook-cases.ts';
import { hookCases } from '../support/hook-rules.ts';

test.each(PLACES)('$name', (place) => {
  const cases = hookCases(place);
  let compared = 0;
  for (const given of cases) {
    const subject = hookSubject(given);
    if (subject === undefined) continue;
    expect(subject.write()(), given.text).toBeUndefined();
    compared += 1;
  }
  expect(compared).toBeGreaterThan(cases.length / 3);
});
