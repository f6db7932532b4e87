/** Which network namespaces somebody can still reach: by name, by process, by mount. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { NETNS_DIRECTORY } from './netns.ts';

/** Names below /run/netns, as `ip netns list` shows them. */
export function listNetnsNames(): string[] {
  try {
    return readdirSync(NETNS_DIRECTORY).sort();
  } catch {
    return [];
  }
}

/**
 * Inode numbers of the namespaces that have a thread in them or a mount in a mount namespace that has a process. One that
 * only links, sockets or descriptors hold is not among them: nothing new can ever run in it unless somebody passes a
 * descriptor on.
 */
export function reachableNetnsInodes(): ReadonlySet<number> {
  return new Set(reachableNetns().keys());
}

/** The same with a path by which each can be opened; empty where only another mount namespace has one. */
export function reachableNetns(): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  const add = (text: string, path: string): void => {
    const inode = /^net:\[(\d+)\]$/.exec(text)?.[1];
    if (inode !== undefined && (found.get(Number(inode)) ?? '') === '') found.set(Number(inode), path);
  };
  // proc_pid_mountinfo(5): the fourth field of a namespace's bind mount names the namespace, the fifth is the mount point.
  const addMounts = (mountinfo: string, reachable: boolean): void => {
    for (const line of mountinfo.split('\n')) {
      const fields = line.split(' ');
      add(fields[3] ?? '', reachable ? (fields[4] ?? '') : '');
    }
  };
  addMounts(readFileSync('/proc/self/mountinfo', 'utf8'), true);
  const mountNamespaces = new Set([readlinkSync('/proc/self/ns/mnt')]);
  for (const pid of numbersIn('/proc')) {
    // Threads of one process may be in different namespaces.
    for (const tid of numbersIn(`/proc/${pid}/task`)) {
      const path = `/proc/${pid}/task/${tid}/ns/net`;
      try {
        add(readlinkSync(path), path);
      } catch {
        // The thread has ended, or is a kernel thread or zombie without namespaces.
      }
    }
    try {
      const mountNamespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (mountNamespaces.has(mountNamespace)) continue;
      mountNamespaces.add(mountNamespace);
      addMounts(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'), false);
    } catch {
      // As above.
    }
  }
  return found;
}

function numbersIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}
