/** Descriptors of other processes: pidfd_open(2) (Linux 5.3), pidfd_getfd(2) (5.6), process_vm_readv(2). */
import { Errno } from '../sys/errno.ts';
import { KernelError, SyscallError } from '../sys/error.ts';
import { Fd } from '../sys/fd.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { encodeStruct } from '../sys/struct.ts';
import { type SyscallName, trySyscall } from '../sys/syscall.ts';

const iovec = { size: 16, fields: { base: [0, 'ptr'], length: [8, 'u64'] } } as const;

/** A descriptor of a process; readable when it has ended. @throws {KernelError} `PROCESS_GONE` */
export function openPidfd(pid: number): Fd {
  const result = trySyscall('pidfd_open', pid, 0);
  if (result === -Errno.ESRCH) throw new KernelError('PROCESS_GONE', `there is no process ${pid}`);
  if (result < 0) throw new SyscallError('pidfd_open', -result, `opening process ${pid}`);
  return new Fd(result, `process ${pid}`);
}

/** Our own duplicate of a process's descriptor (needs the right to trace it). @throws {KernelError} `PROCESS_GONE` */
export function takeFd(pidfd: Fd, number: number): Fd {
  const result = trySyscall('pidfd_getfd', pidfd.number, number, 0);
  if (result === -Errno.ESRCH) throw new KernelError('PROCESS_GONE', `${pidfd.label} has ended`);
  if (result < 0)
    throw new SyscallError('pidfd_getfd', -result, `taking descriptor ${number} of ${pidfd.label}`);
  return new Fd(result, `descriptor ${number} of ${pidfd.label}`);
}

/** Copies memory of another process; short when only a part is readable. @throws {SyscallError} EFAULT, ESRCH, EPERM */
export function readProcessMemory(pid: number, address: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const count = transfer('process_vm_readv', pid, address, bytes);
  return bytes.subarray(0, count);
}

/** Writes memory of another process. @throws {SyscallError} EFAULT also when only a part could be written */
export function writeProcessMemory(pid: number, address: bigint, bytes: Uint8Array): void {
  const count = transfer('process_vm_writev', pid, address, bytes);
  if (count !== bytes.length) {
    throw new SyscallError(
      'process_vm_writev',
      Errno.EFAULT,
      `writing ${bytes.length} bytes to process ${pid}`,
    );
  }
}

function transfer(name: SyscallName, pid: number, address: bigint, bytes: Uint8Array): number {
  if (bytes.length === 0) return 0;
  const local = encodeStruct(iovec, { base: bytes, length: bytes.length });
  const remote = encodeStruct(iovec, { base: address, length: bytes.length });
  const result = trySyscall(name, pid, local, 1, remote, 1, 0);
  keepAlive(bytes);
  if (result < 0)
    throw new SyscallError(name, -result, `memory of process ${pid} at 0x${address.toString(16)}`);
  return result;
}
