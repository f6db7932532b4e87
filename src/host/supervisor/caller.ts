/** Who asks: the process behind a notified call, its right to change tables, its socket. */
import { readFileSync, readlinkSync } from 'node:fs';
import {
  CAP_NET_ADMIN,
  describeSocket,
  Errno,
  type Fd,
  hasCapability,
  isErrno,
  openPidfd,
  type SocketDescription,
  takeFd,
} from '../../kernel/index.ts';

/** Whether the thread has CAP_NET_ADMIN in its own user namespace. */
export function mayChangeTables(thread: number): boolean {
  return hasCapability(thread, CAP_NET_ADMIN);
}

/** "user:[4026531837]", "net:[…]": equal for threads in one namespace. */
export function namespaceOf(thread: number, kind: 'user' | 'net'): string {
  return readlinkSync(`/proc/${thread}/ns/${kind}`);
}

/** The program's name, for messages. */
export function programName(thread: number): string {
  return readFileSync(`/proc/${thread}/comm`, 'utf8').trim();
}

/** The process of a thread: mostly the thread's own number, which is tried before anything is read. */
function openProcessOf(thread: number): Fd {
  try {
    return openPidfd(thread);
  } catch (error) {
    if (!isErrno(error, Errno.EINVAL) && !isErrno(error, Errno.ENOENT)) throw error;
    return openPidfd(Number(/^Tgid:\s*(\d+)/m.exec(readFileSync(`/proc/${thread}/status`, 'latin1'))?.[1]));
  }
}

/** The thread's socket by its number; `undefined` when it is none of IPv4 or IPv6. */
export function socketOf(thread: number, number: number): SocketDescription | undefined {
  using process = openProcessOf(thread);
  try {
    using socket = takeFd(process, number);
    return describeSocket(socket);
  } catch (error) {
    if (isErrno(error, Errno.EBADF)) return undefined;
    throw error;
  }
}
