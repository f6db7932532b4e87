import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { prometheusText, SocketSteering } from '../../../host/index.ts';
import { type Command, UsageError } from '../../command.ts';
import { ExitCode } from '../../exit.ts';
import { NETNS_OPTION, withSteering } from '../../sockets.ts';

const TEXT_FORMAT = 'text/plain; version=0.0.4; charset=utf-8';

/** `PORT` at 127.0.0.1, or `ADDRESS:PORT` with a loopback address. */
function listenAddress(text: string): { host: string; port: number } {
  const found = /^(?:(127\.[0-9.]+|\[::1\]|localhost):)?([0-9]{1,5})$/.exec(text);
  const port = Number(found?.[2]);
  if (found === null || port > 65535)
    throw new UsageError(
      `"${text}" is no port or loopback address with a port`,
      'give 9100 or 127.0.0.1:9100',
    );
  return { host: (found[1] ?? '127.0.0.1').replace(/[[\]]/g, ''), port };
}

/** Current metrics; the tables are opened for each request, so that a new load is seen. */
function scrape(netns: string | undefined): string {
  const steering = SocketSteering.open(netns);
  try {
    return prometheusText(steering.status());
  } finally {
    steering.close();
  }
}

export const socketMetrics: Command = {
  name: 'socket metrics',
  summary: 'print counters as Prometheus text, or serve them over HTTP on loopback',
  arguments: [],
  options: [
    NETNS_OPTION,
    {
      long: 'listen',
      value: 'PORT',
      summary: 'serve /metrics at this port of 127.0.0.1 (or ADDRESS:PORT) until interrupted',
    },
  ],
  async run(invocation, environment) {
    const listen = invocation.text('listen');
    if (listen === undefined) {
      return await withSteering(invocation, async (steering) => {
        await environment.stdout.write(prometheusText(steering.status()));
        return ExitCode.OK;
      });
    }
    const netns = invocation.text('netns');
    scrape(netns);
    const server = createServer((request, response) => {
      if (request.method !== 'GET' || !/^\/(metrics)?$/.test(request.url ?? '')) {
        response.writeHead(404).end('see /metrics\n');
        return;
      }
      try {
        const text = scrape(netns);
        response.writeHead(200, { 'content-type': TEXT_FORMAT }).end(text);
      } catch (error) {
        response.writeHead(503).end(`${error instanceof Error ? error.message : error}\n`);
      }
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(listenAddress(listen), resolve);
    });
    const { address, port } = server.address() as AddressInfo;
    await environment.stderr.write(`serving http://${address}:${port}/metrics\n`);
    await new Promise<void>((resolve) => {
      const stop = (): void => {
        server.close(() => resolve());
        server.closeAllConnections();
      };
      process.once('SIGINT', stop).once('SIGTERM', stop);
    });
    return ExitCode.OK;
  },
};
