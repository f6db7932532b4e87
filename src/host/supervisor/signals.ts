/**
 * Signals that would end a supervisor while its command runs: what they mean is the command's to decide, and its calls are
 * answered until it has ended. Source: signal(7); process groups in the foreground: credentials(7), proc_pid_stat(5).
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Keys of a terminal send them to every process in its foreground: the command has them already. */
const TYPED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];
const SIGNALS: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', ...TYPED];

/** Hands on to a command what this process is sent, until it is disposed of. */
export function handOnSignals(command: Pick<ChildProcess, 'kill'>): Disposable {
  const handOn = (signal: NodeJS.Signals): void => {
    if (!TYPED.includes(signal) || !inForeground()) command.kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, handOn);
  return {
    [Symbol.dispose](): void {
      for (const signal of SIGNALS) process.off(signal, handOn);
    },
  };
}

/** Whether this process, and so its command, is in the foreground of a terminal. */
function inForeground(): boolean {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  // Behind the name, which may hold anything: state, parent, group, session, terminal, the group in its foreground.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return group === foreground;
}
