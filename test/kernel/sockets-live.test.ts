/** Socket steering live: the two uses it was made for, and changes under load that no connection notices. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SocketSteering } from '../../src/host/index.ts';
import { addAddress } from '../../src/kernel/index.ts';
import { syscall } from '../../src/kernel/sys/syscall.ts';
import { parseBindings } from '../../src/sklookup/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces } from '../support/netns.ts';
import { TcpStream } from '../support/socket.ts';
import { changeUnderLoad } from '../support/sockets/load.ts';
import { Processes, registerProcess } from '../support/sockets/processes.ts';

const SUPPORT = new URL('../support/sockets/', import.meta.url).pathname;
/** One that every user may run: not a shim in somebody's home. */
const PYTHON = '/usr/bin/python3';
const hasPython = spawnSync(PYTHON, ['--version']).status === 0;

async function withServers(
  use: (host: Host, steering: SocketSteering, processes: Processes) => Promise<void>,
): Promise<void> {
  await withNamespaces(['v'], async ({ v }) => {
    for (const address of ['fd00::1', 'fd00::2', 'fd01::1'])
      v.run(() => addAddress({ index: 1, address: addressBytes(address), prefixLength: 64 }));
    const { steering } = await SocketSteering.load(v.netnsName);
    const processes = new Processes(v.netnsName);
    try {
      await use(v, steering, processes);
    } finally {
      await processes.close();
      steering.close();
      await SocketSteering.unload(v.netnsName);
    }
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describeKernel('steering live', () => {
  test.skipIf(!hasPython)(
    'two unmodified web servers of different users share port 80 on disjoint prefixes',
    () =>
      withServers(async (host, steering, processes) => {
        const file = 'a tcp 127.1.0.0/16 80\na tcp fd00::/64 80\nb tcp 127.2.0.0/16 80\nb tcp fd01::/64 80\n';
        await steering.apply(parseBindings(file, 'test'));
        const folder = mkdtempSync(join(tmpdir(), 'slc-'));
        try {
          for (const [label, uid, port] of [
            ['a', 65534, 8001],
            ['b', 1, 8002],
          ] as const) {
            const root = mkdtempSync(join(folder, label));
            writeFileSync(join(root, 'index.html'), `I am ${label}`);
            spawnSync('chmod', ['-R', 'a+rX', folder]);
            const server = processes.start(
              [PYTHON, '-u', '-m', 'http.server', '--bind', '::', String(port)],
              { uid, cwd: root },
            );
            for (let tries = 0; ; tries++) {
              try {
                await registerProcess(steering, label, server, 'tcp', '::', port);
                break;
              } catch (error) {
                if (tries > 100) throw error;
                await pause(100);
              }
            }
          }
          const get = (authority: string): string =>
            host.exec('curl', ['-sS', '--max-time', '10', `http://${authority}/`]);
          expect(get('127.1.0.1')).toBe('I am a');
          expect(get('127.1.255.7')).toBe('I am a');
          expect(get('127.2.3.4')).toBe('I am b');
          expect(get('[fd00::1]')).toBe('I am a');
          expect(get('[fd01::1]')).toBe('I am b');
          expect(() => host.connect('127.3.0.1', 80)).toThrow(/ECONNREFUSED/);
        } finally {
          rmSync(folder, { recursive: true });
        }
      }),
  );

  test('one server receives connections on all 65,535 ports of a prefix', () =>
    withServers(async (host, steering) => {
      await steering.apply(parseBindings('proxy tcp 127.1.0.0/16 all\n', 'test'));
      const server = host.listen(9999, '127.0.0.1');
      await steering.register(server.fd, { label: 'proxy' });
      // Linger 0: the connection is reset at its end, so that no port waits.
      const linger = new Uint8Array(Int32Array.of(1, 0).buffer);
      host.run(() => {
        const target = addressBytes('127.1.0.1');
        for (let port = 1; port <= 65_535; port++) {
          const client = TcpStream.connect(target, port, 5000);
          const accepted = server.accept(5000)!;
          if (port % 251 === 0) expect(accepted.localAddress()).toEqual({ address: '127.1.0.1', port });
          syscall('setsockopt', client.fd.number, 1, 13, linger, 8);
          client.close();
          accepted.close();
        }
      });
      const { metrics } = steering.status().destinations[0]!;
      expect(metrics).toMatchObject({ lookups: 65_535, assigned: 65_535, misses: 0 });
    }));

  test.skipIf(!hasPython)(
    'one UDP server answers for a whole prefix and all ports, from where it was asked',
    () =>
      withServers(async (host, steering, processes) => {
        await steering.apply(parseBindings('u4 udp 127.1.0.0/16 all\nu6 udp fd00::/64 1000-2000\n', 'test'));
        for (const [label, address] of [
          ['u4', '127.0.0.1'],
          ['u6', 'fd01::1'],
        ] as const) {
          const server = await processes.server(PYTHON, `${SUPPORT}udp-server.py`, address, '5353');
          await registerProcess(steering, label, server, 'udp', address, 5353);
        }
        for (const [address, ports] of [
          ['127.1.7.7', [1, 53, 5353, 65535]],
          ['fd00::2', [1000, 1500, 2000]],
        ] as const) {
          const client = host.udp(0, address.includes(':') ? 'fd00::1' : '127.0.0.1');
          for (const port of ports) {
            client.send(address, port, 'x');
            const reply = client.receive(5000)!;
            expect([new TextDecoder().decode(reply.data), reply.from, reply.port]).toEqual([
              String(port),
              address,
              port,
            ]);
          }
        }
      }),
  );

  test('draining: kept UDP flows stay with the old socket, new ones go to the new', () =>
    withServers(async (host, steering) => {
      await steering.apply(parseBindings('dns udp 127.1.0.1 53\n', 'test'));
      const [before, after] = [host.udp(6001, '127.0.0.1'), host.udp(6002, '127.0.0.1')];
      const [old, fresh] = [host.udp(0, '127.0.0.1'), host.udp(0, '127.0.0.1')];
      await steering.register(before.fd, { label: 'dns' });
      old.send('127.1.0.1', 53, 'one');
      expect(before.receiveText()).toBe('one');
      await steering.register(after.fd, { label: 'dns' });
      old.send('127.1.0.1', 53, 'two');
      fresh.send('127.1.0.1', 53, 'three');
      expect(before.receiveText()).toBe('two');
      expect(after.receiveText()).toBe('three');
      expect(steering.status().destinations[0]!.members.map(({ weight, port }) => [port, weight])).toEqual([
        [6001, 0],
        [6002, 1],
      ]);
      before.close();
      old.send('127.1.0.1', 53, 'four');
      expect(after.receiveText()).toBe('four');
      expect(steering.status().destinations[0]!.metrics).toMatchObject({
        lookups: 4,
        assigned: 4,
        keptFlows: 1,
      });
    }));

  test('several sockets by weight; of one that died the others take over; few flows move', () =>
    withServers(async (host, steering) => {
      await steering.apply(
        parseBindings('label dns spread hash flows forget\ndns udp 127.1.0.1 53\n', 'test'),
      );
      const servers = [6001, 6002, 6003].map((port) => host.udp(port, '127.0.0.1'));
      for (const [index, server] of servers.entries())
        await steering.register(server.fd, { label: 'dns', weight: index === 2 ? 2 : 1 });
      const clients = Array.from({ length: 200 }, () => host.udp(0, '127.0.0.1'));
      const round = (): number[] =>
        clients.map((client) => {
          client.send('127.1.0.1', 53, 'x');
          for (let tries = 0; tries < 100; tries++) {
            const at = servers.findIndex(
              (server) => !server.fd.closed && server.receive(tries === 0 ? 0 : 2) !== undefined,
            );
            if (at >= 0) return at;
          }
          return -1;
        });
      const first = round();
      const count = (list: readonly number[], server: number): number =>
        list.filter((each) => each === server).length;
      expect(count(first, 2)).toBeGreaterThan(count(first, 0));
      expect(count(first, 0)).toBeGreaterThan(20);
      expect(round()).toEqual(first);
      servers[1]!.close();
      const second = round();
      expect(second).not.toContain(1);
      expect(second).not.toContain(-1);
      expect(second.filter((server, index) => first[index] !== 1 && server !== first[index])).toEqual([]);
      // Drained: the places are dealt anew, and most stay.
      await steering.drain({ label: 'dns', port: 6001 });
      expect(new Set(round())).toEqual(new Set([2]));
    }));

  test('under 2,000 new connections and 2,000 new UDP flows a second: upgrades, 100,000 other bindings, hand-over; none refused or misrouted', () =>
    withServers(async (_host, steering, processes) => {
      const { made, answers, failures, udp } = await changeUnderLoad(steering, processes);
      expect(failures).toEqual({});
      expect(Object.keys(answers).sort()).toEqual(['other', 'web1', 'web2', 'wide']);
      expect(Object.values(answers).reduce((sum, each) => sum + each, 0)).toBe(made);
      // Seven times 400 that one of the four targets must get.
      expect(made).toBeGreaterThan(10_000);

      expect(udp.failures).toEqual({});
      expect(Object.keys(udp.flows).sort()).toEqual(['dns1', 'dns2']);
      const { dns1, dns2 } = udp.flows;
      expect(dns1!.count + dns2!.count).toBe(udp.made);
      expect(udp.made).toBeGreaterThan(2000);
      // Those that go on are more datagrams than flows.
      expect(udp.answered).toBeGreaterThan(udp.made);
      // New flows go to the new server from the moment that it is registered, and no flow leaves the old one while that lives.
      const { beginMs, newFlowsMs, endMs } = udp.handOver;
      expect(dns1!.lastMs).toBeLessThanOrEqual(newFlowsMs);
      expect(dns2!.firstMs).toBeGreaterThanOrEqual(beginMs);
      expect(
        udp.moves.filter(({ from, to, atMs }) => from !== 'dns1' || to !== 'dns2' || atMs < endMs),
      ).toEqual([]);

      const { destinations } = steering.status();
      const errors = destinations.map(({ metrics }) => metrics.lookups - metrics.assigned);
      expect(errors).toEqual(destinations.map(() => 0));
      expect(
        destinations.filter(({ label, metrics }) => label === 'dns' && metrics.keptFlows > 0),
      ).toHaveLength(2);
    }));
});
