/**
 * Network namespaces: network_namespaces(7), setns(2), unshare(2).
 *
 * A namespace is a property of a **thread**. `setns` and `unshare` here move the calling JavaScript thread only; libuv's
 * pool threads (asynchronous `fs`, `dns`) and worker threads stay where they are. So one enters a namespace for the
 * length of a synchronous function and leaves it again: {@link withNetns}. Sockets keep the namespace in which they were
 * made, so make them inside and use them anywhere.
 */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { Errno, errnoText } from '../sys/errno.ts';
import { KernelArgumentError, KernelError, SyscallError } from '../sys/error.ts';
import { Fd } from '../sys/fd.ts';
import { cStringBytes } from '../sys/struct.ts';
import { syscall, trySyscall } from '../sys/syscall.ts';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;

/** Where iproute2 keeps named namespaces; `ip netns` and `nsenter` find ours there. */
export const NETNS_DIRECTORY = '/run/netns';

/** The namespace of the calling thread. Not `/proc/self`: that is the main thread's. */
const CURRENT = '/proc/thread-self/ns/net';

/** Opens a namespace by file: a bind mount, or `/proc/<pid>/ns/net`. @throws {KernelError} `NETNS_NOT_FOUND` */
export function openNetnsFile(path: string): Fd {
  let number: number;
  try {
    number = openSync(path, 'r');
  } catch (cause) {
    throw new KernelError(
      'NETNS_NOT_FOUND',
      `there is no network namespace at ${path}`,
      'list the named ones with: ip netns list',
      { cause },
    );
  }
  return new Fd(number, `network namespace ${path}`);
}

/** Opens a named namespace (`ip netns add NAME`). @throws {KernelError} `NETNS_NOT_FOUND` */
export function openNetns(name: string): Fd {
  return openNetnsFile(`${NETNS_DIRECTORY}/${checkNetnsName(name)}`);
}

/** The namespace the calling thread is in. */
export function currentNetns(): Fd {
  return openNetnsFile(CURRENT);
}

/** Inode number of a namespace: what `ip netns identify` and `/proc/<pid>/ns/net` compare. Reused after its end. */
export function netnsInode(netns: Fd): number {
  return fstatSync(netns.number).ino;
}

/** Inode number of the calling thread's namespace. */
export function currentNetnsInode(): number {
  return Number(/\[(\d+)\]/.exec(readlinkSync(CURRENT))?.[1]);
}

/**
 * Runs a synchronous function with the calling thread inside `netns`, and comes back. What runs later (promises, timers,
 * listen and connect of `node:net`, which look names up first) runs outside; a function that returns a promise is refused.
 * @throws {SyscallError} EPERM without CAP_SYS_ADMIN
 * @throws {KernelError} `NETNS_STRANDED` when the way back fails; the process is then of no more use
 */
export function withNetns<T>(netns: Fd, use: () => T): T {
  const back = currentNetns();
  try {
    enter(netns);
    let result: T;
    try {
      result = use();
    } finally {
      comeBack(back);
    }
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new KernelArgumentError(
        'withNetns takes a synchronous function: what a promise does later would run in another namespace',
        'make sockets inside and use them outside',
      );
    }
    return result;
  } finally {
    back.close();
  }
}

function enter(netns: Fd): void {
  const result = trySyscall('setns', netns.number, CLONE_NEWNET);
  if (result < 0) throw new SyscallError('setns', -result, `entering ${netns.label}`);
}

function comeBack(back: Fd): void {
  const result = trySyscall('setns', back.number, CLONE_NEWNET);
  if (result < 0) {
    const reason = errnoText(-result);
    throw new KernelError(
      'NETNS_STRANDED',
      `cannot come back to the former network namespace: ${reason}`,
      'end the process',
    );
  }
}

/** Makes a namespace without a name; it lives as long as the descriptor and what else refers to it. Its `lo` is down. */
export function createNetns(): Fd {
  const back = currentNetns();
  try {
    const result = trySyscall('unshare', CLONE_NEWNET);
    if (result < 0) throw new SyscallError('unshare', -result, 'creating a network namespace');
    try {
      return currentNetns();
    } finally {
      comeBack(back);
    }
  } finally {
    back.close();
  }
}

/**
 * Makes a named namespace as `ip netns add` does: bind-mounted below /run/netns, there until {@link deleteNetns}.
 * @throws {KernelError} `NETNS_EXISTS`
 */
export function createNamedNetns(name: string): Fd {
  const path = `${NETNS_DIRECTORY}/${checkNetnsName(name)}`;
  shareDirectory();
  try {
    closeSync(openSync(path, 'wx', 0o444));
  } catch (cause) {
    throw new KernelError(
      'NETNS_EXISTS',
      `network namespace ${name} exists`,
      `remove it with: ip netns del ${name}`,
      { cause },
    );
  }
  let netns: Fd | undefined;
  try {
    netns = createNetns();
    const source = cStringBytes(`/proc/thread-self/fd/${netns.number}`);
    const result = trySyscall('mount', source, cStringBytes(path), cStringBytes('none'), MS_BIND, null);
    if (result < 0) throw new SyscallError('mount', -result, `naming network namespace ${name}`);
    return netns;
  } catch (error) {
    netns?.close();
    rmSync(path, { force: true });
    throw error;
  }
}

/** iproute2 makes /run/netns a shared mount so that names appear in all mount namespaces; so do we, once. */
function shareDirectory(): void {
  mkdirSync(NETNS_DIRECTORY, { recursive: true, mode: 0o755 });
  const directory = cStringBytes(NETNS_DIRECTORY);
  const none = cStringBytes('none');
  const share = (): number =>
    trySyscall('mount', cStringBytes(''), directory, none, MS_SHARED | MS_REC, null);
  if (share() !== -Errno.EINVAL) return;
  syscall('mount', directory, directory, none, MS_BIND | MS_REC, null);
  const result = share();
  if (result < 0) throw new SyscallError('mount', -result, `sharing ${NETNS_DIRECTORY}`);
}

/** Takes the name away; the namespace ends when no process, descriptor or link refers to it. False: no such name. */
export function deleteNetns(name: string): boolean {
  const path = `${NETNS_DIRECTORY}/${checkNetnsName(name)}`;
  trySyscall('umount2', cStringBytes(path), MNT_DETACH);
  try {
    rmSync(path);
    return true;
  } catch {
    return false;
  }
}

function checkNetnsName(name: string): string {
  if (!/^[^/\0]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new KernelArgumentError(`"${name}" is no name for a network namespace`, 'give a plain file name');
  }
  return name;
}

function sysctlPath(name: string): string {
  return `/proc/sys/${name.includes('/') ? name : name.replaceAll('.', '/')}`;
}

/** Reads a sysctl of the calling thread's namespace; `undefined` when there is none of this name. */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(sysctlPath(name), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Sets a sysctl of the calling thread's namespace: `net.ipv4.ip_forward`, or with slashes for names that hold dots. */
export function writeSysctl(name: string, value: string | number): void {
  try {
    writeFileSync(sysctlPath(name), String(value));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KernelError('SYSCTL', `sysctl ${name} cannot be set to ${value}: ${reason}`, undefined, {
      cause,
    });
  }
}
