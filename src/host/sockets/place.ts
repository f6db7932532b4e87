/** Where the state of a network namespace lies: a directory of pins, and a lock. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { ensureBpffs, findBpffs, lock, lockHolder, openPinnedLink, tryLock } from '../../kernel/index.ts';
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

/** Ends the names of {@link stagingDirectory}. */
const STAGING = '_new';

/** The directory of a namespace's pins; it need not exist. */
export function pinDirectory(cookie: bigint): string {
  return `${root(findBpffs() ?? ensureBpffs())}/${cookie}`;
}

/** Where pins are made, before they get their place by one rename. */
export function stagingDirectory(directory: string): string {
  return `${directory}${STAGING}`;
}

function lockPath(cookie: bigint | string): string {
  mkdirSync(LOCK_DIRECTORY, { recursive: true, mode: 0o755 });
  return `${LOCK_DIRECTORY}/sockets-${cookie}.lock`;
}

/** Takes the namespace's lock for as long as the function runs. @throws {SocketHostError} `HOST_SOCKETS_BUSY` */
export async function withSocketLock<T>(cookie: bigint, use: () => T | Promise<T>): Promise<T> {
  const path = lockPath(cookie);
  const held = await lock(path, LOCK_TIMEOUT_MS);
  if (held === undefined) {
    throw new SocketHostError(
      'HOST_SOCKETS_BUSY',
      `other commands have been changing the socket tables for ${LOCK_TIMEOUT_MS / 1000} s; now it is ${lockHolder(path) ?? 'nobody'}`,
      'wait for it to end, and try again',
    );
  }
  try {
    return await use();
  } finally {
    held.close();
  }
}

/**
 * Removes the pins of namespaces that have gone (their links name none), and what commands that were ended in their middle
 * have left; whatever a command is just making or removing is locked, and stays.
 */
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
    const staged = name.endsWith(STAGING);
    if (!staged && isAttached(`${path}/${PIN.link}`)) continue;
    const held = tryLock(lockPath(staged ? name.slice(0, -STAGING.length) : name));
    if (held === undefined) continue;
    rmSync(path, { recursive: true, force: true });
    held.close();
  }
}

/** Whether a link is pinned there whose namespace exists. */
function isAttached(path: string): boolean {
  const link = openPinnedLink(path);
  try {
    const about = link?.describe();
    return about?.kind === 'netns' && about.netnsInode !== 0;
  } finally {
    link?.close();
  }
}
