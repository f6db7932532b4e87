/** What `doctor` says of a namespace where others decide, too: who they are, and what to do about each. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { applyPolicy, type OtherFirewall, removePolicies } from '../../src/host/index.ts';
import { attachNetfilter, attachXdp, NetfilterHook } from '../../src/kernel/index.ts';
import { sluice } from '../support/cli.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterRules, policyName } from '../support/live-policy.ts';
import { type Host, withPair } from '../support/netns.ts';
import { CountingProgram } from '../support/program.ts';

const SLUICE = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));

interface Report {
  readonly others: readonly OtherFirewall[];
  readonly problems: readonly string[];
}

function doctor(host: Host): { readonly report: Report; readonly text: string } {
  const run = (...words: string[]): string =>
    spawnSync(
      'nsenter',
      [`--net=/run/netns/${host.netnsName}`, process.execPath, SLUICE, 'doctor', ...words],
      {
        encoding: 'utf8',
      },
    ).stdout;
  return { report: (JSON.parse(run('--json')) as { doctor: Report }).doctor, text: run() };
}

describeKernel('doctor', () => {
  test('names the other firewalls of a namespace and who holds a device, each with its remedy', () =>
    withPair(async ({ b }) => {
      expect(doctor(b).report.others.filter(({ kind }) => kind !== 'bpf-netfilter')).toEqual([]);
      b.exec('iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT']);
      b.exec('nft', ['add', 'table', 'inet', 'theirs']);
      const pass = b.keep(new CountingProgram('BPF_PROG_TYPE_XDP', 2));
      const ifindex = b.device('a').index;
      b.keep(b.run(() => attachXdp(pass.program, { ifindex, mode: 'native' })));
      const accept = b.keep(new CountingProgram('BPF_PROG_TYPE_NETFILTER', 1));
      const at = { family: 'ipv4', hook: NetfilterHook.LOCAL_IN, priority: 77, defragment: false } as const;
      const link = b.keep(b.run(() => attachNetfilter(accept.program, at)));
      const policy = policyName();
      const request = { policy, namespaces: [b.netnsName], rulesets: [filterRules([])] };
      try {
        await applyPolicy({ ...request, hooks: ['netfilter'] });
        const { report, text } = doctor(b);
        const { others } = report;
        const of = (kind: OtherFirewall['kind']) => others.filter((other) => other.kind === kind);
        expect(of('iptables-legacy')).toEqual([
          {
            kind: 'iptables-legacy',
            what: 'IPv4 tables filter',
            remedy: expect.stringContaining('sluice import'),
          },
        ]);
        expect(of('nftables')).toEqual([
          {
            kind: 'nftables',
            what: 'table inet theirs',
            remedy: expect.stringContaining('nft list ruleset'),
          },
        ]);
        expect(of('xdp')).toEqual([
          {
            kind: 'xdp',
            what: `device a runs program "slc_test" (id ${pass.program.id})`,
            remedy: expect.stringContaining('tcx-ingress'),
          },
        ]);
        expect(of('bpf-netfilter').map(({ what }) => what)).toContain(
          `BPF link ${link.id}: ipv4 hook 1, priority 77`,
        );
        expect(report.problems.filter((problem) => problem.includes(policy))).toEqual([]);
        for (const { what, remedy } of others) expect(text).toContain(`${what}\n    note: ${remedy}`);
        // The device that is taken is named by what wants it, with the same way out.
        const busy = await applyPolicy({
          ...request,
          policy: policyName(),
          hooks: ['xdp'],
          devices: ['a'],
        }).then(
          () => undefined,
          (error: { code: string; message: string; hint: string }) => error,
        );
        expect(busy).toMatchObject({ code: 'LINK_DEVICE_BUSY', hint: expect.stringContaining('tcx') });
        expect(busy!.message).toContain(`"slc_test" (program id ${pass.program.id}, native)`);
        expect((await sluice(['status', '--policy', policy])).code).toBe(0);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
