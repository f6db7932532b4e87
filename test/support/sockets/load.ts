/** Changes while new connections and new UDP flows come at 2,000 a second each; what became of each of these is counted. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { SocketSteering } from '../../../src/host/index.ts';
import { parseBindings } from '../../../src/sklookup/index.ts';
import { addressBytes } from '../netns.ts';
import { LONG_MS } from '../patience.ts';
import { type Processes, registerProcess } from './processes.ts';

export const ASKED_PER_SECOND = 2000;
const LONGEST_SECONDS = 600;
/** Connections to one label and flows to another that have to come between two changes, however long a busy machine takes for them. */
const BETWEEN = 400;
const SUPPORT = new URL('./', import.meta.url).pathname;

/** What became of UDP flows. Times are those of the wall clock. */
export interface FlowResult {
  readonly made: number;
  /** Datagrams; a flow sends one or several. */
  readonly answered: number;
  /** By the name that answered first: how many, and when the first and the last of them were begun. */
  readonly flows: Readonly<
    Record<string, { readonly count: number; readonly firstMs: number; readonly lastMs: number }>
  >;
  /** Flows that somebody else answered than before. */
  readonly moves: readonly { readonly from: string; readonly to: string; readonly atMs: number }[];
  readonly failures: Readonly<Record<string, number>>;
  readonly perSecond: readonly number[];
}

/** When the second UDP server took over: new flows at some time between the two first, kept flows from the third on. */
export interface HandOver {
  readonly beginMs: number;
  readonly newFlowsMs: number;
  readonly endMs: number;
}

export interface LoadResult {
  readonly made: number;
  /** By the name that answered. */
  readonly answers: Readonly<Record<string, number>>;
  /** Refused, misrouted or without an answer, by what happened. */
  readonly failures: Readonly<Record<string, number>>;
  /** Connections begun in each whole second. */
  readonly perSecond: readonly number[];
  readonly udp: FlowResult & { readonly handOver: HandOver };
}

/**
 * Three labels get connections of both families. Meanwhile the program is replaced twice, the set of bindings by one of 100,000 and back,
 * bindings come and go one by one, and the servers of the labels `web` and `dns` hand over to others; flows of the first UDP
 * server stay with it until it ends.
 */
export async function changeUnderLoad(steering: SocketSteering, processes: Processes): Promise<LoadResult> {
  const base =
    'web tcp 127.1.0.0/16 80\nweb tcp fd00::/64 80\nother tcp 127.2.0.0/16 80\nwide tcp 127.0.0.0/8 all\n' +
    'dns udp 127.4.0.0/16 53\ndns udp fd02::/64 53\n';
  await steering.apply(parseBindings(base, 'test'));
  // Every address below it is the namespace's own.
  await processes.run('ip', '-6', 'route', 'add', 'local', 'fd02::/64', 'dev', 'lo');
  const serve = async (label: string, name: string, protocol: 'tcp' | 'udp', port: number) => {
    const script = protocol === 'tcp' ? 'answering-server.mjs' : 'answering-datagrams.mjs';
    const words = [`${SUPPORT}${script}`, name, '::', String(port)];
    const server = await processes.server(process.execPath, ...words);
    await registerProcess(steering, label, server, protocol, '::', port);
    return server;
  };
  const first = await serve('web', 'web1', 'tcp', 8001);
  await serve('other', 'other', 'tcp', 8002);
  await serve('wide', 'wide', 'tcp', 8003);
  const firstUdp = await serve('dns', 'dns1', 'udp', 5301);
  const large = parseBindings(base + manyBindings(), 'large');
  const targets = [
    { address: '127.1.0.1', port: 80, names: ['web1', 'web2'] },
    { address: 'fd00::2', port: 80, names: ['web1', 'web2'] },
    { address: '127.2.9.9', port: 80, names: ['other'] },
    { address: '127.3.0.1', port: 4242, names: ['wide'] },
  ].map(({ address, ...rest }) => ({ ...rest, address: [...addressBytes(address)] }));
  const flowTargets = ['127.4.0.0', 'fd02::'].map((address) => ({
    address: [...addressBytes(address)],
    port: 53,
  }));
  const client = await LoadClient.start(processes, 'connecting-client.mjs', targets);
  const udpClient = await LoadClient.start(processes, 'flow-client.mjs', flowTargets);
  await traffic(steering);
  await steering.upgrade();
  await traffic(steering);
  await steering.apply(large);
  await traffic(steering);
  await steering.upgrade();
  const [single] = parseBindings('web tcp 127.1.0.0/24 80\n', 'one').bindings;
  for (let n = 0; n < 10; n++) {
    await steering.bind(single!);
    await steering.unbind(single!);
  }
  await serve('web', 'web2', 'tcp', 8004);
  const beginMs = Date.now();
  await serve('dns', 'dns2', 'udp', 5302);
  const newFlowsMs = Date.now();
  await traffic(steering);
  first.kill('SIGTERM');
  await steering.apply(parseBindings(base, 'test'));
  await traffic(steering);
  const endMs = Date.now();
  firstUdp.kill('SIGTERM');
  await traffic(steering);
  const result = (await client.end()) as Omit<LoadResult, 'udp'>;
  const udp = (await udpClient.end()) as FlowResult;
  return { ...result, udp: { ...udp, handOver: { beginMs, newFlowsMs, endMs } } };
}

/** A client in a process of its own, until it is told to end and says what happened. */
class LoadClient {
  readonly #process: ChildProcess;
  readonly #output = { out: '', err: '' };
  readonly #ended: Promise<unknown>;

  private constructor(client: ChildProcess) {
    this.#process = client;
    client.stdout!.on('data', (data: Buffer) => {
      this.#output.out += data.toString();
    });
    client.stderr!.on('data', (data: Buffer) => {
      this.#output.err += data.toString();
    });
    this.#ended = once(client, 'close');
  }

  /** Returns once it has begun. */
  static async start(processes: Processes, script: string, targets: readonly object[]): Promise<LoadClient> {
    const words = [String(ASKED_PER_SECOND), String(LONGEST_SECONDS), JSON.stringify(targets)];
    const client = processes.start([process.execPath, `${SUPPORT}${script}`, ...words]);
    const begun = once(client.stdout!, 'data');
    const started = new LoadClient(client);
    await begun;
    return started;
  }

  async end(): Promise<object> {
    this.#process.kill('SIGTERM');
    await this.#ended;
    const { out, err } = this.#output;
    if (!out.trimEnd().includes('\n')) throw new Error(`the client failed: ${err}`);
    return JSON.parse(out.trim().split('\n').at(-1)!) as object;
  }
}

function manyBindings(): string {
  const lines: string[] = [];
  for (let n = 0; n < 100_000; n++)
    lines.push(`wide tcp 10.${n >> 16}.${(n >> 8) & 255}.${n & 255} ${1 + (n % 60_000)}`);
  return lines.join('\n');
}

/** Waits for connections and flows: on a busy machine the clients pause for a while. */
async function traffic(steering: SocketSteering): Promise<void> {
  const assigned = (wanted: string): number =>
    steering.status().destinations.find(({ label }) => label === wanted)!.metrics.assigned;
  const enough = ['web', 'dns'].map((label) => ({ label, count: assigned(label) + BETWEEN }));
  for (let waitedMs = 0; enough.some(({ label, count }) => assigned(label) < count); waitedMs += 50) {
    if (waitedMs > LONG_MS) throw new Error('no traffic comes');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
