/** Changes while new connections come at 2,000 a second; what became of each of these is counted. */
import { once } from 'node:events';
import type { SocketSteering } from '../../../src/host/index.ts';
import { parseBindings } from '../../../src/sklookup/index.ts';
import { addressBytes } from '../netns.ts';
import { type Processes, registerProcess } from './processes.ts';

export const ASKED_PER_SECOND = 2000;
const LONGEST_SECONDS = 90;
/** Connections to one of the labels that have to come between two changes, however long a busy machine takes for them. */
const BETWEEN = 400;
const SUPPORT = new URL('./', import.meta.url).pathname;

export interface LoadResult {
  readonly made: number;
  /** By the name that answered. */
  readonly answers: Readonly<Record<string, number>>;
  /** Refused, misrouted or without an answer, by what happened. */
  readonly failures: Readonly<Record<string, number>>;
  /** Connections begun in each whole second. */
  readonly perSecond: readonly number[];
}

/**
 * Three labels get connections of both families. Meanwhile the program is replaced twice, the set of bindings by one of 100,000 and back,
 * bindings come and go one by one, and the server of the label `web` hands over to another.
 */
export async function changeUnderLoad(steering: SocketSteering, processes: Processes): Promise<LoadResult> {
  const base =
    'web tcp 127.1.0.0/16 80\nweb tcp fd00::/64 80\nother tcp 127.2.0.0/16 80\nwide tcp 127.0.0.0/8 all\n';
  await steering.apply(parseBindings(base, 'test'));
  const serve = async (label: string, name: string, port: number) => {
    const words = [`${SUPPORT}answering-server.mjs`, name, '::', String(port)];
    const server = await processes.server(process.execPath, ...words);
    await registerProcess(steering, label, server, 'tcp', '::', port);
    return server;
  };
  const first = await serve('web', 'web1', 8001);
  await serve('other', 'other', 8002);
  await serve('wide', 'wide', 8003);
  const large = parseBindings(base + manyBindings(), 'large');
  const targets = [
    { address: '127.1.0.1', port: 80, names: ['web1', 'web2'] },
    { address: 'fd00::2', port: 80, names: ['web1', 'web2'] },
    { address: '127.2.9.9', port: 80, names: ['other'] },
    { address: '127.3.0.1', port: 4242, names: ['wide'] },
  ].map(({ address, ...rest }) => ({ ...rest, address: [...addressBytes(address)] }));
  const client = processes.start([
    process.execPath,
    `${SUPPORT}connecting-client.mjs`,
    String(ASKED_PER_SECOND),
    String(LONGEST_SECONDS),
    JSON.stringify(targets),
  ]);
  const output = { out: '', err: '' };
  client.stdout!.on('data', (data: Buffer) => {
    output.out += data.toString();
  });
  client.stderr!.on('data', (data: Buffer) => {
    output.err += data.toString();
  });
  const ended = once(client, 'close');
  await once(client.stdout!, 'data');
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
  await serve('web', 'web2', 8004);
  await traffic(steering);
  first.kill('SIGTERM');
  await steering.apply(parseBindings(base, 'test'));
  await traffic(steering);
  client.kill('SIGTERM');
  await ended;
  if (!output.out.trimEnd().includes('\n')) throw new Error(`the client failed: ${output.err}`);
  return JSON.parse(output.out.trim().split('\n').at(-1)!) as LoadResult;
}

function manyBindings(): string {
  const lines: string[] = [];
  for (let n = 0; n < 100_000; n++)
    lines.push(`wide tcp 10.${n >> 16}.${(n >> 8) & 255}.${n & 255} ${1 + (n % 60_000)}`);
  return lines.join('\n');
}

/** Waits for connections: on a busy machine the client pauses for a while. */
async function traffic(steering: SocketSteering): Promise<void> {
  const assigned = (): number =>
    steering.status().destinations.find(({ label }) => label === 'web')!.metrics.assigned;
  const enough = assigned() + BETWEEN;
  for (let waitedMs = 0; assigned() < enough; waitedMs += 50) {
    if (waitedMs > 15_000) throw new Error('no connections come');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
