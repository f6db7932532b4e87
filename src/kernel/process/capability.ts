/** What a process may do: capget(2), uapi/linux/capability.h. */
import { SyscallError } from '../sys/error.ts';
import { trySyscall } from '../sys/syscall.ts';

/** _LINUX_CAPABILITY_VERSION_3: two records of effective, permitted and inheritable bits. */
const VERSION_3 = 0x2008_0522;
const RECORD_WORDS = 3;
export const CAP_NET_ADMIN = 12;

/** Whether a thread has the capability in its own user namespace. @throws {SyscallError} ESRCH */
export function hasCapability(thread: number, capability: number): boolean {
  const header = Int32Array.of(VERSION_3, thread);
  const data = new Uint32Array(2 * RECORD_WORDS);
  const result = trySyscall('capget', header, data);
  if (result < 0) throw new SyscallError('capget', -result, `the capabilities of process ${thread}`);
  return ((data[(capability >> 5) * RECORD_WORDS]! >>> (capability & 31)) & 1) === 1;
}
