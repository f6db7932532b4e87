/** The unmodified iptables drives a live policy: packets meet what it says, counters are exact, the kernel's tables are not there. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { removePolicies } from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';
import { supervisionMissing } from '../support/supervised.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));

const RULES_EACH = process.env.SLUICE_SOAK === '1' ? 100 : 6;

function words(host: Host, policy: string, script: string): string[] {
  return [PROGRAM, 'exec', '--netns', host.netnsName, '--policy', policy, '--', 'sh', '-c', script];
}

function drive(
  host: Host,
  policy: string,
  script: string,
): { status: number | null; stdout: string; stderr: string } {
  const options = { encoding: 'utf8', timeout: LONG_MS } as const;
  return spawnSync(process.execPath, words(host, policy, script), options);
}

/** The same without waiting; resolves with what was printed. */
async function driveBeside(host: Host, policy: string, script: string): Promise<string> {
  const child = spawn(process.execPath, words(host, policy, script), {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 2 * LONG_MS,
  });
  let text = '';
  child.stdout.on('data', (data) => {
    text += data;
  });
  await once(child, 'close');
  return text;
}

/** "packets bytes" of the rules of a chain, from the columns of -L -v -x. */
function counts(listing: string): string[] {
  return listing
    .split('\n')
    .slice(2)
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(/\s+/).slice(0, 2).join(' '));
}

describeKernel(
  'iptables on a live policy',
  () => {
    test('rules, counters over changes and over sessions, zeroing, refusals', async () => {
      await withNamespaces(['a'], async ({ a }) => {
        const policy = `slc-${process.pid}-exec`;
        const send = (port: number, packets: number): void => {
          const socket = a.udp();
          for (let sent = 0; sent < packets; sent++) socket.send('127.0.0.1', port, 'twelve bytes');
        };
        const list = (more = ''): string[] =>
          counts(drive(a, policy, `${more} iptables -L INPUT -v -n -x`).stdout);
        try {
          const made = drive(
            a,
            policy,
            'iptables -A INPUT -p udp --dport 7007 -j DROP && iptables -A INPUT -p udp --dport 7008 && ip6tables -P INPUT DROP',
          );
          expect(made).toMatchObject({ status: 0, stdout: '', stderr: '' });
          const receiver = a.udp(7007, '127.0.0.1');
          const other = a.udp(7008, '127.0.0.1');
          send(7007, 5);
          send(7008, 3);
          expect(receiver.receive(200)).toBeUndefined();
          expect(other.receive(1000)).toBeDefined();
          // IP header, UDP header and text: 40 bytes.
          expect(list()).toEqual(['5 200', '3 120']);
          // Another session changes the policy: rules that stay go on counting.
          expect(list('iptables -I INPUT 1 -s 10.9.9.9;')).toEqual(['0 0', '5 200', '3 120']);
          send(7007, 2);
          expect(list()).toEqual(['0 0', '7 280', '3 120']);
          expect(list('iptables -Z INPUT;')).toEqual(['0 0', '0 0', '0 0']);
          send(7008, 4);
          expect(list('iptables -D INPUT 1;')).toEqual(['0 0', '4 160']);
          // What no hook can run is refused with its text, and changes nothing.
          const refused = drive(a, policy, 'iptables -A INPUT -m helper --helper ftp -j DROP');
          expect(refused.status).toBe(1);
          expect(refused.stderr).toContain('sluice: iptables table filter stays as it is: ');
          expect(refused.stderr).toContain('-A INPUT -m helper --helper ftp -j DROP');
          expect(refused.stderr).toContain('No chain/target/match by that name');
          expect(list()).toEqual(['0 0', '4 160']);
          expect(a.exec('iptables-legacy-save')).toBe('');
          expect(drive(a, policy, 'ip6tables-save').stdout).toContain(':INPUT DROP');
        } finally {
          await removePolicies({ policy });
        }
      });
    });

    test('rules that keep changing are tables until the command ends, and code then; they count on', async () => {
      await withNamespaces(['a'], async ({ a }) => {
        const policy = `slc-${process.pid}-settled`;
        const folder = mkdtempSync(join(tmpdir(), 'slc-settled-'));
        const go = join(folder, 'go');
        const receiver = a.udp(7007, '127.0.0.1');
        const send = (packets: number): void => {
          const socket = a.udp();
          for (let sent = 0; sent < packets; sent++) socket.send('127.0.0.1', 7007, 'twelve bytes');
          socket.close();
          for (let got = 0; got < packets; got++) expect(receiver.receive(LONG_MS)).toBeDefined();
        };
        const sluice = (...rest: string[]): string =>
          spawnSync(process.execPath, [PROGRAM, ...rest, '--policy', policy, '--netns', a.netnsName], {
            encoding: 'utf8',
          }).stdout;
        /** One program for all hooks walks tables; code has one for each. */
        const strategy = (): string =>
          /; the program of netfilter INPUT/.test(sluice('dump')) ? 'tables' : 'code';
        try {
          drive(a, policy, 'iptables -A INPUT -p udp --dport 7007 -j ACCEPT');
          expect(strategy()).toBe('code');
          send(5);
          const session = driveBeside(
            a,
            policy,
            `for i in 1 2 3 4 5 6 7 8; do iptables -A INPUT -s 10.9.9.$i; done
             i=0; while [ ! -e ${go} ] && [ $i -lt 2400 ]; do i=$((i+1)); sleep 0.05; done
             iptables -L INPUT -v -n -x`,
          );
          while (!sluice('list', '-v').includes('10.9.9.8')) await setTimeout(20);
          expect(strategy()).toBe('tables');
          send(3);
          await writeFile(go, '');
          expect(counts(await session)[0]).toBe('8 320');
          expect(strategy()).toBe('code');
          send(2);
          expect(counts(drive(a, policy, 'iptables -L INPUT -v -n -x').stdout)[0]).toBe('10 400');
        } finally {
          await removePolicies({ policy });
          rmSync(folder, { recursive: true, force: true });
        }
      });
    });

    test('counters follow chains that get other names, and rules that say the same, as in the kernel', async () => {
      await withNamespaces(['a', 'b'], async ({ a, b }) => {
        const policy = `slc-${process.pid}-renamed`;
        const same = '-p udp --dport 1000';
        const show = ['-L -v -n -x', '-S -v'];
        const before = ['-N one', `-A one ${same}`, '-A one -j RETURN', `-A one ${same}`, '-A INPUT -j one'];
        const after = [
          ...[
            ...show,
            '-E one two',
            ...show,
            '-D two 1',
            ...show,
            `-I two 1 ${same}`,
            `-A two ${same}`,
            ...show,
          ],
          ...[`-R two 2 ${same}`, '-R INPUT 1 -g two', '-P INPUT DROP', ...show, '-P INPUT ACCEPT', ...show],
        ];
        const script = (calls: readonly string[]): string =>
          calls.map((words) => `iptables-legacy ${words}`).join('\n');
        const locked = (text: string): string =>
          `export XTABLES_LOCKFILE=$(mktemp)\n${text}\nrm $XTABLES_LOCKFILE`;
        try {
          expect(drive(a, policy, script(before))).toMatchObject({ status: 0, stdout: '', stderr: '' });
          b.exec('sh', ['-ec', locked(script(before))]);
          for (const host of [a, b]) {
            const [receiver, sender] = [host.udp(1000, '127.0.0.1'), host.udp()];
            for (let sent = 0; sent < 7; sent++) sender.send('127.0.0.1', 1000, 'twelve bytes');
            for (const socket of [receiver, sender]) socket.close();
          }
          const kernel = b.exec('sh', ['-ec', locked(script(after))]);
          expect(kernel).toContain('-A two -p udp -m udp --dport 1000 -c 7 280\n');
          expect(drive(a, policy, script(after))).toMatchObject({ status: 0, stdout: kernel, stderr: '' });
        } finally {
          await removePolicies({ policy });
        }
      });
    });

    // Without a common lock file iptables is told of the other's change, as by the kernel: REPLACE ends with EAGAIN (exit
    // code 4) and nothing is changed; ADD_COUNTERS with EINVAL (exit code 1), and the rule stands.
    test.each([
      ['with the lock of xtables', '', ['0']],
      ['with lock files of their own', 'export XTABLES_LOCKFILE=$(mktemp)', ['0', '1', '4']],
    ])('two sessions add rules at once %s: nothing is lost', async (_, before, possible) => {
      await withNamespaces(['a'], async ({ a }) => {
        const policy = `slc-${process.pid}-two`;
        const script = (session: number): string => `${before}
          left=${RULES_EACH}
          while [ $left -gt 0 ]; do
            rule="INPUT -s 10.${session}.0.$left -j ACCEPT"
            iptables -A $rule 2>/dev/null; code=$?; echo $code
            case $code in
              0) left=$((left-1));;
              1) iptables -C $rule || exit; left=$((left-1));;
              4) ;;
              *) exit;;
            esac
          done`;
        try {
          const texts = await Promise.all([1, 2].map((session) => driveBeside(a, policy, script(session))));
          expect(possible).toEqual(expect.arrayContaining([...new Set(texts.join('').trim().split('\n'))]));
          const left = drive(a, policy, 'iptables -S INPUT').stdout.match(/10\.\d\.0\.\d+/g) ?? [];
          expect(left).toHaveLength(2 * RULES_EACH);
          for (const session of [1, 2]) {
            const own = left.filter((address) => address.startsWith(`10.${session}.`));
            const order = Array.from(
              { length: RULES_EACH },
              (__, rule) => `10.${session}.0.${RULES_EACH - rule}`,
            );
            expect(own).toEqual(order);
          }
        } finally {
          await removePolicies({ policy });
        }
      });
    });

    test('a session goes on where other commands have changed, or taken away, its policy', async () => {
      await withNamespaces(['a'], async ({ a }) => {
        const policy = `slc-${process.pid}-beside`;
        const folder = mkdtempSync(join(tmpdir(), 'slc-beside-'));
        const [said, go] = [join(folder, 'said'), join(folder, 'go')];
        spawnSync('mkfifo', [said, go]);
        const policies = '-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n';
        try {
          const session = driveBeside(
            a,
            policy,
            `iptables -N one; echo > ${said}; read line < ${go}; iptables -N three; iptables -S
             echo > ${said}; read line < ${go}; iptables -S; iptables -N four; iptables -S`,
          );
          await readFile(said);
          expect(drive(a, policy, 'iptables -N two')).toMatchObject({ status: 0, stderr: '' });
          await writeFile(go, '\n');
          await readFile(said);
          await removePolicies({ policy });
          await writeFile(go, '\n');
          expect(await session).toBe(`${policies}-N one\n-N three\n-N two\n${policies}${policies}-N four\n`);
        } finally {
          rmSync(folder, { recursive: true, force: true });
          await removePolicies({ policy });
        }
      });
    });

    test('a caller without the right to change tables is refused', async () => {
      await withNamespaces(['a'], async ({ a }) => {
        const policy = `slc-${process.pid}-right`;
        try {
          const run = drive(
            a,
            policy,
            'iptables -N one; setpriv --bounding-set -net_admin --inh-caps -net_admin iptables -N two; iptables -S',
          );
          expect(run.stdout).toContain('-N one');
          expect(run.stdout).not.toContain('-N two');
          expect(run.stderr).toContain('Permission denied (you must be root)');
        } finally {
          await removePolicies({ policy });
        }
      });
    });
  },
  supervisionMissing,
);
