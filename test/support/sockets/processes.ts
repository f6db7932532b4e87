/** Server processes in a namespace, and their sockets in a label. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type SocketSteering, takeProcessSocket } from '../../../src/host/index.ts';
import { addressBytes } from '../netns.ts';

/** Processes inside a namespace; all are ended by {@link close}. */
export class Processes {
  readonly #netnsName: string;
  readonly #children: ChildProcess[] = [];

  constructor(netnsName: string) {
    this.#netnsName = netnsName;
  }

  start(words: readonly string[], options: { uid?: number; cwd?: string } = {}): ChildProcess {
    const user = options.uid === undefined ? [] : ['setpriv', `--reuid=${options.uid}`, '--clear-groups'];
    const child = spawn('nsenter', [`--net=/run/netns/${this.#netnsName}`, ...user, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.#children.push(child);
    return child;
  }

  /** A process that says when it listens. */
  async server(...words: readonly string[]): Promise<ChildProcess> {
    const child = this.start(words);
    await once(child.stdout!, 'data');
    return child;
  }

  /** Runs a command to its end. */
  async run(...words: readonly string[]): Promise<void> {
    const child = this.start(words);
    const [status] = (await once(child, 'exit')) as [number | null];
    if (status !== 0) throw new Error(`${words.join(' ')} ended with ${status}`);
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
}

/** Registers the socket of a process that is bound there. */
export async function registerProcess(
  steering: SocketSteering,
  label: string,
  child: ChildProcess,
  protocol: 'tcp' | 'udp',
  address: string,
  port: number,
): Promise<void> {
  const fd = takeProcessSocket(child.pid!, { protocol, address: addressBytes(address), port });
  try {
    await steering.register(fd, { label });
  } finally {
    fd.close();
  }
}
