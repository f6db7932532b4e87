/** Replacing this process by a program: execve(2). For a forked child that has set itself up (a seccomp filter, say). */
import { driver } from '../ffi/index.ts';
import { SyscallError } from '../sys/error.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { cStringBytes } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

/** Returns only by throwing. `argv[0]` is the program's own name; descriptors marked close-on-exec are closed. */
export function execve(
  path: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): never {
  const keep: Uint8Array[] = [];
  const pointers = (texts: readonly string[]): BigUint64Array => {
    const table = new BigUint64Array(texts.length + 1);
    for (const [index, text] of texts.entries()) {
      const bytes = cStringBytes(text);
      keep.push(bytes);
      table[index] = driver().addressOf(bytes);
    }
    return table;
  };
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const result = trySyscall('execve', cStringBytes(path), pointers(argv), pointers(variables));
  keepAlive(keep);
  throw new SyscallError('execve', -result, `running ${path}`);
}
