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

  /** Chains one below the other, each called from so many places. */
  const LEVELS = 5;
  const CALLS = 5;
  const STEPS = 60_000;

  test.each([
    '-m limit --limit 5/min -j RETURN',
    '-m statistic --mode nth --every 3 --packet 0 -j RETURN',
    '-m statistic --mode nth --every 4294967295 --packet 7 -j LOG',
    '-m addrtype --dst-type LOCAL -m limit --limit 3/s -j LOG',
    '-p tcp -m tcp --tcp-option 3 -j REJECT --reject-with tcp-reset',
    '-p sctp -m sctp --chunk-types all DATA,INIT -j DROP',
    '-m mark --mark 1 -j MARK --set-mark 2',
  ])('%s below chains that are called from several places is verified once', (rule) => {
    const names = Array.from({ length: LEVELS }, (_, level) => `level-${level}`);
    const calls = (from: string, to: string): string[] =>
      Array.from({ length: CALLS }, (_, call) => `-A ${from} -s 10.${call}.0.0/16 -j ${to}`);
    const lines = names.flatMap((name, level) => [
      ...calls(names[level - 1] ?? 'INPUT', name),
      `-A ${name} ${rule}`,
    ]);
    const policy = compilePolicy([rules([...names.map((name) => `:${name} - [0:0]`), ...lines])], {
      hooks: ['netfilter'],
      strategy: 'inline',
    });
    const place = entryIndex({ flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 });
    using loaded = new LoadedPolicy(policy, {}, 'only', [place]);
    expect(loaded.programs.get(place)!.describe().verifiedInstructions).toBeLessThan(STEPS);
  });
});
