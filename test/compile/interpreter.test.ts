/**
 * The evaluator and the compiled programs in the interpreter agree: verdicts and every counter, devices and mark
 * included, with clock and chance injected so that limit and statistic are compared too. SLUICE_SOAK=1 multiplies.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { firstDifference, judgeCase, machineCases } from '../support/machine-cases.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
/** (ruleset, packet) pairs of each family. */
const PAIRS = SOAK ? 1_000_000 : 100_000;
const PACKETS = 200;
const SHARE = 0.6;

describe('evaluator = interpreter', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`${PAIRS} pairs of generated rulesets and packets, ${family}`, () => {
      let compared = 0;
      let demanding = 0;
      let rulesets = 0;
      const property = fc.property(machineCases(family, PACKETS), (cases) => {
        for (const given of cases) {
          const judged = judgeCase(given);
          if (judged === undefined) continue;
          expect(firstDifference(judged)).toBeUndefined();
          const pairs = judged.expected.filter((one) => one !== undefined).length;
          compared += pairs;
          rulesets += 1;
          if (judged.demanding) demanding += pairs;
        }
      });
      let seed = fc.readConfigureGlobal().seed ?? Math.trunc(Math.random() * 0x7fff_ffff);
      while (compared < PAIRS) fc.assert(property, { seed: seed++, numRuns: 10, endOnFailure: true });
      console.log(
        `${family}: ${compared} (ruleset, packet) pairs at ${rulesets} hooks, ${((100 * demanding) / compared).toFixed(1)} % with state, device, fragment or user-chain rules`,
      );
      expect(demanding / compared).toBeGreaterThanOrEqual(SHARE);
    });
  }
});
