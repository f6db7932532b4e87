/** `sluice restore` of texts on live policies: rules and counters as with iptables-restore, all of it or nothing. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { livePolicies, removePolicies } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { sluice } from '../support/cli.ts';
import { iptablesMissing, restoreProgram, saveProgram, withoutComments } from '../support/iptables.ts';
import { expectDocumented } from '../support/json-page.ts';
import { describeKernel } from '../support/kernel.ts';
import { policyName } from '../support/live-policy.ts';
import { withNamespaces, withPair } from '../support/netns.ts';

const FLAGS: readonly (readonly [Family, string])[] = [
  ['ipv4', '-4'],
  ['ipv6', '-6'],
];

function table(name: string, ...lines: string[]): string {
  return [`*${name}`, ...lines, 'COMMIT', ''].join('\n');
}

function filter(...lines: string[]): string {
  return table('filter', ...lines);
}

/** Tables in the order of their names. */
function inOrder(saved: string): string {
  return withoutComments(saved)
    .split(/(?<=^COMMIT\n)/m)
    .sort()
    .join('');
}

const STEPS: readonly (readonly [options: string, text: string])[] = [
  [
    '-c',
    table('mangle', '[9:900] -A PREROUTING -i lo -j MARK --set-xmark 0x1/0xffffffff') +
      filter(
        ':INPUT DROP [5:600]',
        ':one - [0:0]',
        ':two - [0:0]',
        '[1:40] -A INPUT -i lo -j one',
        '[2:80] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT',
        '[3:90] -A INPUT -i lo -j one',
        '[4:99] -A one -j two',
      ),
  ],
  ['-n', filter('-A INPUT -p udp -m udp --dport 53 -j ACCEPT', '-I INPUT 2 -i lo -j one')],
  [
    '-n -c',
    filter(':two - [0:0]', '[7:70] -A two -j DROP', '[8:80] -A one -j RETURN', '-D INPUT -i lo -j one'),
  ],
  ['-n', filter('-E two three', '-R INPUT 1 -j one', '-Z one', ':OUTPUT DROP [4:4]')],
  ['-n', table('raw', '-A OUTPUT -o eth9 -j DROP') + filter(':four - [0:0]', '-A INPUT -j four')],
  ['-n -T mangle', `${filter('nonsense')}${table('mangle', '-I PREROUTING -j ACCEPT')}`],
  ['-n -c', filter('[5:5] -A four -j ACCEPT', '[6:6] -A four -j ACCEPT', '[7:7] -I four -j ACCEPT')],
  ['-n', filter('-D four 1', '-F one')],
  ['-c', filter('[3:3] -A INPUT -j ACCEPT', '[4:4] -A INPUT -j ACCEPT')],
  ['', filter(':FORWARD DROP [1:1]', '[3:3] -A INPUT -j ACCEPT', '-A INPUT -j LOG')],
];

describeKernel(
  'texts restored on live policies',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-restore-'));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const file = (name: string, text: string): string => {
      const path = join(folder, name);
      writeFileSync(path, text);
      return path;
    };

    test('text after text: saved rules are as with iptables-restore', { timeout: 120_000 }, () =>
      withNamespaces(['ours', 'kernel'], async ({ ours, kernel }) => {
        const policy = policyName();
        const here = ['--policy', policy, '--netns', ours.netnsName];
        try {
          for (const [options, text] of STEPS) {
            const words = options.split(' ').filter((word) => word !== '');
            for (const [family, flag] of FLAGS) {
              const path = file('text', text);
              kernel.exec(restoreProgram(family), ['-w', '20', ...words, path]);
              const done = await sluice(['restore', ...words, flag, path, ...here]);
              expect(done.code, `${options}\n${text}${done.stderr}`).toBe(0);
            }
            for (const [family, flag] of FLAGS) {
              const saved = await sluice(['save', flag, ...here]);
              expect(inOrder(saved.stdout), `${family} ${options}\n${text}`).toBe(
                inOrder(kernel.exec(saveProgram(family), ['-c'])),
              );
            }
          }
        } finally {
          await removePolicies({ policy }).catch(() => []);
        }
      }),
    );

    test('packets stay counted where rules stay, and count on from what is given', () =>
      withPair(async ({ a, b }) => {
        const policy = policyName();
        const here = ['--policy', policy, '--netns', b.netnsName];
        const open = b.udp(5000);
        const client = a.udp();
        const pass = (turns: number): void => {
          for (let turn = 0; turn < turns; turn++) {
            client.send(b.ipv4, 5000, 'in');
            expect(open.receiveText(10_000)).toBe('in');
          }
        };
        const restored = async (text: string, ...words: string[]): Promise<string> => {
          const done = await sluice(['restore', '-4', '-', ...words, ...here], { stdin: text });
          expect(done.code, done.stderr).toBe(0);
          return (await sluice(['save', ...here])).stdout;
        };
        const rule = '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT';
        try {
          expect(await restored(filter(':INPUT DROP [0:0]', `[2:60] ${rule}`))).toContain(`[0:0] ${rule}`);
          pass(3);
          const other = '-A INPUT -p udp -m udp --dport 5001 -j ACCEPT';
          expect(await restored(filter(other), '--noflush')).toContain(`[3:90] ${rule}\n[0:0] ${other}`);
          pass(1);
          // The same text once more before it: it is the rule behind that goes on counting.
          expect(
            await restored(filter('-I INPUT -s 192.0.2.1 -j DROP', `-I INPUT ${rule.slice(9)}`), '-n'),
          ).toContain(`[0:0] ${rule}\n[0:0] -A INPUT -s 192.0.2.1/32 -j DROP\n[4:120] ${rule}`);
          pass(2);
          expect(await restored(filter('-D INPUT 1'), '-n')).toContain(`[4:120] ${rule}`);
          expect(await restored(filter(':INPUT DROP [7:8]', `[5:100] ${rule}`), '--counters')).toContain(
            `[5:100] ${rule}`,
          );
          pass(1);
          expect((await sluice(['save', ...here])).stdout).toContain(`[6:130] ${rule}`);
          expect(await restored(filter(rule))).toContain(`[0:0] ${rule}`);
        } finally {
          await removePolicies({ policy }).catch(() => []);
        }
      }));

    test('both families come into force together or not at all; the live rules of others stay', () =>
      withNamespaces(['ours'], async ({ ours }) => {
        const policy = policyName();
        const here = ['--policy', policy, '--netns', ours.netnsName];
        const saved = async (): Promise<string> => (await sluice(['save', ...here])).stdout;
        try {
          const good = file('good', filter('-A INPUT -i lo -j ACCEPT'));
          const bad = file('bad.v6', filter('-A INPUT -i lo -j ACCEPT', '-A INPUT -p tcp --dprt 22 -j DROP'));
          const none = await sluice(['restore', '-4', good, '-6', bad, ...here]);
          expect(none.code).toBe(1);
          expect(none.stderr).toContain(
            `${bad}:3:17: error: unknown option "--dprt"\n  -A INPUT -p tcp --dprt 22 -j DROP\n                  ^^^^^^`,
          );
          expect(livePolicies({ policy })).toEqual([]);
          expect(await sluice(['restore', good, ...here])).toMatchObject({ code: 1 });
          expect(livePolicies({ policy })).toEqual([]);

          const six = file('six', filter('-A INPUT -i lo -j DROP') + table('mangle', '-A INPUT -j ACCEPT'));
          expect(await sluice(['restore', '-4', good, '-6', six, ...here])).toMatchObject({ code: 0 });
          const before = await saved();
          // What no hook can run, and what is not there to be deleted, leaves both families as they are.
          for (const [text, code] of [
            [table('nat', '-A POSTROUTING -j MASQUERADE'), 3],
            [filter('-D INPUT -i lo -j DROP'), 1],
            [filter('-N loop', '-A loop -j loop', '-A INPUT -j loop'), 1],
            ['', 0],
          ] as const) {
            const refused = await sluice([
              'restore',
              '-n',
              '-6',
              six,
              '-4',
              file('no', text),
              '--test',
              ...here,
            ]);
            expect(refused.code, refused.stderr).toBe(code);
            if (code === 0) continue;
            const again = await sluice(['restore', '-n', '-6', six, '-4', join(folder, 'no'), ...here]);
            expect(again, text).toEqual(refused);
            expect(again.stderr).toMatch(/\/no:[23]:\d+: error: /);
          }
          expect(await saved()).toBe(before);
          const replaced = file('replaced', filter('-A OUTPUT -o lo -j ACCEPT'));
          expect(await sluice(['restore', '-6', replaced, ...here])).toMatchObject({ code: 0 });
          expect(await saved()).toBe(
            before.replace('[0:0] -A INPUT -i lo -j DROP', '[0:0] -A OUTPUT -o lo -j ACCEPT'),
          );
        } finally {
          await removePolicies({ policy }).catch(() => []);
        }
      }));

    test('--test changes nothing; --json tells what its page says', () =>
      withNamespaces(['ours'], async ({ ours }) => {
        const policy = policyName();
        const here = ['--policy', policy, '--netns', ours.netnsName];
        const path = file('rules.v4', filter('-A INPUT -i lo -j ACCEPT'));
        try {
          expect(await sluice(['restore', '--test', path, ...here])).toEqual({
            code: 0,
            stdout: '',
            stderr: '',
          });
          expect(livePolicies({ policy })).toEqual([]);
          const tried = await sluice(['restore', '-t', path, ...here, '--json']);
          expectDocumented('restore --test', tried.stdout);
          expect(livePolicies({ policy })).toEqual([]);
          const done = await sluice(['restore', path, ...here, '--json']);
          expect(expectDocumented('restore', done.stdout)).toMatchObject({ policy });
          const whole = file('whole', (await sluice(['save', '--json', '--policy', policy])).stdout);
          for (const words of [['-n'], ['-c'], ['-T', 'filter'], ['--netns', ours.netnsName], ['-4', path]])
            expect(await sluice(['restore', whole, ...words]), words[0]).toMatchObject({ code: 2 });
          expect(await sluice(['restore', path, '-T', 'filtre', ...here])).toMatchObject({ code: 2 });
        } finally {
          await removePolicies({ policy }).catch(() => []);
        }
      }));
  },
  iptablesMissing,
);
