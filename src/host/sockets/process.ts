/** Sockets of running processes: proc_pid_fd(5), pidfd_getfd(2). */
import { readdirSync, readlinkSync } from 'node:fs';
import {
  describeSocket,
  type Fd,
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
 * @throws {KernelError} `PROCESS_GONE`, {SyscallError} EPERM, {SocketHostError} `HOST_SOCKETS_NO_SOCKET` with what there is
 */
export function takeProcessSocket(pid: number, wanted: ProcessSocket): Fd {
  const pidfd = openPidfd(pid);
  const seen: string[] = [];
  try {
    for (const number of socketDescriptors(pid)) {
      const fd = takeFd(pidfd, number);
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

function socketDescriptors(pid: number): number[] {
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch (cause) {
    throw new KernelError(
      'PROCESS_GONE',
      `the descriptors of process ${pid} cannot be listed`,
      'the process has ended, or root is needed',
      { cause },
    );
  }
  return names.map(Number).filter((number) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${number}`).startsWith('socket:');
    } catch {
      return false;
    }
  });
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
