/** Replacing this process by a program: execve(2). For a forked child that has set itself up (a seccomp filter, say). */
import { driver } from '../ffi/index.ts';
import { SyscallError } from '../sys/error.ts';
import { keepAlive } from '../sys/keepalive.ts';
import { cStringBytes } from '../sys/struct.ts';
import { trySyscall } from '../sys/syscall.ts';

const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const SIGPIPE = 13;

/**
 * Returns only by throwing. `argv[0]` is the program's own name; descriptors marked close-on-exec are closed, standard
 * input, output and error are kept.
 */
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
  undoNodeSetup();
  const result = trySyscall('execve', cStringBytes(path), pointers(argv), pointers(variables));
  keepAlive(keep);
  throw new SyscallError('execve', -result, `running ${path}`);
}

/**
 * Node marks its standard streams close-on-exec, makes pipes among them non-blocking and ignores SIGPIPE; all of it would
 * be passed on, and no program expects it.
 */
function undoNodeSetup(): void {
  for (const fd of [0, 1, 2]) {
    trySyscall('fcntl', fd, F_SETFD, 0);
    const flags = trySyscall('fcntl', fd, F_GETFL, 0);
    if (flags >= 0) trySyscall('fcntl', fd, F_SETFL, flags & ~O_NONBLOCK);
  }
  // struct sigaction of the kernel: handler SIG_DFL, flags, restorer and mask zero; the mask has 8 bytes.
  trySyscall('rt_sigaction', SIGPIPE, new Uint8Array(32), null, 8);
}
