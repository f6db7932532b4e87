/**
 * The evaluator and the compiled programs in the interpreter agree: verdicts and every counter, devices and mark
 * included, with clock and chance injected so that limit and statistic are compared too. SLUICE_SOAK=1 multiplies.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compilePolicy, entryIndex, type TableGroup } from '../../src/compile/index.ts';
import { HOOK_CHAINS, type Hook } from '../../src/ir/index.ts';
import type { Family } from '../../src/net/index.ts';
import { createHost, parseRuleset } from '../../src/rules/index.ts';
import { worldAddressTypes } from '../support/addresstypes.ts';
import { evaluatorCounts, judge, onlyTable, programCounts } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';
import { MACHINE_HZ, MachinePolicy } from '../support/machine-policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const TIMEOUT_MS = SOAK ? 600_000 : 60_000;
const RULESETS = SOAK ? 2000 : 60;
const PACKETS = 40;
const REFUSED =
  /--chunk-types|--limit-iface|--(src|dst)-type [A-Z,]*(UNREACHABLE|BLACKHOLE|PROHIBIT|THROW|NAT|XRESOLVE|UNSPEC)/;
const GROUPS: readonly TableGroup[] = ['raw', 'mangle', 'filter'];
const MAC = /-m mac/;

/** Chains for tables are longer, so that most of them have vectors. */
const FORMS = [
  { strategy: 'inline', maximumRules: 6 },
  { strategy: 'classifier', maximumRules: 40 },
] as const;

function cases(family: Family, maximumRules: number) {
  return generatedRuleset({ family, maximumRules })
    .filter(({ text }) => !REFUSED.test(text) && !MAC.test(text))
    .chain((generated) =>
      fc.record({
        generated: fc.constant(generated),
        group: fc.constantFrom(...GROUPS),
        hook: fc.constantFrom<Hook>(0, 1, 2, 3, 4),
        packets: fc.array(
          fc.record({
            bytes: packetsFor(generated, { fragments: true }).map(buildPacket),
            inDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
            outDevice: fc.constantFrom('eth0', 'eth1', 'lo'),
            mark: fc.constantFrom(0, 1, 2, 0xffffffff),
            packetType: fc.constantFrom(0, 1, 2),
            waitMs: fc.constantFrom(0, 0, 4, 1000, 90_000),
          }),
          { minLength: PACKETS, maxLength: PACKETS },
        ),
      }),
    );
}

function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

describe('evaluator = interpreter', () => {
  const each = FORMS.flatMap((form) => (['ipv4', 'ipv6'] as const).map((family) => ({ ...form, family })));
  for (const { strategy, maximumRules, family } of each) {
    test(
      `generated rulesets, ${strategy}, ${family}`,
      () => {
        let compared = 0;
        const property = fc.property(cases(family, maximumRules), ({ generated, group, hook, packets }) => {
          const { ruleset: whole, diagnostics } = parseRuleset(generated.text, { file: 'generated', family });
          expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
          const ruleset = onlyTable(whole, group);
          if (!ruleset.tables[0]?.chains.some(({ name }) => name === HOOK_CHAINS[hook])) return;
          const policy = compilePolicy([ruleset], { hooks: ['netfilter'], hz: MACHINE_HZ, strategy });
          const place = entryIndex({ flavour: 'netfilter', family, group, hook });
          const clock = { ms: 1_000_000 };
          const host = createHost({
            ruleset,
            routing: worldRouting(family),
            nowMs: () => clock.ms,
            random32: xorshift(7),
          });
          const machine = new MachinePolicy(policy, {
            clock,
            random: xorshift(7),
            surroundings: { addresses: worldAddressTypes(family) },
          });
          for (const { bytes, inDevice, outDevice, mark, packetType, waitMs } of packets) {
            clock.ms += waitMs;
            const input = {
              bytes,
              hook,
              inDevice: hook === 3 || hook === 4 ? '' : inDevice,
              outDevice: hook < 2 ? '' : outDevice,
              mark,
              packetType,
            };
            const expected = judge(host, ruleset, input);
            if (expected === undefined) continue;
            const verdict = machine.run(place, { ...input, family });
            if (verdict === undefined) return;
            const packet = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
            expect({ packet, verdict }).toEqual({ packet, verdict: expected.verdict });
            compared += 1;
          }
          expect(programCounts(policy, (index) => machine.counter(index))).toEqual(evaluatorCounts(host));
        });
        fc.assert(property, { numRuns: RULESETS, endOnFailure: true });
        expect(compared).toBeGreaterThan(RULESETS * 5);
      },
      TIMEOUT_MS,
    );
  }
});
