/** Where the state of a network namespace lies: a directory of pins, and a lock. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { ensureBpffs, findBpffs, lock, openPinnedLink } from '../../kernel/index.ts';
import { SocketHostError } from './error.ts';

const LOCK_DIRECTORY = '/run/sluice';
const LOCK_TIMEOUT_MS = 10_000;

/** Names of pins in a namespace's directory. */
export const PIN = {
  arena: 'arena',
  sockets: 'sockets',
  metrics: 'metrics',
  flows: 'flows',
  program: 'program',
  link: 'link',
} as const;

function root(bpffs: string): string {
  return `${bpffs}/sluice/sockets`;
}

/** The directory of a namespace's pins; it need not exist. */
export function pinDirectory(cookie: bigint): string {
  return `${root(findBpffs() ?? ensureBpffs())}/${cookie}`;
}

/** Takes the namespace's lock for as long as the function runs. @throws {SocketHostError} `HOST_SOCKETS_BUSY` */
export async function withSocketLock<T>(cookie: bigint, use: () => T | Promise<T>): Promise<T> {
  mkdirSync(LOCK_DIRECTORY, { recursive: true, mode: 0o755 });
  const held = await lock(`${LOCK_DIRECTORY}/sockets-${cookie}.lock`, LOCK_TIMEOUT_MS);
  if (held === undefined) {
    throw new SocketHostError(
      'HOST_SOCKETS_BUSY',
      `another command has been changing the socket tables for ${LOCK_TIMEOUT_MS / 1000} s`,
      'wait for it to end',
    );
  }
  try {
    return await use();
  } finally {
    held.close();
  }
}

/** Removes the pins of namespaces that have gone (their links name none), and what a crash left half made. */
export function collectGarbage(): void {
  const bpffs = findBpffs();
  if (bpffs === undefined) return;
  let names: string[];
  try {
    names = readdirSync(root(bpffs));
  } catch {
    return;
  }
  for (const name of names) {
    const path = `${root(bpffs)}/${name}`;
    const link = openPinnedLink(`${path}/${PIN.link}`);
    if (link === undefined) continue;
    try {
      const about = link.describe();
      if (about.kind === 'netns' && about.netnsInode === 0) rmSync(path, { recursive: true, force: true });
    } finally {
      link.close();
    }
  }
}
