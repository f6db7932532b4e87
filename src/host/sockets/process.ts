/** Sockets of running processes: proc_pid_fd(5), pidfd_getfd(2). */
import { readdirSync, readlinkSync } from 'node:fs';
import {
  describeSocket,
  Errno,
  type Fd,
  isErrno,
  KernelError,
  openPidfd,
  type SocketDescription,
  takeFd,
} from '../../kernel/index.ts';
import { PROTOCOL_NUMBER, type Protocol } from '../../sklookup/index.ts';
import { SocketHostError } from './error.ts';
import { socketName } from './inspect.ts';

export interface ProcessSocket {
  readonly protocol: Protocol;
  /** Local address, 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

/**
 * Our own descriptor of a socket that a process has open, by its local address. Every descriptor that is really open is
 * looked at, however high its number.
 * @throws {KernelError} `PROCESS_GONE`, `PROCESS_REFUSED`, {SocketHostError} `HOST_SOCKETS_NO_SOCKET` with what there is
 */
export function takeProcessSocket(pid: number, wanted: ProcessSocket): Fd {
  const pidfd = openPidfd(pid);
  const seen: string[] = [];
  try {
    for (const number of socketDescriptors(pid)) {
      const fd = takeOpen(pidfd, number);
      if (fd === undefined) continue;
      const description = describeSocket(fd);
      if (description !== undefined) {
        if (isWanted(description, wanted)) return fd;
        if (canSteer(description)) seen.push(socketName(description));
      }
      fd.close();
    }
  } finally {
    pidfd.close();
  }
  throw new SocketHostError(
    'HOST_SOCKETS_NO_SOCKET',
    `process ${pid} has no such socket`,
    seen.length === 0
      ? 'it has no listening TCP or bound UDP socket'
      : `it has: ${[...new Set(seen)].join(', ')}`,
  );
}

/** A duplicate of the descriptor; `undefined` when it has been closed meanwhile. */
function takeOpen(pidfd: Fd, number: number): Fd | undefined {
  try {
    return takeFd(pidfd, number);
  } catch (error) {
    if (isErrno(error, Errno.EBADF)) return undefined;
    if (!isErrno(error, Errno.EPERM)) throw error;
    throw new KernelError(
      'PROCESS_REFUSED',
      `the descriptors of ${pidfd.label} may not be taken`,
      'run as root, with CAP_SYS_PTRACE',
      { cause: error },
    );
  }
}

function socketDescriptors(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory)
      .filter((name) => isSocket(`${directory}/${name}`))
      .map(Number);
  } catch (cause) {
    const refused = ['EACCES', 'EPERM'].includes((cause as { code?: string }).code ?? '');
    throw new KernelError(
      refused ? 'PROCESS_REFUSED' : 'PROCESS_GONE',
      `the descriptors of process ${pid} cannot be listed`,
      refused ? 'run as root, with CAP_SYS_PTRACE' : 'the process has ended',
      { cause },
    );
  }
}

/** @throws what readlink(2) says, unless the descriptor has been closed meanwhile */
function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:');
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return false;
    throw error;
  }
}

/** Of several sockets at one address (reuseport, accepted connections) the first that can be steered. */
function isWanted(description: SocketDescription, { protocol, address, port }: ProcessSocket): boolean {
  return (
    canSteer(description) &&
    description.protocol === PROTOCOL_NUMBER[protocol] &&
    description.local.port === port &&
    description.local.address.join() === address.join()
  );
}

function canSteer({ protocol, listening, peer, local }: SocketDescription): boolean {
  if (protocol === PROTOCOL_NUMBER.tcp) return listening;
  return protocol === PROTOCOL_NUMBER.udp && peer === undefined && local.port !== 0;
}
