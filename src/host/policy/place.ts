/** Where policies lie: a directory of pins for each, and one lock for all who change any of them. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdirSync, readdirSync } from 'node:fs';
import { findBpffs, lock, lockHolder, requireKernel } from '../../kernel/index.ts';
import { PolicyError } from './error.ts';

const LOCK_DIRECTORY = '/run/sluice';
/** Tables of 100,000 rules take ten seconds to make live, several times that on a busy machine, and at boot many may wait. */
const LOCK_TIMEOUT_MS = 120_000;
/** Starts the names of directories that are being made; no policy's name does. */
const STAGING = '-';

/** The directory of all policies in a bpffs. */
export function policiesRoot(bpffs: string): string {
  return `${bpffs}/sluice/policies`;
}

/** @throws {PolicyError} `HOST_POLICY_NAME` */
export function checkPolicyName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/.test(name)) return;
  throw new PolicyError(
    'HOST_POLICY_NAME',
    `"${name}" is no name for a policy`,
    'at most 32 letters, digits, underscores and dashes, a letter or digit first',
  );
}

/** Names of the policies that exist; nothing is mounted for it. */
export function policyNames(): string[] {
  const bpffs = findBpffs();
  return bpffs === undefined
    ? []
    : entriesOf(policiesRoot(bpffs)).filter((name) => !name.startsWith(STAGING));
}

/** Directories that a crash left half made. */
export function unfinishedDirectories(bpffs: string): string[] {
  const root = policiesRoot(bpffs);
  return entriesOf(root)
    .filter((name) => name.startsWith(STAGING))
    .map((name) => `${root}/${name}`);
}

/** Names in a directory, sorted; none when it is not there. */
export function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    // Who may not look may not use bpf(2) either, and is told the way out.
    requireKernel();
    throw error;
  }
}

/** Pins of one policy. */
export class PolicyPlace {
  readonly directory: string;
  /** Where the directory is made before it gets its name. */
  readonly staging: string;

  constructor(bpffs: string, policy: string) {
    checkPolicyName(policy);
    this.directory = `${policiesRoot(bpffs)}/${policy}`;
    this.staging = `${policiesRoot(bpffs)}/${STAGING}${policy}`;
  }

  map(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** The document of a generation, by its number. */
  generation(number: number | string): string {
    return `${this.directory}/generations/${number}`;
  }

  /** Dispatchers, backstop and socket filters. */
  program(name: string): string {
    return `${this.directory}/programs/${name}`;
  }

  netns(cookie: bigint): string {
    return `${this.directory}/netns/${cookie}`;
  }

  netnsDocument(cookie: bigint): string {
    return `${this.netns(cookie)}/about`;
  }

  links(cookie: bigint): string {
    return `${this.netns(cookie)}/links`;
  }

  link(cookie: bigint, name: string): string {
    return `${this.links(cookie)}/${name}`;
  }
}

/** Set in what runs under the lock. */
const holding = new AsyncLocalStorage<true>();

/**
 * Runs `use` while no other command changes policies; what runs under the lock may take it again.
 * @throws {PolicyError} `HOST_POLICY_BUSY`
 */
export async function withPolicyLock<T>(use: () => T | Promise<T>): Promise<T> {
  if (holding.getStore() === true) return await use();
  mkdirSync(LOCK_DIRECTORY, { recursive: true, mode: 0o755 });
  const path = `${LOCK_DIRECTORY}/policies.lock`;
  const held = await lock(path, LOCK_TIMEOUT_MS);
  if (held === undefined) {
    throw new PolicyError(
      'HOST_POLICY_BUSY',
      `other commands have been changing policies for ${LOCK_TIMEOUT_MS / 1000} s; now it is ${lockHolder(path) ?? 'nobody'}`,
      'wait for it to end, and try again',
    );
  }
  try {
    return await holding.run(true, use);
  } finally {
    held.close();
  }
}
