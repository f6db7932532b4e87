/**
 * Becomes a program for which seccomp(2) ends with an errno, as where the kernel lacks it or a container forbids it.
 * Words: the errno's number, the program's path, its words.
 */
import { buildNotifyFilter, execve, installNotifyFilter } from '../../dist/kernel/index.js';

const [errno, path, ...words] = process.argv.slice(2);
installNotifyFilter(
  buildNotifyFilter({ notified: [], refused: [{ name: 'seccomp', errno: Number(errno) }] }),
);
execve(path, [path, ...words], process.env);
