/** The processes of policy-traffic.mjs: load between two hosts while a test changes their policies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Host } from './netns.ts';

const PROGRAM = fileURLToPath(new URL('policy-traffic.mjs', import.meta.url));

export interface Sent {
  /** To port 5000, to port 5001. */
  readonly sent: readonly [number, number];
  /** Numbered lines that came back over the TCP connection. */
  readonly lines: number;
}

export class Traffic {
  readonly #process: ChildProcess;
  #printed = '';

  /** Sends from `host` to `address`; resolves once its end of the TCP connection stands. */
  static async start(
    host: Host,
    address: string,
    packetsPerSecond: number,
    role: 'serve' | 'connect',
  ): Promise<Traffic> {
    const traffic = new Traffic(host, [address, String(packetsPerSecond), role]);
    await new Promise<void>((resolve, reject) => {
      traffic.#process.stdout!.on('data', () => {
        if (traffic.#printed.startsWith('ready\n')) resolve();
      });
      traffic.#process.once('exit', () => reject(new Error('the traffic ended before it began')));
    });
    return traffic;
  }

  private constructor(host: Host, words: readonly string[]) {
    const enter = `--net=/run/netns/${host.netnsName}`;
    this.#process = spawn('nsenter', [enter, process.execPath, PROGRAM, ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdout!.on('data', (chunk) => {
      this.#printed += String(chunk);
    });
  }

  /** Ends it, and says what was sent. */
  async end(): Promise<Sent> {
    const closed = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdin!.end();
    await closed;
    return JSON.parse(this.#printed.slice('ready\n'.length)) as Sent;
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

/** A counter of /proc/net/snmp: `snmp(host, 'Udp', 'NoPorts')`. */
export function snmp(host: Host, group: string, name: string): number {
  const text = host.run(() => readFileSync('/proc/thread-self/net/snmp', 'utf8'));
  const [names = '', values = ''] = text.split('\n').filter((line) => line.startsWith(`${group}:`));
  return Number(values.split(' ')[names.split(' ').indexOf(name)]);
}
