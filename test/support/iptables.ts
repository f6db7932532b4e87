/** The real iptables-legacy, each call in a network namespace of its own that ends with it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Family } from '../../src/net/index.ts';
import { LONG_MS } from './patience.ts';

/** Why the real iptables cannot be asked here; `undefined` when it can. */
export const iptablesMissing: string | undefined = whyNot();

function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  const version = spawnSync('iptables-legacy', ['--version'], { encoding: 'utf8' });
  return version.stdout?.includes('v1.8.9') ? undefined : 'needs iptables-legacy 1.8.9';
}

/** Runs a shell script in a fresh network namespace; the file `$INPUT` holds the input. The lock file is of its own, too. */
export function inScratchNetns(
  script: string,
  input = '',
): { status: number; stdout: string; stderr: string } {
  const folder = mkdtempSync(join(tmpdir(), 'slc-iptables-'));
  try {
    const file = join(folder, 'input');
    writeFileSync(file, input);
    const result = spawnSync('unshare', ['--net', 'sh', '-c', script], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, INPUT: file, XTABLES_LOCKFILE: join(folder, 'lock') },
      timeout: LONG_MS,
    });
    if (result.error !== undefined) throw result.error;
    return { status: result.status ?? -1, stdout: result.stdout, stderr: result.stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function restoreProgram(family: Family): string {
  return family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
}

export function saveProgram(family: Family): string {
  return family === 'ipv4' ? 'iptables-legacy-save' : 'ip6tables-legacy-save';
}

export interface RestoreOutcome {
  readonly accepted: boolean;
  /** The line it names as the place of its error. */
  readonly line: number | undefined;
  readonly message: string;
  /** What iptables-save prints afterwards, without its comments; "" unless accepted. */
  readonly saved: string;
}

/** Restores the text in a fresh namespace and saves it again. */
export function restore(text: string, family: Family): RestoreOutcome {
  const { status, stdout, stderr } = inScratchNetns(
    `${restoreProgram(family)} "$INPUT" && ${saveProgram(family)}`,
    text,
  );
  const line = /(?:Error occurred at line: |: line |COMMIT expected at line |Bad line )([0-9]+)/.exec(stderr);
  return {
    accepted: status === 0,
    line: line === null ? undefined : Number(line[1]),
    message: stderr.split('\n')[0] ?? '',
    saved: status === 0 ? withoutComments(stdout) : '',
  };
}

/** Lines that begin with "#" say when a file was made. */
export function withoutComments(saved: string): string {
  return saved
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n');
}
