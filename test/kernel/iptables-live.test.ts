/**
 * The evaluator against the running kernel: generated rulesets are loaded by the real iptables, generated packets come
 * in by TAP devices, and after each packet every counter of every table must be the same on both sides.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { describeKernel } from '../support/kernel.ts';
import { LiveComparison } from '../support/live-compare.ts';
import { withNamespaces } from '../support/netns.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const RULESETS = 60 * SOAK;
const PACKETS = 120;

describeKernel('generated rulesets and packets against iptables-legacy', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test.each([
      { kind: 'stateless', stateful: false },
      { kind: 'with conditions on connections', stateful: true },
    ])(`${family}, $kind: every counter agrees after every packet`, async ({ stateful }) => {
      let compared = 0;
      await withNamespaces(['fw'], ({ fw }) => {
        const comparison = new LiveComparison(fw);
        const cases = generatedRuleset({ family, stateful }).chain((ruleset) =>
          fc.record({
            ruleset: fc.constant(ruleset),
            shapes: fc.array(packetsFor(ruleset), {
              minLength: PACKETS,
              maxLength: PACKETS,
              size: 'max',
            }),
          }),
        );
        fc.assert(
          fc.property(cases, ({ ruleset, shapes }) => {
            const difference = comparison.firstDifference(ruleset, shapes);
            compared += shapes.length;
            expect(difference, ruleset.text).toBeUndefined();
          }),
          // A failing case is small enough to read as it is; shrinking would take minutes.
          { numRuns: RULESETS, endOnFailure: true },
        );
      });
      console.log(`${family} ${stateful ? 'stateful' : 'stateless'}: ${compared} packets compared`);
    });
  }
});
