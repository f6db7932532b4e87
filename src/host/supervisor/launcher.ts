/**
 * The process that becomes a supervised command: enters the namespace, installs the filter on itself, tells its
 * supervisor, waits for the word, and is replaced by the command. It is started by `launch.ts` and by nothing else.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import {
  buildNotifyFilter,
  currentNetnsCookie,
  Errno,
  execve,
  installNotifyFilter,
  isErrno,
  openNetns,
  openNetnsFile,
  SyscallError,
  withNetns,
} from '../../kernel/index.ts';
import { GO_FD, type LaunchOrder, type LaunchReport, REPORT_FD } from './launch-order.ts';

const FAILED = 127;

function report(line: LaunchReport): void {
  writeSync(REPORT_FD, `${JSON.stringify(line)}\n`);
}

/** Installs the filter; `undefined`: it has been told why not. */
function listenerOf(filter: Uint8Array): number | undefined {
  try {
    return installNotifyFilter(filter).release();
  } catch (error) {
    if (isErrno(error, Errno.EBUSY)) report({ supervised: true });
    else if (error instanceof SyscallError) report({ unsupervisable: error.message });
    else throw error;
    return undefined;
  }
}

function become(order: LaunchOrder): void {
  const filter = buildNotifyFilter(order.calls);
  const netnsCookie = String(currentNetnsCookie());
  const listener = listenerOf(filter);
  if (listener === undefined) return;
  try {
    report({ listener, netnsCookie });
    // The end of the pipe without a byte means that the supervisor has gone.
    if (readSync(GO_FD, new Uint8Array(1)) !== 1) return;
  } finally {
    // Held by this process alone, nobody would answer its own calls, and they would never end.
    closeSync(listener);
  }
  closeSync(REPORT_FD);
  closeSync(GO_FD);
  execve(order.path, order.argv, order.environment);
}

try {
  const order = JSON.parse(process.argv[2] ?? '') as LaunchOrder;
  const { netns } = order;
  if (netns === undefined) become(order);
  else withNetns(netns.includes('/') ? openNetnsFile(netns) : openNetns(netns), () => become(order));
} catch (error) {
  const { message, hint } = error as { message: string; hint?: string };
  try {
    report({ failed: message, ...(hint === undefined ? {} : { hint }) });
  } catch {
    process.stderr.write(`sluice: ${message}\n`);
  }
}
process.exit(FAILED);
