/** Advisory locks between processes: flock(2). Released by the kernel when the holder ends, however it ends. */
import { closeSync, constants, openSync } from 'node:fs';
import { Errno } from '../sys/errno.ts';
import { SyscallError } from '../sys/error.ts';
import { Fd } from '../sys/fd.ts';
import { trySyscall } from '../sys/syscall.ts';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Tries to take a lock on a file (made if missing); `undefined` when another holds it. Never waits: a blocking flock
 * would stop the whole process. Close the result to let go.
 */
export function tryLock(path: string, kind: 'exclusive' | 'shared' = 'exclusive'): Fd | undefined {
  const number = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  const result = trySyscall('flock', number, (kind === 'exclusive' ? LOCK_EX : LOCK_SH) | LOCK_NB);
  if (result === 0) return new Fd(number, `lock ${path}`);
  closeSync(number);
  if (result === -Errno.EAGAIN) return undefined;
  throw new SyscallError('flock', -result, `locking ${path}`);
}

/** Takes a lock, asking again until `timeoutMs` have passed; `undefined` then. */
export async function lock(
  path: string,
  timeoutMs: number,
  kind: 'exclusive' | 'shared' = 'exclusive',
): Promise<Fd | undefined> {
  const stepMs = 20;
  for (let waitedMs = 0; ; waitedMs += stepMs) {
    const held = tryLock(path, kind);
    if (held !== undefined || waitedMs >= timeoutMs) return held;
    await new Promise((resolve) => setTimeout(resolve, stepMs));
  }
}
