/** Waiting for RCU: membarrier(2), kernel/sched/membarrier.c. */
import { SyscallError } from '../sys/error.ts';
import { trySyscall } from '../sys/syscall.ts';

/** MEMBARRIER_CMD_GLOBAL: synchronize_rcu. */
const MEMBARRIER_CMD_GLOBAL = 1;

/**
 * Returns when every BPF program that was running on any CPU has ended (some milliseconds): what they could still read
 * may be reused. Sleepable programs are not waited for.
 * @throws {SyscallError} EINVAL on kernels with nohz_full CPUs
 */
export function waitForGracePeriod(): void {
  const result = trySyscall('membarrier', MEMBARRIER_CMD_GLOBAL, 0, 0);
  if (result < 0) throw new SyscallError('membarrier', -result, 'waiting for running programs to end');
}
