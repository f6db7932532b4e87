/** Network namespaces as commands name them: by name, path or pid, or the own one. */
import {
  currentNetns,
  currentNetnsCookie,
  type Fd,
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
  if (/^[1-9][0-9]*$/.test(name)) return openNetnsFile(`/proc/${name}/ns/net`);
  return name.includes('/') ? openNetnsFile(name) : openNetns(name);
}
