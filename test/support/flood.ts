/** The processes of flood.mjs: load on one CPU, from one host to another, and what of it was lost between them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Host } from './netns.ts';

const PROGRAM = fileURLToPath(new URL('flood.mjs', import.meta.url));

export interface FloodPlan {
  readonly from: Host;
  readonly to: string;
  readonly cpu: number;
  readonly packetsPerSecond: number;
  /** How many there are at least, however soon it is told to end. */
  readonly packets: number;
  /** Directory of the cgroup to be in before there is a socket. */
  readonly cgroup?: string;
}

export class Flood {
  readonly #process: ChildProcess;
  readonly #sent: Promise<number>;

  constructor({ from, to, cpu, packetsPerSecond, packets, cgroup }: FloodPlan) {
    const words = [to, String(packetsPerSecond), String(packets)];
    const enter = [`--net=/run/netns/${from.netnsName}`, 'taskset', '-c', String(cpu)];
    const child = spawn('nsenter', [...enter, process.execPath, PROGRAM, ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process = child;
    if (cgroup !== undefined) writeFileSync(`${cgroup}/cgroup.procs`, String(child.pid));
    let printed = '';
    child.stdout.on('data', (chunk) => {
      printed += String(chunk);
    });
    this.#sent = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () =>
        printed === '' ? reject(new Error('a flood ended early')) : resolve(Number(printed)),
      );
    });
  }

  start(): void {
    this.#process.stdin!.write('go\n');
  }

  end(): void {
    this.#process.stdin!.end();
  }

  /** Packets that the process gave to the kernel. */
  get sent(): Promise<number> {
    return this.#sent;
  }

  close(): void {
    this.#process.kill('SIGKILL');
  }
}

/** Packets that a pair of devices has lost by now, from the sender's to the receiver's. */
export function lostBetween(from: Host, fromDevice: string, to: Host, toDevice: string): number {
  const read = (host: Host, device: string): { tx: { dropped: number }; rx: { dropped: number } } => {
    const [link] = JSON.parse(host.exec('ip', ['-j', '-s', 'link', 'show', 'dev', device])) as [
      { stats64: { tx: { dropped: number }; rx: { dropped: number } } },
    ];
    return link.stats64;
  };
  return read(from, fromDevice).tx.dropped + read(to, toDevice).rx.dropped;
}
