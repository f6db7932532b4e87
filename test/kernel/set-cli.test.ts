/** `sluice set …` on a live policy against ipset: the same commands succeed and fail, and the same sets are there afterwards. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applyPolicy, removePolicies } from '../../src/host/index.ts';
import { parseSets } from '../../src/rules/index.ts';
import { sluice } from '../support/cli.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterText, parsed, policyName } from '../support/live-policy.ts';
import { type Host, withNamespaces } from '../support/netns.ts';

const COMMANDS = process.env.SLUICE_SOAK === '1' ? 2000 : 60;

/** Sets by name, each with entries that are often the same, and what may stand behind one that is added. */
const SETS: Readonly<
  Record<string, { create: string; entries: readonly string[]; options: readonly string[] }>
> = {
  hosts: {
    create: 'hash:ip counters comment maxelem 4',
    entries: ['10.0.0.1', '10.0.0.2', '10.0.0.0/31', '10.0.0.4-10.0.0.6', '0.0.0.0', '2001:db8::1'],
    options: ['', '', 'packets 5 bytes 700', 'comment word', 'timeout 5', 'nomatch'],
  },
  masked: {
    create: 'hash:ip bitmask 255.0.0.255 timeout 5000',
    entries: ['10.0.0.1', '10.9.9.1', '11.0.0.1', '10.0.0.0'],
    options: ['', 'timeout 9000', 'timeout 0', 'packets 1'],
  },
  nets: {
    create: 'hash:net',
    entries: ['10.0.0.0/24', '10.0.0.0/16', '10.0.0.3', '10.0.0.9-10.0.0.12', '0.0.0.0/0', '10.0.0.0/33'],
    options: ['', '', 'nomatch'],
  },
  ports: {
    create: 'hash:ip,port skbinfo',
    entries: [
      '10.0.0.1,80',
      '10.0.0.1,udp:53-54',
      '10.0.0.1,icmp:echo-request',
      '10.0.0.1,gre:5',
      '10.0.0.1',
    ],
    options: ['', 'skbmark 0x5/0xff', 'skbprio 1:10 skbqueue 3', 'skbqueue 70000'],
  },
  devices: {
    create: 'hash:net,iface',
    entries: ['10.0.0.0/24,eth0', '0.0.0.0/0,eth0', '10.0.0.1,wlan0', '10.0.0.1'],
    options: [''],
  },
  pairs: {
    create: 'bitmap:ip,mac range 10.0.0.0/24',
    entries: [
      '10.0.0.1',
      '10.0.0.1,02:00:00:00:00:01',
      '10.0.0.1,02:00:00:00:00:02',
      '10.0.0.2,02:00:00:00:00:01',
      '10.0.1.1',
      '10.0.0.1-10.0.0.2',
    ],
    options: [''],
  },
  numbers: {
    create: 'bitmap:port range 10-90 comment',
    entries: ['80', 'tcp:80', '20-22', '9', '91'],
    options: ['', 'comment word'],
  },
};

const TEXT = Object.entries(SETS)
  .map(([name, { create }]) => `create ${name} ${create}\n`)
  .join('');

const command = fc.constantFrom(...Object.entries(SETS)).chain(([name, { entries, options }]) =>
  fc
    .record({
      verb: fc.constantFrom('add', 'add', 'add', 'del', 'test'),
      entry: fc.constantFrom(...entries),
      option: fc.constantFrom(...options),
      exist: fc.boolean(),
    })
    .map(({ verb, entry, option, exist }) => ({
      words: [verb, name, entry, ...(verb === 'add' ? option.split(' ').filter((word) => word !== '') : [])],
      exist: exist && verb !== 'test',
    })),
);

/** What stands for several entries: ipset tests one at a time, Sluice says whether all are there. */
const SEVERAL = /-|\/31/;

/** As `ipset save`, less the kernel's own secrets, and less the time that has passed. */
function normal(saved: string): string[] {
  return saved
    .split('\n')
    .map((line) => line.trim().replace(/ initval 0x[0-9a-f]+/, ''))
    .map((line) => line.replace(/(?<= timeout )[0-9]+/, (left) => `${Math.ceil(Number(left) / 1000) * 1000}`))
    .filter((line) => line !== '')
    .sort();
}

/** True where the command succeeds. */
function ipset(host: Host, words: readonly string[]): boolean {
  try {
    host.exec('ipset', words);
    return true;
  } catch {
    return false;
  }
}

describeKernel('commands about sets', () => {
  test('succeed, fail and change what ipset does', () =>
    withNamespaces(['real', 'ours'], async ({ real, ours }) => {
      const policy = policyName();
      const here = ['--policy', policy, '--netns', ours.netnsName];
      const folder = mkdtempSync(join(tmpdir(), 'slc-set-cli-'));
      try {
        real.exec('ipset', ['restore'], { input: TEXT });
        const { sets, diagnostics } = parseSets(TEXT, { file: 'sets' });
        expect(diagnostics).toEqual([]);
        await applyPolicy({
          policy,
          rulesets: [parsed(filterText([]))],
          hooks: ['netfilter'],
          namespaces: [ours.netnsName],
          sets,
        });
        for (const { words, exist } of fc.sample(command, COMMANDS)) {
          if (words[0] === 'test' && SEVERAL.test(words[2]!)) continue;
          const wanted = ipset(real, exist ? ['-exist', ...words] : words);
          const got = await sluice(['set', ...words, ...(exist ? ['--exist'] : []), ...here]);
          if ((got.code === 0) !== wanted) expect({ words, exist, ...got }).toEqual({ succeeds: wanted });
          if (got.code !== 0 && words[0] !== 'test') expect(got.stderr).toMatch(/^sluice: /);
        }
        const saved = await sluice(['set', 'save', ...here]);
        expect(normal(saved.stdout)).toEqual(normal(real.exec('ipset', ['save'])));
        // What was saved is taken again.
        const file = join(folder, 'sets');
        writeFileSync(file, saved.stdout);
        const rules = join(folder, 'rules');
        writeFileSync(rules, filterText([]));
        expect(await sluice(['apply', '-4', rules, '--sets', file, ...here])).toMatchObject({ code: 0 });
        const again = await sluice(['set', 'save', ...here]);
        expect(normal(again.stdout)).toEqual(normal(saved.stdout));
        for (const name of Object.keys(SETS)) {
          expect(await sluice(['set', 'flush', name, ...here])).toMatchObject({ code: 0 });
          expect(await sluice(['set', 'destroy', name, ...here])).toMatchObject({ code: 0 });
        }
        expect(await sluice(['set', 'list', ...here])).toMatchObject({ code: 0, stdout: '' });
      } finally {
        await removePolicies({ policy }).catch(() => []);
        real.exec('ipset', ['destroy'], { allowFailure: true });
        rmSync(folder, { recursive: true, force: true });
      }
    }));
});
