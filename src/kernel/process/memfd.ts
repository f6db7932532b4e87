/** Anonymous files: memfd_create(2). */
import { writeSync } from 'node:fs';
import { SyscallError } from '../sys/error.ts';
import { closeOnError, Fd } from '../sys/fd.ts';
import { cStringBytes } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

const MFD_CLOEXEC = 1;

/** A file in memory with this content, its position at the beginning. `name` shows in /proc only. */
export function createMemfd(name: string, content: Uint8Array): Fd {
  const result = trySyscall('memfd_create', cStringBytes(name), MFD_CLOEXEC);
  if (result < 0) throw new SyscallError('memfd_create', -result, `making memory file ${name}`);
  const fd = new Fd(result, `memory file ${name}`);
  return closeOnError(fd, () => {
    for (let done = 0; done < content.length; )
      done += writeSync(result, content, done, content.length - done, done);
    return fd;
  });
}
