/** The services that keep policies over a start of the machine: what systemd makes of them, and what they do. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { applyPolicy, livePolicies, removePolicies, requireLive } from '../../src/host/index.ts';
import { sluice } from '../support/cli.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterRules, policyName } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SLUICE = join(ROOT, 'bin/sluice.js');
const UNITS = ['sluice-restore.service', 'sluice-refresh.service'] as const;
const analyze = spawnSync('systemd-analyze', ['--version']).status === 0;

/** Values of a unit's settings, in order; a setting may come several times. */
function settings(unit: string): (name: string) => string[] {
  const lines = readFileSync(join(ROOT, 'packaging', unit), 'utf8').split('\n');
  return (name) =>
    lines
      .filter((line) => line.startsWith(`${name}=`))
      .flatMap((line) => line.slice(name.length + 1).split(' '));
}

describeKernel('policies and the start of the machine', () => {
  test.skipIf(!analyze)('systemd finds nothing wrong with the services', () => {
    for (const unit of UNITS) {
      const { status, stderr } = spawnSync(
        'systemd-analyze',
        ['verify', '--man=no', join(ROOT, 'packaging', unit)],
        {
          encoding: 'utf8',
        },
      );
      expect(stderr.split('\n').filter((line) => line.includes('sluice'))).toEqual([]);
      expect(status).toBe(0);
    }
  });

  test('the services come after bpffs and before the network, and run commands that there are', async () => {
    for (const unit of UNITS) {
      const of = settings(unit);
      expect(of('Before')).toContain('network-pre.target');
      expect(of('Wants')).toContain('network-pre.target');
      expect(of('After')).toEqual(expect.arrayContaining(['local-fs.target', 'sys-fs-bpf.mount']));
      // Else systemd would put them after basic.target, and that after what wants them.
      expect(of('DefaultDependencies')).toEqual(['no']);
      expect(of('WantedBy')).toEqual(['sysinit.target']);
      const [env, name, command = ''] = of('ExecStart');
      expect([env, name]).toEqual(['/usr/bin/env', 'sluice']);
      expect((await sluice([command, '--help'])).code).toBe(0);
    }
    expect(settings('sluice-restore.service')('ConditionPathExists')).toEqual(
      settings('sluice-restore.service')('ExecStart').slice(3),
    );
    expect(settings('sluice-refresh.service')('After')).toContain('sluice-restore.service');
    const { files, bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      files: readonly string[];
      bin: Readonly<Record<string, string>>;
    };
    expect(files).toContain('packaging/*.service');
    expect(bin).toHaveProperty('sluice');
  });

  test('after a start all policies are back, on a fresh bpffs: rules, counters, hooks', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const folder = mkdtempSync(join(tmpdir(), 'slc-boot-'));
      const file = join(folder, 'policies.json');
      const rulesets = [filterRules(['-A INPUT -p udp -m udp --dport 5000 -j ACCEPT'])];
      const [open, client] = [b.udp(5000), a.udp()];
      try {
        await applyPolicy({
          policy,
          hooks: ['netfilter', 'tcx-egress'],
          devices: ['a'],
          namespaces: [b.netnsName],
          rulesets,
          order: 4,
        });
        client.send(b.ipv4, 5000, 'x');
        expect(open.receiveText(LONG_MS)).toBe('x');
        writeFileSync(file, (await sluice(['save', '--json', '--policy', policy])).stdout);
        await removePolicies({ policy });
        expect(livePolicies({ policy })).toEqual([]);
        const [, , ...words] = settings('sluice-restore.service')('ExecStart');
        const command = [process.execPath, SLUICE, words[0]!, file].join(' ');
        const status = [process.execPath, SLUICE, 'status', '--json', '--policy', policy].join(' ');
        // A mount namespace whose bpffs is as empty as that of a machine that has just started.
        const script = `umount /sys/fs/bpf && mount -t bpf none /sys/fs/bpf && ${command} >&2 && ${status}`;
        const {
          status: code,
          stdout,
          stderr,
        } = spawnSync('unshare', ['--mount', 'sh', '-c', script], {
          encoding: 'utf8',
        });
        expect(code, stderr).toBe(0);
        const [restored] = (JSON.parse(stdout) as { status: { policies: readonly object[] } }).status
          .policies;
        expect(restored).toMatchObject({
          policy,
          order: 4,
          hooks: ['netfilter', 'tcx-egress'],
          devices: ['a'],
          problems: [],
        });
        // And on the machine's own, where the pins stay.
        expect(await sluice(['restore', file])).toMatchObject({ code: 0 });
        const [input] = requireLive({ policy }).rulesets[0]!.tables[0]!.chains;
        expect(input!.rules[0]!.counters.packets).toBe(1n);
        client.send(b.ipv4, 5000, 'y');
        expect(open.receiveText(LONG_MS)).toBe('y');
      } finally {
        await removePolicies({ policy }).catch(() => []);
        rmSync(folder, { recursive: true, force: true });
      }
    }));
});
