/** Machines without the legacy program, or without seccomp(2): what `sluice exec` says, and that restore and save do without. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { accessSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { removePolicies } from '../../src/host/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { policyName } from '../support/live-policy.ts';
import { withNamespaces } from '../support/netns.ts';
import { supervisionMissing } from '../support/supervised.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const WITHOUT_SECCOMP = fileURLToPath(new URL('../support/without-seccomp.mjs', import.meta.url));
const ERRNOS = { EPERM: 1, ENOSYS: 38 };
const TEXT = '*filter\n:INPUT DROP [1:40]\n[2:80] -A INPUT -i lo -j ACCEPT\nCOMMIT\n';
const SAVED =
  '*filter\n:INPUT DROP [1:40]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n[2:80] -A INPUT -i lo -j ACCEPT\nCOMMIT\n';

/** Runs a program to its end. */
type Run = (words: readonly string[]) => SpawnSyncReturns<string>;

function run(words: readonly string[]): SpawnSyncReturns<string> {
  const done = spawnSync(words[0]!, words.slice(1), {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, SLUICE_XTABLES: undefined },
  });
  if (done.error !== undefined) throw done.error;
  return done;
}

/** Where nothing is installed among the system's programs: a mount namespace in which their folders are empty. */
const withoutPrograms: Run = (words) => {
  const hidden = ['/usr/sbin', '/usr/local/sbin'].filter((folder) => exists(folder));
  const hide = hidden.map((folder) => `mount -t tmpfs none ${folder}`);
  return run(['unshare', '--mount', 'sh', '-c', `${hide.join(' && ')} && exec "$@"`, 'sh', ...words]);
};

const withoutSeccomp =
  (errno: number): Run =>
  (words) =>
    run([process.execPath, WITHOUT_SECCOMP, String(errno), ...words]);

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The error of a command with --json. */
function errorOf({ status, stdout }: SpawnSyncReturns<string>): {
  code: string;
  message: string;
  hint: string;
} {
  expect(status).toBe(4);
  return (JSON.parse(stdout) as { error: { code: string; message: string; hint: string } }).error;
}

/** Makes rules live, adds to them, prints them. */
async function expectRestored(run: Run): Promise<void> {
  await withNamespaces(['ours'], async ({ ours }) => {
    const policy = policyName();
    const folder = mkdtempSync(join(tmpdir(), 'slc-missing-'));
    const sluice = (command: string, ...words: string[]): string => {
      const here = ['--policy', policy, '--netns', `/run/netns/${ours.netnsName}`];
      const done = run([process.execPath, PROGRAM, command, ...words, ...here]);
      expect(done.status, done.stderr).toBe(0);
      return done.stdout;
    };
    try {
      const [rules, more] = [join(folder, 'rules.v4'), join(folder, 'more.v4')];
      writeFileSync(rules, TEXT);
      writeFileSync(more, '*filter\n-A INPUT -j DROP\nCOMMIT\n');
      sluice('restore', '--counters', rules);
      sluice('restore', '--test', '--noflush', more);
      expect(sluice('save')).toBe(SAVED);
      sluice('restore', '--noflush', more);
      expect(sluice('save')).toContain('[2:80] -A INPUT -i lo -j ACCEPT\n[0:0] -A INPUT -j DROP\n');
    } finally {
      await removePolicies({ policy }).catch(() => []);
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

const EXEC = ['--engine', 'netstack', '--json', '--', 'true'];

describeKernel(
  'sluice exec where something is missing',
  () => {
    test('without the legacy program it says how to install it; restore and save do without', {
      timeout: 60_000,
    }, async () => {
      const { code, hint } = errorOf(withoutPrograms([process.execPath, PROGRAM, 'exec', ...EXEC]));
      expect(code).toBe('HOST_LEGACY_MISSING');
      expect(hint).toContain('apt-get install iptables');
      expect(hint).toContain('sluice restore');
      await expectRestored(withoutPrograms);
    });

    test('where seccomp is refused it says so; restore and save do without', {
      timeout: 60_000,
    }, async () => {
      for (const [name, errno] of Object.entries(ERRNOS)) {
        const refused = withoutSeccomp(errno)([process.execPath, PROGRAM, 'exec', ...EXEC]);
        const { code, message, hint } = errorOf(refused);
        expect(code).toBe('HOST_SECCOMP_REFUSED');
        expect(message).toContain(name);
        expect(hint).toContain('sluice restore');
      }
      await expectRestored(withoutSeccomp(ERRNOS.EPERM));
    });
  },
  supervisionMissing,
);
