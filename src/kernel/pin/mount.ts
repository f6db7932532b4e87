/** Finding and mounting the file systems that BPF needs: bpffs and the cgroup v2 hierarchy. */
import { readFileSync } from 'node:fs';
import { SyscallError } from '../sys/error.ts';
import { cStringBytes } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

/** Where bpffs belongs (Documentation/bpf, systemd). */
export const BPFFS_PATH = '/sys/fs/bpf';

interface Mount {
  readonly path: string;
  readonly type: string;
}

/** The mounts of this process's mount namespace: proc_pid_mountinfo(5). */
function mounts(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const path = (before.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
      return { path, type: after.split(' ')[0] ?? '' };
    });
}

/** Mount point of a bpffs, the usual one first; `undefined` when there is none. */
export function findBpffs(): string | undefined {
  const paths = mounts().filter(({ type }) => type === 'bpf');
  return (paths.find(({ path }) => path === BPFFS_PATH) ?? paths[0])?.path;
}

/** Mount point of the cgroup v2 hierarchy, also on hybrid systems; `undefined` when there is none. */
export function findCgroup2(): string | undefined {
  return mounts().find(({ type }) => type === 'cgroup2')?.path;
}

/** A bpffs, mounted where it belongs if there is none. @throws {SyscallError} EPERM without CAP_SYS_ADMIN */
export function ensureBpffs(): string {
  const found = findBpffs();
  if (found !== undefined) return found;
  const fs = cStringBytes('bpf');
  const result = trySyscall('mount', fs, cStringBytes(BPFFS_PATH), fs, 0, cStringBytes('mode=0700'));
  if (result < 0) {
    const hint = `policies live in a bpffs: mount one with: mkdir -p ${BPFFS_PATH} && mount -t bpf bpf ${BPFFS_PATH}`;
    throw new SyscallError('mount', -result, `mounting bpffs at ${BPFFS_PATH}`, hint);
  }
  return BPFFS_PATH;
}
