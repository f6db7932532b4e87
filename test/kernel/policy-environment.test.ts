/** The command line where the surroundings refuse: nothing changes, and every refusal says why and what to do. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { applyPolicy, livePolicies, removePolicies, requireLive } from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { filterRules, filterText, policyName } from '../support/live-policy.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { LONG_MS } from '../support/patience.ts';

const SLUICE = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const OLD_RULE = '-A INPUT -p udp -m udp --dport 5000 -j ACCEPT';
const NEW_RULE = '-A INPUT -p udp -m udp --dport 5001 -j ACCEPT';

describeKernel('policies where the surroundings refuse', () => {
  let folder = '';
  let file = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'slc-environment-'));
    chmodSync(folder, 0o755);
    file = join(folder, 'rules');
    writeFileSync(file, filterText([NEW_RULE]));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The words of an `apply` of the new rule. */
  const applyWords = (host: Host, policy: string, ...more: readonly string[]): string[] => [
    process.execPath,
    SLUICE,
    'apply',
    '-4',
    file,
    '--netns',
    host.netnsName,
    '--policy',
    policy,
    ...more,
  ];
  const run = (words: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(words[0]!, words.slice(1), {
      encoding: 'utf8',
      timeout: LONG_MS,
    });
    return { status, stdout, stderr };
  };
  /** A shell in a mount namespace of its own. */
  const privately = (script: string): readonly string[] => ['unshare', '--mount', 'sh', '-c', script];

  /** Runs a command that is refused; the old policy stays as it was. */
  const refused = (words: (host: Host, policy: string) => readonly string[], why: RegExp) =>
    withNamespaces(['a'], async ({ a }) => {
      const policy = policyName();
      try {
        await applyPolicy({
          policy,
          hooks: ['netfilter'],
          namespaces: [a.netnsName],
          rulesets: [filterRules([OLD_RULE])],
        });
        const { generation } = requireLive({ policy });
        const { status, stderr } = run(words(a, policy));
        expect(stderr).toMatch(why);
        expect(stderr).not.toMatch(/^ {4}at /m);
        expect(status).toBe(4);
        const live = requireLive({ policy });
        expect(live.generation).toBe(generation);
        expect(live.problems).toEqual([]);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    });

  test('no privilege: another user, and root without capabilities', async () => {
    const hint = /may not use bpf\(2\)\n {2}hint: run as root/;
    const other = ['setpriv', '--reuid=65534', '--clear-groups'];
    const bare = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'];
    await refused((host, policy) => [...other, ...applyWords(host, policy)], hint);
    await refused((host, policy) => [...bare, ...applyWords(host, policy)], hint);
    await refused(() => [...other, process.execPath, SLUICE, 'status'], hint);
    await refused((_, policy) => [...other, process.execPath, SLUICE, 'remove', '--policy', policy], hint);
  });

  test('no bpffs, and none can be mounted', () =>
    refused(
      (host, policy) =>
        privately(
          `umount /sys/fs/bpf && mount -t tmpfs -o ro none /sys/fs && ${applyWords(host, policy).join(' ')}`,
        ),
      /mounting bpffs at \/sys\/fs\/bpf: .*\n {2}hint: policies live in a bpffs: mount one/,
    ));

  test('no bpffs: one is mounted', () =>
    withNamespaces(['a'], ({ a }) => {
      const policy = policyName();
      const status = `${process.execPath} ${SLUICE} status --policy ${policy}`;
      const { stdout, stderr } = run(
        privately(`umount /sys/fs/bpf && ${applyWords(a, policy).join(' ')} && ${status}`),
      );
      expect(stderr + stdout).toMatch(/is live[\s\S]*1 ipv4 rule; generation 1/);
      // It went with the mount namespace in which it was mounted.
      expect(livePolicies({ policy })).toEqual([]);
    }));

  test('a full disk: no place for the lock, none for what is saved', async () => {
    await refused(
      (host, policy) =>
        privately(
          'mount -t tmpfs -o size=4k,nr_inodes=2 none /run/sluice && : > /run/sluice/full && ' +
            applyWords(host, policy).join(' '),
        ),
      /policies\.lock: no space left on the device/,
    );
    await refused(
      (_, policy) => ['sh', '-c', `${process.execPath} ${SLUICE} save --json --policy ${policy} > /dev/full`],
      /standard output: no space left on the device/,
    );
  });

  test('several commands at once: each is done whole, one after the other', () =>
    withNamespaces(['a'], async ({ a }) => {
      const policy = policyName();
      try {
        const ends = Array.from({ length: 4 }, (_, index) => {
          const own = join(folder, `rules${index}`);
          writeFileSync(own, filterText(Array.from({ length: index + 1 }, () => NEW_RULE)));
          const [command = '', ...words] = applyWords(a, policy, '--json');
          words[words.indexOf(file)] = own;
          const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] });
          let printed = '';
          child.stdout.on('data', (chunk) => {
            printed += String(chunk);
          });
          return new Promise<number>((resolve) => {
            child.once('close', () => {
              const { apply } = JSON.parse(printed) as {
                apply: { namespaces: readonly [{ generation: number }] };
              };
              resolve(apply.namespaces[0].generation);
            });
          });
        });
        const generations = await Promise.all(ends);
        const live = requireLive({ policy });
        expect(live.problems).toEqual([]);
        expect(live.generation).toBe(Math.max(...generations));
        const last = generations.indexOf(live.generation);
        expect(live.rulesets[0]!.tables[0]!.chains[0]!.rules).toHaveLength(last + 1);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));

  test('--confirm: the way back when the command is killed and its terminal is gone', () =>
    withNamespaces(['a'], async ({ a }) => {
      const policy = policyName();
      const sockets = [5000, 5001].map((port) => a.udp(port));
      const client = a.udp();
      const passing = (): number[] => {
        for (const port of [5000, 5001]) client.send('127.0.0.1', port, 'x');
        return sockets.filter((socket) => socket.receive(50) !== undefined).map(({ port }) => port);
      };
      try {
        await applyPolicy({
          policy,
          hooks: ['netfilter'],
          namespaces: [a.netnsName],
          rulesets: [filterRules([OLD_RULE])],
        });
        expect(passing()).toEqual([5000]);
        const script = `echo shell $$; ${applyWords(a, policy, '--confirm', '3').join(' ')}; exec sleep 60`;
        const terminal = spawn('script', ['-qfec', script, '/dev/null'], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        let printed = '';
        await new Promise<void>((resolve, reject) => {
          terminal.once('exit', () => reject(new Error(printed)));
          terminal.stdout.on('data', (chunk) => {
            printed += String(chunk);
            if (printed.includes('confirm it before')) resolve();
          });
        });
        terminal.removeAllListeners('exit');
        terminal.kill('SIGKILL');
        const shell = /shell ([0-9]+)/.exec(printed)![1]!;
        const { confirmWithinMs = 0 } = requireLive({ policy });
        expect(passing()).toEqual([5001]);
        for (let waited = 0; existsSync(`/proc/${shell}`); waited += 20) {
          expect(waited).toBeLessThan(LONG_MS);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        await new Promise((resolve) => setTimeout(resolve, confirmWithinMs + 100));
        expect(passing()).toEqual([5000]);
        expect(requireLive({ policy }).rulesets[0]!.tables[0]!.chains[0]!.rules).toHaveLength(1);
      } finally {
        await removePolicies({ policy }).catch(() => []);
      }
    }));
});
