/** `allowPartial` never accepts a packet that the whole ruleset drops. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CompileError, compilePolicy, entryIndex } from '../../src/compile/index.ts';
import { createHost, parseRuleset } from '../../src/rules/index.ts';
import { worldAddressTypes } from '../support/addresstypes.ts';
import { judge, onlyTable } from '../support/compare.ts';
import { packetsFor } from '../support/generate/packets.ts';
import { generatedRuleset } from '../support/generate/rulesets.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { worldRouting } from '../support/generate/world.ts';
import { MachinePolicy } from '../support/machine-policy.ts';

const SOAK = process.env.SLUICE_SOAK === '1';
const RULESETS = SOAK ? 2000 : 80;

function ruleset(text: string) {
  const { ruleset: parsed, diagnostics } = parseRuleset(text, { file: 'partial', family: 'ipv4' });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  return parsed;
}

const HEAD = '*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:other - [0:0]\n';

describe('partial compilation', () => {
  test('is off unless asked for, and lists every rule otherwise', () => {
    const rules = ruleset(
      `${HEAD}-A INPUT -m addrtype --src-type UNREACHABLE -j RETURN\n-A INPUT -m addrtype --src-type PROHIBIT -j DROP\n-A INPUT -m addrtype --src-type BLACKHOLE -j other\n-A INPUT -m addrtype --dst-type THROW -j ACCEPT\nCOMMIT\n`,
    );
    const refused = (): unknown => compilePolicy([rules], { hooks: ['netfilter'] });
    expect(refused).toThrow(CompileError);
    try {
      refused();
    } catch (error) {
      const { refusals } = error as CompileError;
      expect(refusals.map(({ chain, rule }) => `${chain} ${rule}`)).toEqual([
        'INPUT 1',
        'INPUT 2',
        'INPUT 3',
        'INPUT 4',
      ]);
      expect(refusals.every(({ span }) => span?.file === 'partial')).toBe(true);
    }
    const policy = compilePolicy([rules], { hooks: ['netfilter'], allowPartial: true });
    expect(policy.weakened.map(({ rule, became }) => [rule, became])).toEqual([
      [1, 'drop'],
      [2, 'drop'],
      [3, 'drop'],
      [4, 'continue'],
    ]);
  });

  test('at xdp a rule about state accepts what is certain, and drops what may be', () => {
    const rules = ruleset(
      `${HEAD}-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -p tcp -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -p udp -m conntrack --ctstate NEW,RELATED -j ACCEPT\n-A INPUT -p tcp -m conntrack --ctstate NEW -j other\n-A INPUT -p udp -m conntrack --ctstate ESTABLISHED,DNAT -j ACCEPT\n-A INPUT -p udp -m conntrack ! --ctstate SNAT -j ACCEPT\nCOMMIT\n`,
    );
    const policy = compilePolicy([rules], { hooks: ['xdp'], allowPartial: true });
    expect(policy.weakened.map(({ rule, became }) => [rule, became])).toEqual([
      [1, 'narrow'],
      [2, 'drop'],
      [5, 'drop'],
      [6, 'narrow'],
      [7, 'continue'],
    ]);
    expect(policy.notices.some((notice) => notice.includes('outside the window'))).toBe(true);
  });

  test('accepts nothing that the whole ruleset drops', () => {
    let weakened = 0;
    const cases = generatedRuleset({ family: 'ipv4', maximumRules: 8 })
      // The machine's table of addresses knows no devices here.
      .filter(({ text }) => !text.includes('--limit-iface'))
      .chain((generated) =>
        fc.record({
          generated: fc.constant(generated),
          packets: fc.array(packetsFor(generated, { fragments: true }).map(buildPacket), {
            minLength: 30,
            maxLength: 30,
          }),
        }),
      );
    fc.assert(
      fc.property(cases, ({ generated, packets }) => {
        // Conditions that nothing compiles, in any rule.
        const text = generated.text.replace(
          /-m comment --comment ("(\\.|[^"])*"|\S+)/g,
          '-m addrtype --src-type PROHIBIT',
        );
        const rules = onlyTable(ruleset(text), 'filter');
        const policy = compilePolicy([rules], { hooks: ['netfilter'], allowPartial: true });
        weakened += policy.weakened.length;
        const routing = worldRouting('ipv4');
        const host = createHost({ ruleset: rules, routing, nowMs: () => 0, random32: () => 0 });
        const surroundings = { addresses: worldAddressTypes('ipv4') };
        const machine = new MachinePolicy(policy, { random: () => 0, surroundings });
        for (const bytes of packets) {
          const input = { bytes, hook: 1 as const, inDevice: 'eth0', outDevice: '' };
          const whole = judge(host, rules, input);
          if (whole === undefined) continue;
          const place = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 });
          const part = machine.run(place, { ...input, family: 'ipv4' });
          if (part === 'ACCEPT' && policy.weakened.length > 0) expect(whole.verdict).toBe('ACCEPT');
        }
      }),
      { numRuns: RULESETS, endOnFailure: true },
    );
    expect(weakened).toBeGreaterThan(10);
  });
});
