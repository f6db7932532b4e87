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
 * Inode numbers of the namespaces that have a thread in them or a mount of this mount namespace. One that only links,
 * sockets or descriptors hold is not among them: nothing new can ever run in it unless somebody passes a descriptor on.
 */
export function reachableNetnsInodes(): ReadonlySet<number> {
  const inodes = new Set<number>();
  const add = (text: string): void => {
    const inode = /^net:\[(\d+)\]$/.exec(text)?.[1];
    if (inode !== undefined) inodes.add(Number(inode));
  };
  for (const pid of numbersIn('/proc')) {
    // Threads of one process may be in different namespaces.
    for (const tid of numbersIn(`/proc/${pid}/task`)) {
      try {
        add(readlinkSync(`/proc/${pid}/task/${tid}/ns/net`));
      } catch {
        // The thread has ended, or is a kernel thread or zombie without namespaces.
      }
    }
  }
  // proc_pid_mountinfo(5): the fourth field of a namespace's bind mount names the namespace.
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) add(line.split(' ')[3] ?? '');
  return inodes;
}

function numbersIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}
