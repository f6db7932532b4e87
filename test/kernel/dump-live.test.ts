/** `sluice dump` of live policies: at every kind of hook the programs that run and their tables, the rules beside them. */
import { expect, test } from 'vitest';
import type { HookName } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies, requireLive } from '../../src/host/index.ts';
import { parseSets } from '../../src/rules/index.ts';
import { ScratchCgroup } from '../support/cgroup.ts';
import { sluice } from '../support/cli.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, parsed, policyName } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';

const RULES = [
  '-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT',
  '-A INPUT -p udp -j known',
  '-A INPUT -m limit --limit 3/sec -j DROP',
  '-A known -p udp -m udp --dport 53 -j ACCEPT',
  '-A known -s 198.51.100.7/32 -j RETURN',
];

interface Dump {
  readonly dump: {
    /** Empty where all rules are code. */
    readonly tables: string;
    readonly programs: readonly { readonly name: string; readonly title: string; readonly text: string }[];
  };
}

/** Blocks of a listing by the remark above each. */
function blocksOf(text: string): ReadonlyMap<string, readonly string[]> {
  const blocks = new Map<string, string[]>();
  let block: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('; ')) {
      block = [];
      blocks.set(line.slice(2), block);
    } else block.push(line);
  }
  return blocks;
}

describeKernel('dump of live policies', () => {
  test.each<HookName>(['netfilter', 'xdp', 'tcx-ingress', 'cgroup-ingress'])('%s', (hook) =>
    withPair(async ({ b }) => {
      const policy = policyName();
      const cgroup = hook.startsWith('cgroup') ? new ScratchCgroup() : undefined;
      const devices = hook === 'xdp' || hook === 'tcx-ingress' ? ['a'] : [];
      try {
        await applyPolicy({
          policy,
          hooks: [hook],
          devices,
          namespaces: [b.netnsName],
          rulesets: [parsed(filterText([':known - [0:0]', ...RULES]))],
          ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
        });
        const { code, stdout, stderr } = await sluice([
          'dump',
          '--policy',
          policy,
          '--netns',
          b.netnsName,
          '--json',
        ]);
        expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
        const { programs, tables } = (JSON.parse(stdout) as Dump).dump;
        expect(tables).toBe('');
        const { document } = requireLive({ policy });
        expect(programs).toHaveLength(document.programs.length);
        const input = programs
          .map(({ text }) => blocksOf(text))
          .find((blocks) => blocks.has('ipv4 filter: :INPUT DROP'))!;
        for (const rule of RULES) {
          const chain = rule.split(' ')[1]!;
          const number = RULES.filter((one) => one.startsWith(`-A ${chain} `)).indexOf(rule) + 1;
          const block = input.get(`ipv4 filter ${number}: ${rule}`);
          expect(block, rule).toBeDefined();
          expect(
            block!.every((line) => /^ *\d+: \([0-9a-f]{2}\) /.test(line)),
            rule,
          ).toBe(true);
          // It counts the packet.
          expect(
            block!.some((line) => line.includes('*(u64 *)(r8 +')),
            rule,
          ).toBe(true);
        }
      } finally {
        await removePolicies({ policy }).catch(() => []);
        cgroup?.close();
      }
    }),
  );

  test('rules in tables, after edits, in their order', () =>
    withPair(async ({ b }) => {
      const policy = policyName();
      const words = ['dump', '--policy', policy, '--netns', b.netnsName];
      const rules = Array.from(
        { length: 300 },
        (_, index) => `-A INPUT -s 192.0.2.${index % 256}/32 -j ACCEPT`,
      );
      const call = '-A INPUT -p udp -j known';
      const known = '-A known -p udp -m udp --dport 53 -m mark --mark 0x7 -j DROP';
      const apply = (lines: readonly string[]): Promise<unknown> =>
        applyPolicy({
          policy,
          hooks: ['netfilter'],
          devices: [],
          namespaces: [b.netnsName],
          rulesets: [parsed(filterText([':known - [0:0]', ...lines, known]))],
        });
      try {
        await apply([...rules, call]);
        const edited = [...rules.slice(1, 100), call, ...rules.slice(101)];
        await apply(edited);
        const { code, stdout, stderr } = await sluice(words);
        expect({ code, stderr }, stdout.slice(0, 1000)).toEqual({ code: 0, stderr: '' });
        expect(stdout).toMatch(/\n# tables at 0x[0-9a-f]+: version \d+, \d+ chains\n/);
        expect(stdout).toMatch(
          /\nnetfilter INPUT ipv4 \(filter\), ipv4 packets at 0x[0-9a-f]+: ipv4 filter INPUT/,
        );
        const chains = stdout.split(/\nchain \d+: /);
        const rulesOf = (key: string): string[] =>
          [...chains.find((text) => text.startsWith(key))!.matchAll(/^; \d+: (.*)$/gm)].map(
            ([, rule]) => rule!,
          );
        expect(rulesOf('ipv4 filter INPUT, policy DROP')).toEqual(edited);
        expect(rulesOf('ipv4 filter known')).toEqual([known]);
        // What edits brought stands in a part of its own.
        expect(stdout.match(/^ {2}part at /gm)!.length).toBeGreaterThan(4);
        const after = (rule: string): string => stdout.split(`: ${rule}\n`)[1]!.split('\n')[0]!;
        expect(after(call)).toMatch(/^ {4}0x[0-9a-f]+: counter \d+, jump ipv4 filter known, /);
        expect(after(known)).toMatch(/, drop, .*all conditions 0x/);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('rules that name sets', () =>
    withPair(async ({ b }) => {
      const policy = policyName();
      const rule = '-A INPUT -m set --match-set friends src -j ACCEPT';
      const { sets } = parseSets('create friends hash:ip\nadd friends 192.0.2.7\n', { file: 'sets' });
      try {
        await applyPolicy({
          policy,
          hooks: ['netfilter'],
          devices: [],
          namespaces: [b.netnsName],
          rulesets: [parsed(filterText([rule]))],
          sets,
        });
        const { code, stdout, stderr } = await sluice(['dump', '--policy', policy, '--netns', b.netnsName]);
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
        expect(stdout).toContain(`; ipv4 filter 1: ${rule}\n`);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
