/** Network namespaces as commands name them: by name, path or pid, or the own one. */
import {
  currentNetns,
  currentNetnsCookie,
  type Fd,
  NETNS_DIRECTORY,
  netnsInode,
  openNetns,
  openNetnsFile,
  requireKernel,
  withNetns,
} from '../kernel/index.ts';

/** A network namespace as commands name it. */
export interface NamedNetns {
  readonly netns: Fd;
  /** As it was named; empty for the own one. */
  readonly name: string;
  readonly inode: number;
  readonly cookie: bigint;
}

/**
 * Opens a namespace by name (`ip netns`), path or pid; the own one without.
 * @throws {KernelError} `NETNS_NOT_FOUND`
 */
export function openNamedNetns(name?: string): NamedNetns {
  requireKernel();
  const netns = openNamed(name);
  try {
    const cookie = withNetns(netns, currentNetnsCookie);
    return { netns, name: name ?? '', inode: netnsInode(netns), cookie };
  } catch (error) {
    netns.close();
    throw error;
  }
}

function openNamed(name: string | undefined): Fd {
  if (name === undefined) return currentNetns();
  return isPlain(name) ? openNetns(name) : openNetnsFile(netnsPath(name));
}

/** A name of `ip netns`, neither a path nor a pid. */
function isPlain(name: string): boolean {
  return !name.includes('/') && !/^[1-9][0-9]*$/.test(name);
}

/** Where a namespace lies that commands know by this name, path or pid; empty: that of this process. */
export function netnsPath(name: string): string {
  if (name === '') return '/proc/self/ns/net';
  if (isPlain(name)) return `${NETNS_DIRECTORY}/${name}`;
  return name.includes('/') ? name : `/proc/${name}/ns/net`;
}
