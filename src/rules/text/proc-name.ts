/** Names that become files under /proc/net (net/netfilter/x_tables.c: xt_check_proc_name). */
import { OptionError } from '../extension.ts';

/** @throws {OptionError} when the kernel would not make a file of this name. */
export function checkProcName(name: string): void {
  if (name === '' || name === '.' || name === '..' || name.includes('/'))
    throw new OptionError(`"${name}" cannot be the name of a list`, {
      hint: 'the kernel makes a file of it: not empty, no "/", not "." or ".."',
      argument: -1,
    });
}
