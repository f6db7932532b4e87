/** `sluice dump` of live policies: at every kind of hook the programs that run, each rule beside its instructions. */
import { expect, test } from 'vitest';
import type { HookName } from '../../src/compile/index.ts';
import { applyPolicy, removePolicies, requireLive } from '../../src/host/index.ts';
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
        const { programs } = (JSON.parse(stdout) as Dump).dump;
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
});
