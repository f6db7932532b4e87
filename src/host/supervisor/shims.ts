/**
 * A folder that comes first in a command's PATH, so that `iptables` and its sisters are the legacy programs there:
 * on many machines the plain name is the nf_tables version, which speaks netlink and would change the host.
 */
import { accessSync, constants, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { SupervisorError } from './error.ts';

/** Places that a user's PATH may lack. */
const SYSTEM_FOLDERS: readonly string[] = ['/usr/sbin', '/sbin', '/usr/local/sbin', '/usr/bin', '/bin'];
/** The program that is all of them, told apart by the name it is called with. */
const MULTI_CALL: readonly string[] = ['xtables-legacy-multi', 'xtables-multi'];
/** Names that lead to it. */
const LEADS: readonly string[] = [...MULTI_CALL, 'iptables-legacy', 'ip6tables-legacy'];

export const SHIM_NAMES: readonly string[] = ['iptables', 'ip6tables'].flatMap((name) =>
  ['', '-save', '-restore'].flatMap((action) => [`${name}${action}`, `${name}-legacy${action}`]),
);

/** A program by name in a PATH; a name with a slash is taken as it is. `undefined` when there is none. */
export function findProgram(name: string, path: string | undefined): string | undefined {
  if (name.includes('/')) return isExecutable(name) ? name : undefined;
  for (const folder of (path ?? '').split(delimiter)) {
    const candidate = join(folder === '' ? '.' : folder, name);
    if (isExecutable(candidate)) return candidate;
  }
  return undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The multi-call program of legacy iptables. @throws {SupervisorError} `HOST_LEGACY_MISSING`, with how to install it */
export function findLegacyProgram(variables: Readonly<Record<string, string | undefined>>): string {
  const path = [variables.PATH ?? '', ...SYSTEM_FOLDERS].join(delimiter);
  for (const lead of variables.SLUICE_XTABLES === undefined ? LEADS : [variables.SLUICE_XTABLES]) {
    const found = findProgram(lead, path);
    if (found === undefined) continue;
    const program = realpathSync(found);
    if (variables.SLUICE_XTABLES !== undefined || MULTI_CALL.includes(basename(program))) return program;
  }
  throw new SupervisorError(
    'HOST_LEGACY_MISSING',
    'the legacy iptables program was not found',
    'install it (Debian and Ubuntu: apt-get install iptables; Fedora: dnf install iptables-legacy; Alpine: apk add iptables-legacy), or name it in SLUICE_XTABLES; "sluice restore" and "sluice save" do without it',
  );
}

/** A folder of the names, each the legacy program; gone with {@link Shims.remove}. */
export class Shims {
  readonly folder: string;

  constructor(program: string) {
    this.folder = mkdtempSync(join(tmpdir(), 'sluice-exec-'));
    for (const name of [...SHIM_NAMES, 'xtables-legacy-multi']) symlinkSync(program, join(this.folder, name));
  }

  /** The lock file of the programs: private, so that the host's is neither needed nor held. */
  get lockFile(): string {
    return join(this.folder, 'lock');
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
