/** Commands under the built `sluice exec`, as a user runs it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { iptablesMissing } from './iptables.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const BUILT = fileURLToPath(new URL('../../dist/host/supervisor/launcher.js', import.meta.url));

/** Why commands cannot be supervised here; `undefined` when they can. */
export const supervisionMissing: string | undefined =
  iptablesMissing ?? (existsSync(BUILT) ? undefined : 'needs the built package: npm run build');

export interface Supervised {
  readonly status: number;
  readonly stdout: string;
  /** Without the lines of Sluice itself. */
  readonly stderr: string;
  /** Those lines. */
  readonly said: readonly string[];
}

/** What node is to run for it. */
export function supervisedWords(script: string, options: readonly string[]): string[] {
  return [PROGRAM, 'exec', '--engine', 'netstack', ...options, '--', 'sh', '-c', script];
}

/** Runs a shell script to its end. `options` are of `sluice exec`. */
export function superviseScript(script: string, options: readonly string[] = [], input = ''): Supervised {
  const run = spawnSync(process.execPath, supervisedWords(script, options), {
    encoding: 'utf8',
    input,
    timeout: 120_000,
    maxBuffer: 1 << 28,
  });
  if (run.error !== undefined) throw run.error;
  const lines = run.stderr.split('\n');
  return {
    status: run.status ?? -1,
    stdout: run.stdout,
    stderr: lines.filter((line) => !line.startsWith('sluice: ')).join('\n'),
    said: lines.filter((line) => line.startsWith('sluice: ')),
  };
}

/** Starts a shell script and does not wait. */
export function startScript(script: string, options: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, supervisedWords(script, options), { stdio: ['ignore', 'pipe', 'pipe'] });
}
