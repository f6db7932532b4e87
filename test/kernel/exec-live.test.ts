/** The unmodified iptables drives a live policy: packets meet what it says, counters are exact, the kernel's tables are not there. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { removePolicies } from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { supervisionMissing } from '../support/supervised.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));

function drive(
  host: Host,
  policy: string,
  script: string,
): { status: number | null; stdout: string; stderr: string } {
  const words = [PROGRAM, 'exec', '--netns', host.netnsName, '--policy', policy, '--', 'sh', '-c', script];
  return spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 60_000 });
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
