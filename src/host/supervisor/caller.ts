/** Who asks: the process behind a notified call, its right to change tables, its socket. */
import { readFileSync, readlinkSync } from 'node:fs';
import { describeSocket, isErrno, openPidfd, type SocketDescription, takeFd } from '../../kernel/index.ts';

const CAP_NET_ADMIN = 12n;

function statusField(thread: number, name: string): string | undefined {
  const status = readFileSync(`/proc/${thread}/status`, 'latin1');
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1];
}

/** Whether the thread has CAP_NET_ADMIN in its own user namespace. */
export function mayChangeTables(thread: number): boolean {
  const effective = statusField(thread, 'CapEff');
  return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}

/** "user:[4026531837]", "net:[…]": equal for threads in one namespace. */
export function namespaceOf(thread: number, kind: 'user' | 'net'): string {
  return readlinkSync(`/proc/${thread}/ns/${kind}`);
}

/** The program's name, for messages. */
export function programName(thread: number): string {
  return readFileSync(`/proc/${thread}/comm`, 'utf8').trim();
}

/** The thread's socket by its number; `undefined` when it is none of IPv4 or IPv6. */
export function socketOf(thread: number, number: number): SocketDescription | undefined {
  const leader = Number(statusField(thread, 'Tgid') ?? thread);
  using process = openPidfd(leader);
  try {
    using socket = takeFd(process, number);
    return describeSocket(socket);
  } catch (error) {
    if (isErrno(error, EBADF)) return undefined;
    throw error;
  }
}

const EBADF = 9;
