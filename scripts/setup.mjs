/**
 * Brings a fresh checkout to the point where it runs: npm packages, the compiled `dist/`, and, as root on Debian,
 * the tools that tests use as oracles. Says on standard error what it does; does nothing that is already done.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const say = (text) => process.stderr.write(`${text}\n`);

/** Runs a command in the checkout with its output on our standard error; throws when it fails. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with status ${result.status}`);
}

/** npm ci, unless node_modules is as new as the lock file. */
export function installPackages() {
  const marker = join(root, 'node_modules', '.package-lock.json');
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs)
    return;
  say('installing npm packages …');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Compiles `src` to `dist`; incremental. */
export function build() {
  say('compiling …');
  run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b']);
}

const ORACLES = {
  'iptables-legacy': 'iptables',
  nft: 'nftables',
  ipset: 'ipset',
  ip: 'iproute2',
  bpftool: 'bpftool',
  tshark: 'tshark',
  zsh: 'zsh',
  fish: 'fish',
};

const onPath = (tool) =>
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].some((folder) =>
    existsSync(join(folder, tool)),
  );

/** Debian packages of the tools that tests compare with, and of the shells that complete our commands; only as root on Debian, else they are left out. */
export function installOracles() {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return;
  const missing = [
    ...new Set(Object.entries(ORACLES).flatMap(([tool, name]) => (onPath(tool) ? [] : [name]))),
  ];
  if (missing.length === 0) return;
  say(`installing ${missing.join(', ')} …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], { env });
}

/** The first line that names what stops a start here, or undefined. */
export function checkNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return undefined;
  return `Sluice needs Node ${engines.node}; this is ${process.versions.node}`;
}
