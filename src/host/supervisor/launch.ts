/**
 * Runs a command whose table calls are answered here: the child installs a seccomp filter on itself, this process takes
 * its listener (pidfd_getfd(2)), and the child becomes the command. When this process dies, its calls end with ENOSYS.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { NotificationListener, openPidfd, takeFd } from '../../kernel/index.ts';
import type { StepListener } from '../policy/index.ts';
import { supervisedCalls } from './calls.ts';
import { SupervisorError } from './error.ts';
import { GO_FD, type LaunchOrder, type LaunchReport, REPORT_FD } from './launch-order.ts';
import { Session } from './session.ts';
import { findProgram, type Shims } from './shims.ts';
import { handOnSignals } from './signals.ts';
import type { TableStore } from './store.ts';

const STEP_MS = 500;
/** A program that has made one call soon makes the next. */
const BURST_MS = 5;

export interface SuperviseOptions {
  /** The command and its words. */
  readonly argv: readonly string[];
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly store: TableStore;
  /** Tables of other namespaces that the command makes; absent: they cannot be asked for. */
  readonly storeOf?: (netnsCookie: bigint) => TableStore | undefined;
  readonly shims: Shims;
  /** `fresh`: user and network namespaces of its own, where nothing reaches the host. Else a name or path, or ours. */
  readonly netns: { readonly fresh: true } | { readonly name: string } | undefined;
  readonly allowNetlink: boolean;
  /** Lock file of the programs; absent: one of this session. */
  readonly lockFile?: string;
  readonly say: (line: string) => void;
  /** Told each step of a call that changes tables; tests end processes there. */
  readonly step?: StepListener;
}

/**
 * How the command ended: its exit code, or 128 and the signal's number as shells have it. Signals that end processes are
 * the command's meanwhile.
 */
export async function supervise(options: SuperviseOptions): Promise<number> {
  const { variables, shims, argv } = options;
  const path = `${shims.folder}:${variables.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}`;
  const program = findProgram(argv[0]!, path);
  if (program === undefined)
    throw new SupervisorError(
      'HOST_COMMAND_NOT_FOUND',
      `there is no program "${argv[0]}"`,
      'give its path, or look at PATH',
    );
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(variables)) if (value !== undefined) environment[name] = value;
  environment.PATH = path;
  environment.XTABLES_LOCKFILE = options.lockFile ?? shims.lockFile;
  const fresh = options.netns !== undefined && 'fresh' in options.netns;
  const order: LaunchOrder = {
    calls: supervisedCalls(options.allowNetlink),
    netns: options.netns !== undefined && 'name' in options.netns ? options.netns.name : undefined,
    path: program,
    argv,
    environment,
  };
  const child = start(order, fresh);
  using _ = handOnSignals(child);
  const ended = endOf(child);
  try {
    return await serve(child, ended, options);
  } finally {
    child.stdio[REPORT_FD]?.destroy();
    child.stdio[GO_FD]?.destroy();
    // Only a command that was never let go is still there.
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }
}

function start(order: LaunchOrder, fresh: boolean): ChildProcess {
  const launcher = fileURLToPath(new URL('./launcher.js', import.meta.url));
  const node = [process.execPath, launcher, JSON.stringify(order)];
  const words = fresh ? ['unshare', '--user', '--map-root-user', '--net', '--', ...node] : node;
  return spawn(words[0]!, words.slice(1), { stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'] });
}

/** Resolves with the exit code; rejects when the first program cannot be started. */
async function endOf(child: ChildProcess): Promise<number> {
  return await new Promise((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new SupervisorError(
          'HOST_NAMESPACE_TOOL_MISSING',
          `cannot start ${cause.message}`,
          'unshare(1) of util-linux makes the namespaces: install util-linux',
        ),
      ),
    );
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
  });
}

async function serve(
  child: ChildProcess,
  ended: Promise<number>,
  options: SuperviseOptions,
): Promise<number> {
  const report = await Promise.race([readReport(child), ended.then(() => undefined)]);
  if (report === undefined) {
    const code = await ended;
    // Ended on purpose before the command began.
    if (child.signalCode !== null) return code;
  }
  if (report !== undefined && 'supervised' in report)
    throw new SupervisorError(
      'HOST_SUPERVISED_ALREADY',
      'this process is supervised already: its iptables calls are answered by the sluice exec around it',
      'run the command itself, without sluice exec',
    );
  if (report !== undefined && 'unsupervisable' in report)
    throw new SupervisorError(
      'HOST_SECCOMP_REFUSED',
      `calls of the command cannot be answered here: ${report.unsupervisable}`,
      'use a kernel built with CONFIG_SECCOMP_FILTER, 5.9 or later; in a container, let seccomp(2) pass; "sluice restore" and "sluice save" do without it',
    );
  if (report === undefined || 'failed' in report)
    throw new SupervisorError(
      'HOST_LAUNCH_FAILED',
      report?.failed ?? 'the command could not be prepared: user or network namespaces are not allowed here',
      report?.hint ?? 'see: sluice doctor',
    );
  const thread = child.pid!;
  using process = openPidfd(thread);
  using listener = new NotificationListener(takeFd(process, report.listener));
  const session = new Session({
    listener,
    store: options.store,
    netnsCookie: BigInt(report.netnsCookie),
    thread,
    storeOf: options.storeOf ?? (() => undefined),
    say: options.say,
    step: options.step,
  });
  let code: number | undefined;
  const over = ended.then((number) => {
    code = number;
  });
  (child.stdio[GO_FD] as Writable).end('\n');
  while (code === undefined) {
    const ready = await listener.wait(STEP_MS);
    // Readable, too, when every target has gone: then the end is about to be told.
    if (ready && code === undefined) {
      if (child.exitCode !== null || child.signalCode !== null) await over;
      else while ((await session.serve()) && listener.waitBlocking(BURST_MS));
    }
  }
  return code;
}

async function readReport(child: ChildProcess): Promise<LaunchReport | undefined> {
  const lines = createInterface({ input: child.stdio[REPORT_FD] as Readable });
  try {
    const [line] = (await Promise.race([once(lines, 'line'), once(lines, 'close')])) as [string?];
    return line === undefined ? undefined : (JSON.parse(line) as LaunchReport);
  } finally {
    lines.close();
  }
}
