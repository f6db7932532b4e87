/** Processes that do something and are killed before a given step: each is started while the one before is looked at. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LONG_MS } from './patience.ts';

export interface KilledTask {
  /** From 1. */
  readonly killAtStep: number;
}

/** Bounds a child that hangs; none should. */

export class KilledChildren<T extends KilledTask> {
  readonly #program: string;
  #next: ChildProcessWithoutNullStreams;

  /**
   * @param program a file beside this one: it reads a task as a line of JSON, and kills itself before the step, whose name it writes,
   * or ends well
   */
  constructor(program: string) {
    this.#program = fileURLToPath(new URL(program, import.meta.url));
    this.#next = this.#start();
  }

  #start(): ChildProcessWithoutNullStreams {
    return spawn(process.execPath, [this.#program], { stdio: 'pipe' });
  }

  /** Runs a task to its end: "killed before STEP", or "done". @throws when the child fails by itself */
  async run(task: T): Promise<string> {
    const child = this.#next;
    const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => {
      const text = { all: '' };
      stream.on('data', (chunk) => {
        text.all += String(chunk);
      });
      return text;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), LONG_MS);
    const ended = new Promise<boolean>((resolve) => {
      child.once('close', (status) => resolve(status === 0));
    });
    child.stdin.end(`${JSON.stringify(task)}\n`);
    const done = await ended;
    clearTimeout(timer);
    this.#next = this.#start();
    if (done) return 'done';
    if (child.signalCode !== 'SIGKILL' || stdout!.all === '')
      throw new Error(`the child failed: ${stderr!.all}`);
    return `killed before ${stdout!.all}`;
  }

  [Symbol.dispose](): void {
    this.#next.kill('SIGKILL');
  }
}
