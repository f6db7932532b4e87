/** The commands about live policies, from apply to restore, on real packets. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { livePolicies, livePrograms, removePolicies, requireLive } from '../../src/host/index.ts';
import { sluice } from '../support/cli.ts';
import { expectDocumented } from '../support/json-page.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, kernelObjects, policyName, remaining } from '../support/live-policy.ts';
import { withPair } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';

const RULES = [
  '-A INPUT -p udp -m udp --dport 5000 -m comment --comment "let in" -j ACCEPT',
  '-A INPUT -p udp -m udp --dport 5001 -j LOG --log-prefix "shut: " --log-level 6',
];

describeKernel('commands about live policies', () => {
  let folder = '';
  let file = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'slc-policy-cli-'));
    file = join(folder, 'rules');
    writeFileSync(file, filterText(RULES));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('apply, status, list, save, diff, zero, watch, dump, save --json, remove, restore', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const here = ['--policy', policy, '--netns', b.netnsName];
      const done = async (...words: string[]): Promise<string> => {
        const { code, stdout, stderr } = await sluice(words);
        expect(code, stderr).toBe(0);
        return stdout;
      };
      const [open, client] = [b.udp(5000), a.udp()];
      try {
        const dry = await done('apply', '-4', file, ...here, '--dry-run');
        expect(dry).toContain('link + nf_filter_ipv4_1');
        expect(livePolicies({ policy })).toEqual([]);
        await done('apply', '-4', file, ...here);
        for (let turn = 0; turn < 3; turn++) client.send(b.ipv4, 5000, 'in');
        client.send(b.ipv4, 5001, 'out');
        for (let turn = 0; turn < 3; turn++) expect(open.receiveText(LONG_MS)).toBe('in');

        expect(await done('status', '--policy', policy)).toContain('2 ipv4 rules');
        const listed = await done('list', '-v', ...here);
        expect(listed.split('\n').slice(0, 4)).toEqual([
          'Chain INPUT (policy DROP 1 packets, 31 bytes)',
          ' pkts bytes target     prot opt in     out     source               destination         ',
          '    3    90 ACCEPT     17   --  *      *       0.0.0.0/0            0.0.0.0/0            udp dpt:5000 /* let in */',
          '    1    31 LOG        17   --  *      *       0.0.0.0/0            0.0.0.0/0            udp dpt:5001 LOG flags 0 level 6 prefix "shut: "',
        ]);
        const saved = await done('save', ...here);
        expect(saved).toContain(`[3:90] ${RULES[0]}`);
        expect(saved).toContain(':INPUT DROP [1:31]');

        const other = join(folder, 'other');
        writeFileSync(other, filterText([...RULES.toReversed(), '-A INPUT -j ACCEPT']));
        const same = await sluice(['diff', '-4', file, ...here]);
        expect([same.code, same.stdout]).toEqual([0, '']);
        const differs = await sluice(['diff', '-4', other, ...here]);
        expect(differs.code).toBe(1);
        expect(differs.stdout).toContain('-A INPUT -j ACCEPT');

        const [line = ''] = (await done('watch', '--policy', policy, '--count', '1')).split('\n');
        const [time = '', rest = ''] = line.split(/(?<=\]) /);
        expect(time).toMatch(/^\[ *[0-9]+\.[0-9]{6}\]$/);
        const macs = [...b.device('a').mac, ...a.device('b').mac].map((byte) =>
          byte.toString(16).padStart(2, '0'),
        );
        expect(rest).toMatch(
          new RegExp(
            `^shut: IN=a OUT= MAC=${macs.join(':')}:08:00 SRC=10\\.11\\.0\\.1 DST=10\\.11\\.0\\.2 LEN=31 TOS=0x00 PREC=0x00 TTL=64 ID=[0-9]+ DF PROTO=UDP SPT=[0-9]+ DPT=5001 LEN=11 $`,
          ),
        );
        client.send(b.ipv4, 5001, 'out');
        const event = JSON.parse(await done('watch', '--policy', policy, '--count', '1', '--json')) as {
          log: { prefix: string; rule: { chain: string; rule: number } };
        };
        expect(event.log).toMatchObject({ prefix: 'shut: ', rule: { chain: 'INPUT', rule: 2 } });

        const dumped = await done('dump', ...here);
        expect(dumped).toContain('let in');
        expect(dumped).toContain('r0 =');
        // Programs that another build made have another content: what would be shown is not what runs.
        const { document } = requireLive({ policy });
        const programs = document.programs.map((program) => ({ ...program, hash: 'of another build' }));
        expect(() => livePrograms({ ...document, programs })).toThrow(
          expect.objectContaining({ code: 'HOST_POLICY_VERSION' }),
        );

        const whole = join(folder, 'policies.json');
        writeFileSync(whole, await done('save', '--json', '--policy', policy));
        const made = kernelObjects(policy);
        await done('remove', '--policy', policy);
        expect(await remaining(made)).toEqual([]);
        await done('restore', whole);
        const [input] = requireLive({ policy }).rulesets[0]!.tables[0]!.chains;
        expect(input?.rules.map(({ counters }) => counters.packets)).toEqual([3n, 2n]);
        expect(input?.counters).toEqual({ packets: 2n, bytes: 62n });
        client.send(b.ipv4, 5000, 'again');
        expect(open.receiveText(LONG_MS)).toBe('again');
        await done('zero', ...here);
        expect(await done('save', ...here)).toContain(`[0:0] ${RULES[0]}`);
        await done('gc');
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('--json prints what its page says', () =>
    withPair(async ({ a, b }) => {
      const policy = policyName();
      const here = ['--policy', policy, '--netns', b.netnsName];
      const printed = async (command: string, ...words: string[]) => {
        const { code, stdout, stderr } = await sluice([...command.split(' '), ...words, '--json']);
        expect([0, 1], stderr).toContain(code);
        return expectDocumented(command, stdout);
      };
      try {
        await printed('apply --dry-run', '-4', file, ...here);
        await printed('apply', '-4', file, ...here, '--confirm', '60');
        // Asked from another namespace, it says how.
        const elsewhere = await sluice(['confirm']);
        expect(elsewhere).toMatchObject({ code: 4 });
        expect(elsewhere.stderr).toContain(`sluice confirm --policy ${policy}`);
        expect(await printed('status', '--policy', policy)).toMatchObject({
          policies: [{ policy, hooks: ['netfilter'], problems: [] }],
        });
        expect(await printed('confirm', ...here)).toEqual({ confirmed: [expect.any(String)] });
        a.udp().send(b.ipv4, 5001, 'out');
        expect(await printed('watch', '--policy', policy, '--count', '1')).toMatchObject({ inDevice: 'a' });
        const { tables } = await printed('list', ...here);
        expect(tables).toMatchObject([
          {
            family: 'ipv4',
            table: 'filter',
            chains: [
              {
                name: 'INPUT',
                policy: 'DROP',
                packets: '1',
                rules: [
                  { text: RULES[0], packets: '0', bytes: '0' },
                  { text: RULES[1], packets: '1', bytes: '31' },
                ],
              },
              { name: 'FORWARD' },
              { name: 'OUTPUT' },
            ],
          },
        ]);
        const other = join(folder, 'others');
        writeFileSync(other, filterText([RULES[1]!, RULES[0]!, '-A INPUT -j ACCEPT', '-A OUTPUT -j DROP']));
        const moved = { family: 'ipv4', table: 'filter', chain: 'INPUT' };
        expect(await printed('diff', '-4', other, ...here)).toEqual({
          policy,
          changes: [
            { ...moved, kind: 'moved', before: 2, after: 1, text: RULES[1] },
            { ...moved, kind: 'added', after: 3, text: '-A INPUT -j ACCEPT' },
            { ...moved, kind: 'added', chain: 'OUTPUT', after: 1, text: '-A OUTPUT -j DROP' },
          ],
        });
        await printed('apply', '-4', other, ...here);
        await printed('dump', ...here);
        await printed('zero', ...here);
        await printed('gc');
        await printed('refresh');
        await printed('doctor');
        b.exec('iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT']);
        await printed('import', '--netns', b.netnsName);
        const saved = join(folder, 'saved.json');
        const { stdout } = await sluice(['save', '--policy', policy, '--json']);
        expectDocumented('save', stdout);
        writeFileSync(saved, stdout);
        await printed('remove', '--policy', policy);
        await printed('restore', saved);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('what is wrong is told: no policy, no LOG rule, a file that is none', async () => {
    const none = policyName();
    const unfit = [
      ['--hook', 'xdp'],
      ['--dev', 'lo'],
      ['--policy', 'a/b'],
      ['--hook', 'cgroup-egress'],
    ];
    for (const words of unfit)
      expect(await sluice(['apply', '-4', 'examples/edge.rules', ...words]), words.join(' ')).toMatchObject({
        code: 2,
      });
    expect(await sluice(['list', '--policy', none])).toMatchObject({ code: 4 });
    expect(await sluice(['remove', '--policy', none])).toMatchObject({ code: 4 });
    expect(await sluice(['confirm', '--policy', none])).toMatchObject({ code: 4 });
    expect(await sluice(['watch', '--policy', none])).toMatchObject({ code: 4 });
    const written = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    expect(await sluice(['restore', written('empty.json', '{}')])).toMatchObject({ code: 2 });
    expect(await sluice(['restore', written('half.json', ' \n{"save":')])).toMatchObject({ code: 2 });
    expect(await sluice(['restore', written('none.v4', 'nothing of ours\n')])).toMatchObject({ code: 1 });
    // Neither family follows from these rules.
    expect(await sluice(['restore', file])).toMatchObject({ code: 1 });
  });
});
