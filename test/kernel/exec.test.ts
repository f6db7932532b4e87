/** `sluice exec`: several at once, what it refuses, what remains when it or iptables is killed. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { inScratchNetns } from '../support/iptables.ts';
import { describeKernel } from '../support/kernel.ts';
import { startScript, superviseScript, supervisionMissing } from '../support/supervised.ts';

async function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (data) => {
    text += data;
  });
  child.stderr?.on('data', (data) => {
    text += data;
  });
  await once(child, 'close');
  return text;
}

async function until(happened: () => boolean): Promise<void> {
  for (let turn = 0; turn < 600 && !happened(); turn++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(happened()).toBe(true);
}

describeKernel(
  'sluice exec',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'slc-exec-'));
    const at = (name: string): string => join(folder, name);
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test('the policy that a script makes is printed, and nothing of it reaches the machine', () => {
      const before = inScratchNetns('iptables-legacy-save');
      const run = superviseScript(
        'iptables -A INPUT -p tcp --dport 22 -j ACCEPT; ip6tables -P FORWARD DROP; exit 7',
      );
      expect(run.status).toBe(7);
      expect(run.stdout).toBe(
        [
          '# IPv4',
          '*filter',
          ':INPUT ACCEPT [0:0]',
          ':FORWARD ACCEPT [0:0]',
          ':OUTPUT ACCEPT [0:0]',
          '[0:0] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT',
          'COMMIT',
          '# IPv6',
          '*filter',
          ':INPUT ACCEPT [0:0]',
          ':FORWARD DROP [0:0]',
          ':OUTPUT ACCEPT [0:0]',
          'COMMIT',
          '',
        ].join('\n'),
      );
      expect(inScratchNetns('iptables-legacy-save')).toEqual(before);
    });

    test('saved rules with their counters are taken up and changed', () => {
      writeFileSync(
        at('in'),
        '*filter\n:INPUT DROP [5:600]\n:two - [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n[1:40] -A INPUT -i lo -j two\n[7:8] -A two -s 10.0.0.1/32\nCOMMIT\n',
      );
      const run = superviseScript('iptables -I INPUT -p icmp -j ACCEPT; iptables -Z two', [
        '-4',
        at('in'),
        '--save',
        at('out'),
      ]);
      expect(run.stdout + run.stderr).toBe('');
      // libiptc gives up a policy's counters with every change, against the kernel too.
      expect(readFileSync(at('out.v4'), 'utf8')).toBe(
        '*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:two - [0:0]\n[0:0] -A INPUT -p icmp -j ACCEPT\n[1:40] -A INPUT -i lo -j two\n[0:0] -A two -s 10.0.0.1/32\nCOMMIT\n',
      );
    });

    test('netlink of netfilter is refused with the way out, and let through when asked', () => {
      const refused = superviseScript('nft list ruleset >/dev/null 2>&1 || echo refused');
      expect(refused.stdout).toContain('refused\n');
      expect(refused.said.join('\n')).toContain('--allow-netlink');
      const allowed = superviseScript('nft list ruleset && echo allowed', ['--allow-netlink']);
      expect(allowed.stdout).toContain('allowed\n');
    });

    test('a table or extension that is not there ends as where the kernel lacks it', () => {
      const run = superviseScript(
        'iptables -t nosuch -L; echo $?; iptables -A INPUT -p tcp -m osf --genre Linux -j DROP; echo $?',
      );
      expect(run.stdout).toContain('3\n1\n');
      expect(run.said.join('')).toContain('-A INPUT -p tcp -m osf --genre Linux -j DROP');
      expect(run.stderr).toContain("can't initialize iptables table `nosuch': Table does not exist");
    });

    test('rules of nat are taken, for the netstack translates', () => {
      const run = superviseScript(
        'iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE; iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.0.0.2:8080; ip6tables -t nat -A PREROUTING -j NETMAP --to 2001:db8::/64',
      );
      expect(run.stderr).toBe('');
      for (const rule of [
        '-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080',
        '-A POSTROUTING -o eth0 -j MASQUERADE',
        '-A PREROUTING -j NETMAP --to 2001:db8::/64',
      ])
        expect(run.stdout).toContain(rule);
    });

    test('sets are there by name, in their family, and those that are not are told as by the kernel', () => {
      writeFileSync(
        at('sets'),
        'create four hash:ip family inet\nadd four 192.0.2.1\ncreate six hash:net,port family inet6\n',
      );
      const script = `iptables -A INPUT -m set --match-set four src -j DROP; iptables -A INPUT -j SET --add-set four dst
        ip6tables -A INPUT -m set ! --match-set six src,dst -j DROP; iptables -S INPUT; ip6tables -S INPUT
        iptables -A INPUT -m set --match-set none src; echo $?; iptables -A INPUT -m set --match-set six src; echo $?`;
      const run = superviseScript(script, ['--sets', at('sets'), '--save', at('with-sets')]);
      const kernel = inScratchNetns(`ipset restore < ${at('sets')}
        ${script.replaceAll('iptables -', 'iptables-legacy -').replaceAll('ip6tables -', 'ip6tables-legacy -')}`);
      expect(run.stdout).toBe(kernel.stdout);
      expect(run.stderr).toBe(kernel.stderr);
    });

    test('within another one it says who answers already', () => {
      const program = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
      const run = superviseScript(
        `${process.execPath} ${program} exec --engine netstack -- true; echo "exit $?"`,
      );
      expect(run.stdout).toContain('exit 4\n');
      expect(run.said.join('\n')).toContain('this process is supervised already');
      expect(run.said.join('\n')).not.toContain('EBUSY');
    });

    test('two at once do not see each other', async () => {
      const scripts = ['10.0.0.1', '10.0.0.2'].map((address) =>
        startScript(`for i in 1 2 3 4 5 6 7 8; do iptables -A INPUT -s ${address} -p tcp --dport $i; done`),
      );
      const texts = await Promise.all(scripts.map(outputOf));
      for (const [index, text] of texts.entries()) {
        expect(text.match(/-A INPUT -s 10\.0\.0\./g)?.length).toBe(8);
        expect(text.match(new RegExp(`-s 10\\.0\\.0\\.${index + 1}/32`, 'g'))?.length).toBe(8);
      }
    });

    test('when the supervisor is killed, the command gets an error and goes on', async () => {
      // Only what the shell does itself: without its supervisor a command cannot even load programs.
      const child = startScript(
        `mkfifo ${at('go')}; iptables -N one; echo > ${at('ready')}; read go < ${at('go')}; iptables -N two 2> ${at('error')}; echo "code $?" > ${at('code')}`,
      );
      await until(() => readdirSync(folder).includes('ready'));
      child.kill('SIGKILL');
      await once(child, 'exit');
      writeFileSync(at('go'), 'go\n');
      const code = (): string =>
        readdirSync(folder).includes('code') ? readFileSync(at('code'), 'utf8') : '';
      await until(() => code().endsWith('\n'));
      expect(code()).not.toBe('code 0\n');
      expect(readFileSync(at('error'), 'utf8')).not.toBe('');
    });

    test('iptables killed at any moment leaves a whole table and a free lock', () => {
      const rules = Array.from(
        { length: 400 },
        (_, index) => `-A INPUT -s 10.0.${index >> 8}.${index & 255}/32 -j ACCEPT`,
      );
      writeFileSync(at('many'), `*filter\n${rules.join('\n')}\nCOMMIT\n`);
      // Killed after ever longer times: before, during and after the table is handed over.
      const script = `
        iptables -A INPUT -s 192.0.2.1
        for delay in 0 0.002 0.004 0.006 0.008 0.01 0.012 0.015 0.02 0.03 0.05 0.1; do
          iptables-restore < ${at('many')} & pid=$!
          sleep $delay; kill -9 $pid; wait $pid 2>/dev/null
          iptables -w 5 -S INPUT | grep -c -- '-A INPUT'
          iptables -w 5 -F INPUT; iptables -A INPUT -s 192.0.2.1
        done`;
      const run = superviseScript(script, ['--save', at('left')]);
      const counts = run.stdout
        .trim()
        .split('\n')
        .filter((line) => /^\d+$/.test(line));
      expect(counts).toHaveLength(12);
      for (const count of counts) expect(['1', '400']).toContain(count);
      expect(run.status).toBe(0);
    });
  },
  supervisionMissing,
);
