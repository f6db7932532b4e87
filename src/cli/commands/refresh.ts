import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { followAddresses, refreshPolicies } from '../../host/index.ts';
import type { Command } from '../command.ts';
import { ExitCode } from '../exit.ts';

const SLUICE = fileURLToPath(new URL('../../../bin/sluice.js', import.meta.url));
const AGAIN_MS = 1000;

/** `sluice refresh` in a process of its own: what a policy's memory is mapped by goes with it. False when it failed. */
function refreshOnce(words: readonly string[]): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [SLUICE, 'refresh', ...words], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', reject);
    child.once('close', (code) => resolve(code === 0));
  });
}

/** Follows until this process is told to end. */
async function follow(words: readonly string[]): Promise<void> {
  const end = new AbortController();
  const stop = (): void => end.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  const { signal } = end;
  try {
    await followAddresses(async () => {
      while (!signal.aborted && !(await refreshOnce(words)))
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }, signal);
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.removeListener(name, stop);
  }
}

export const refresh: Command = {
  name: 'refresh',
  summary: 'let live rules see the addresses and devices of their namespaces as they are now',
  description:
    'Programs know the addresses of a namespace (-m addrtype, directed broadcasts) and, at xdp and tcx, the names of the devices that packets leave by from a table. Every command that changes policies renews it; this one does nothing else. With --follow it goes on doing so whenever an address, a route or a device changes, until it is ended: packaging/sluice-refresh.service does that from boot on.',
  arguments: [],
  options: [{ long: 'follow', short: 'f', summary: 'go on, whenever something changes' }],
  examples: [{ line: 'sluice refresh --follow', says: 'what the service of that name runs' }],
  async run(invocation, environment) {
    if (invocation.flag('follow')) {
      await follow(invocation.flag('json') ? ['--json'] : []);
      return ExitCode.OK;
    }
    const refreshed = await refreshPolicies();
    await environment.stdout.write(
      invocation.flag('json')
        ? `${JSON.stringify({ refresh: { version: 1, refreshed } })}\n`
        : refreshed.map((place) => `refreshed: ${place}\n`).join(''),
    );
    return ExitCode.OK;
  },
};
