/** Processes that apply a policy and are killed before a given step: each is started while the one before is looked at. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ApplyRequest } from '../../src/host/index.ts';

export interface ChildTask {
  readonly request: Omit<ApplyRequest, 'rulesets'>;
  readonly rules: readonly { readonly family: 'ipv4' | 'ipv6'; readonly text: string }[];
  /** From 1. */
  readonly killAtStep: number;
}

const PROGRAM = fileURLToPath(new URL('policy-child.mjs', import.meta.url));
/** Bounds a child that hangs; none should. */
const LONGEST_MS = 60_000;

export class PolicyChildren {
  #next: ChildProcessWithoutNullStreams = start();

  /** Runs a task to its end: "killed before STEP", or "done". @throws when the child fails by itself */
  async run(task: ChildTask): Promise<string> {
    const child = this.#next;
    const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => {
      const text = { all: '' };
      stream.on('data', (chunk) => {
        text.all += String(chunk);
      });
      return text;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), LONGEST_MS);
    const ended = new Promise<boolean>((resolve) => {
      child.once('close', (status) => resolve(status === 0));
    });
    child.stdin.end(`${JSON.stringify(task)}\n`);
    const done = await ended;
    clearTimeout(timer);
    this.#next = start();
    if (done) return 'done';
    if (child.signalCode !== 'SIGKILL' || stdout!.all === '')
      throw new Error(`the child failed: ${stderr!.all}`);
    return `killed before ${stdout!.all}`;
  }

  [Symbol.dispose](): void {
    this.#next.kill('SIGKILL');
  }
}

function start(): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [PROGRAM], { stdio: 'pipe' });
}
