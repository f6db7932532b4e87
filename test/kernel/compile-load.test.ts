/** Compiled programs pass the kernel's verifier at every hook, and say what the rules say. */
import { expect, test } from 'vitest';
import { compilePolicy, entryIndex, HOOK_NAMES } from '../../src/compile/index.ts';
import { netfilterContext } from '../../src/kernel/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { LoadedPolicy } from '../support/policy.ts';

function rules(lines: readonly string[], family: 'ipv4' | 'ipv6' = 'ipv4') {
  const text = [
    '*filter',
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ...lines,
    'COMMIT',
    '',
  ].join('\n');
  const { ruleset, diagnostics } = parseRuleset(text, { file: 'test', family });
  expect(diagnostics).toEqual([]);
  return ruleset;
}

describeKernel('compiled programs in the kernel', () => {
  for (const hook of HOOK_NAMES) {
    test(`load at ${hook}`, () => {
      const policy = compilePolicy(
        [
          rules(['-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT', '-A INPUT -i lo -j ACCEPT']),
          rules(['-A INPUT -s 2001:db8::/32 -p tcp -m tcp --dport 22 -j ACCEPT'], 'ipv6'),
        ],
        { hooks: [hook] },
      );
      using loaded = new LoadedPolicy(policy);
      expect(loaded.programs.size).toBeGreaterThan(0);
    });
  }

  test('a packet at LOCAL_OUT', () => {
    const policy = compilePolicy([rules(['-A OUTPUT -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DROP'])], {
      hooks: ['netfilter'],
    });
    using loaded = new LoadedPolicy(policy);
    const place = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 3 });
    const packet = new Uint8Array(40);
    packet.set([
      0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1, 0x30, 0x39, 0, 53, 0, 20, 0, 0,
    ]);
    expect(loaded.run(place, { data: packet, context: netfilterContext('ipv4', 3) }).returnValue).toBe(0);
    packet[23] = 54;
    expect(loaded.run(place, { data: packet, context: netfilterContext('ipv4', 3) }).returnValue).toBe(1);
  });
});
