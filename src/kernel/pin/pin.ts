/**
 * Pins: names for BPF objects in bpffs, which keep them alive without a process (kernel/bpf/inode.c).
 *
 * bpffs refuses names with a dot. A pin cannot be overwritten, but rename(2) replaces one in a single step: so a new
 * object is pinned to a staging name first.
 */
import { mkdirSync, readlinkSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { Link } from '../link/link.ts';
import { BpfMap } from '../map/map.ts';
import { Program } from '../program/program.ts';
import { attr, BpfCommand, bpfError, tryBpf } from '../sys/bpf.ts';
import { Errno } from '../sys/errno.ts';
import { KernelError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { cStringBytes, encodeStruct } from '../sys/struct.ts';
import { BPFFS_PATH } from './mount.ts';

/** What can be pinned. */
export interface Pinnable {
  readonly fd: Fd;
}

/**
 * Pins an object under a new name; makes the directories above it.
 * @throws {KernelError} `PIN_EXISTS` when the name is taken, `PIN_NO_BPFFS` when the path is not in a bpffs
 */
export function pin(object: Pinnable, path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const request = { path: cStringBytes(path), fd: object.fd.number };
  const result = tryBpf(BpfCommand.OBJ_PIN, encodeStruct(attr.object, request), request);
  if (result >= 0) return;
  if (result === -Errno.EEXIST)
    throw new KernelError('PIN_EXISTS', `${path} exists`, 'choose another name or replace it');
  if (result === -Errno.EPERM && path.slice(path.lastIndexOf('/')).includes('.')) {
    throw new KernelError('PIN_NAME', `${path}: bpffs takes no names with dots`, 'use underscores');
  }
  if (result === -Errno.EINVAL || result === -Errno.EPERM) {
    throw new KernelError(
      'PIN_NO_BPFFS',
      `${path} is not in a bpffs`,
      `mount one: mount -t bpf bpf ${BPFFS_PATH}`,
    );
  }
  throw bpfError('OBJ_PIN', -result, `pinning ${object.fd.label} at ${path}`);
}

/** Pins an object in the place of what is pinned there, in one step; a crash leaves the old pin and perhaps `<path>_new`. */
export function replacePin(object: Pinnable, path: string): void {
  const staging = `${path}_new`;
  rmSync(staging, { force: true });
  pin(object, staging);
  try {
    renameSync(staging, path);
  } catch (error) {
    rmSync(staging, { force: true });
    throw error;
  }
}

/** Removes a pin; the object ends when nothing else holds it. False: there was none. */
export function unpin(path: string): boolean {
  try {
    rmSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Descriptor of a pinned object; `undefined` when nothing is pinned there. */
function getPinned(path: string, kind: 'map' | 'prog' | 'link'): Fd | undefined {
  const request = { path: cStringBytes(path) };
  const result = tryBpf(BpfCommand.OBJ_GET, encodeStruct(attr.object, request), request);
  if (result === -Errno.ENOENT) return undefined;
  if (result < 0) throw bpfError('OBJ_GET', -result, `opening the pin ${path}`);
  const fd = new Fd(result, `${kind} pinned at ${path}`);
  return closeOnError(fd, () => {
    const actual = readlinkSync(`/proc/self/fd/${result}`).replace('anon_inode:', '');
    // Spelt bpf-map, bpf-prog and, by kernel version, bpf_link or bpf-link.
    if (!actual.endsWith(kind)) {
      throw new KernelError(
        'PIN_KIND',
        `${path} holds a ${actual}, not a ${kind}`,
        'another program pinned it',
      );
    }
    return fd;
  });
}

/** The map pinned at `path`, `undefined` when there is none. @throws {KernelError} `PIN_KIND` for another kind of object */
export function openPinnedMap(path: string): BpfMap | undefined {
  const fd = getPinned(path, 'map');
  return fd && closeOnError(fd, () => BpfMap.fromFd(fd));
}

/** The program pinned at `path`, `undefined` when there is none. */
export function openPinnedProgram(path: string): Program | undefined {
  const fd = getPinned(path, 'prog');
  return fd && closeOnError(fd, () => Program.fromFd(fd));
}

/** The link pinned at `path`, `undefined` when there is none. */
export function openPinnedLink(path: string): Link | undefined {
  const fd = getPinned(path, 'link');
  return fd && new Link(fd);
}
