/** Advisory locks between processes: flock(2). Released by the kernel when the holder ends, however it ends. */
import { closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
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

/** How long {@link lock} waits between two attempts. */
const STEP_MS = 20;

/** Takes a lock, asking again until `timeoutMs` have passed; `undefined` then. */
export async function lock(
  path: string,
  timeoutMs: number,
  kind: 'exclusive' | 'shared' = 'exclusive',
): Promise<Fd | undefined> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const held = tryLock(path, kind);
    if (held !== undefined || performance.now() >= end) return held;
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}

/**
 * Who holds a lock on a file, as "process 1234 (sluice apply …)"; `undefined` when nobody does, or nobody that can be seen
 * from here. Source: proc_locks(5).
 */
export function lockHolder(path: string): string | undefined {
  try {
    const inode = String(statSync(path).ino);
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      // "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; those who wait have "->" behind the number.
      const [, kind, , , pid, place] = line.split(/ +/);
      if (kind !== 'FLOCK' || place?.split(':')[2] !== inode || !(Number(pid) > 0)) continue;
      return `process ${pid} (${commandOf(pid!)})`;
    }
  } catch {
    // Without /proc nothing can be told.
  }
  return undefined;
}

const COMMAND_LENGTH = 120;

function commandOf(pid: string): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
  const text = words.join(' ');
  return text.length > COMMAND_LENGTH ? `${text.slice(0, COMMAND_LENGTH)}…` : text;
}
