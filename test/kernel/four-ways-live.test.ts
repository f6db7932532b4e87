/**
 * Four ways, packet by packet: the evaluator, the programs in the user-space machine, the programs in the running kernel
 * on real packets, and the real iptables-legacy. The last two each have a namespace, alike in devices, addresses and
 * routes, into which every packet comes by a TAP device; after each one every counter and the verdict is the same.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CompileError } from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { isDemanding } from '../support/demanding.ts';
import { FourWays } from '../support/four-ways.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { type GeneratedRuleset, generatedRuleset } from '../support/generate/rulesets.ts';
import type { Shape } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 40 : 1;
const RULESETS = 9 * SOAK;
const PACKETS = 160;
/** Of all packets, those that meet such rules. */
const TELLING_SHARE = 0.6;
interface Case {
  readonly ruleset: GeneratedRuleset;
  readonly shapes: readonly Shape[];
  /** What a failure shows of it. */
  readonly [fc.toStringMethod]: () => string;
}

/** What no program does; refused, which is tested elsewhere. */
const REFUSED = /--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;
/** Devices have other numbers in the machine. */
const DEVICE_OF_ADDRESS = / --limit-iface-(in|out)/g;

function cases(family: Family, stateful: boolean): fc.Arbitrary<Case> {
  const takes = generatedRuleset({ family, stateful }).filter(({ text }) => !REFUSED.test(text));
  const rulesets = takes.map((generated) => ({
    ...generated,
    text: generated.text.replace(DEVICE_OF_ADDRESS, ''),
  }));
  return rulesets.chain((ruleset) =>
    fc
      .array(packetsFor(ruleset), { minLength: PACKETS, maxLength: PACKETS, size: 'max' })
      .map((shapes) => ({ ruleset, shapes, [fc.toStringMethod]: () => ruleset.text })),
  );
}

describeKernel('evaluator = interpreter = kernel program = iptables', () => {
  for (const family of ['ipv4', 'ipv6'] as const) {
    test.each([
      { kind: 'without conditions on connections', stateful: false },
      { kind: 'with conditions on connections', stateful: true },
    ])(`${family}, $kind: counters and verdict after every packet`, async ({ stateful }) => {
      let compared = 0;
      let telling = 0;
      let refused = 0;
      await withNamespaces(['iptables', 'sluice'], ({ iptables, sluice }) => {
        const ways = new FourWays(iptables, sluice);
        const property = fc.property(cases(family, stateful), ({ ruleset, shapes }) => {
          try {
            expect(ways.firstDifference(ruleset, shapes)).toBeUndefined();
          } catch (error) {
            if (!(error instanceof CompileError)) throw error;
            refused++;
            return;
          }
          compared += shapes.length;
          if (isDemanding(ruleset.text)) telling += shapes.length;
        });
        // A failing case is small enough to read as it is; shrinking would take minutes.
        fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
      });
      console.log(
        `${family} ${stateful ? 'stateful' : 'stateless'}: ${compared} packets four ways, ${telling} of them through rules about state, devices, fragments or user chains; ${refused} rulesets refused`,
      );
      expect(telling).toBeGreaterThanOrEqual(compared * TELLING_SHARE);
      expect(refused).toBeLessThan(RULESETS / 2);
    });
  }
});
