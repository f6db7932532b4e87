/** `sluice socket …`, each command as people run it, in a namespace of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SocketSteering } from '../../src/host/index.ts';
import { attachSkLookup, SeqpacketSocket } from '../../src/kernel/index.ts';
import { SOCKET_LAYOUT_VERSION, SocketArena } from '../../src/sklookup/index.ts';
import { sluice } from '../support/cli.ts';
import { expectDocumented } from '../support/json-page.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { CountingProgram } from '../support/program.ts';

type Run = (...words: string[]) => ReturnType<typeof sluice>;

async function withLoaded(use: (host: Host, run: Run, folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'slc-'));
  await withNamespaces(['c'], async ({ c }) => {
    const run: Run = (...words) => sluice(['socket', ...words, '--netns', c.netnsName]);
    try {
      expect(await run('load')).toMatchObject({ code: 0, stderr: '' });
      await use(c, run, folder);
    } finally {
      await run('unload');
      rmSync(folder, { recursive: true });
    }
  });
}

describeKernel('sluice socket', () => {
  test('load, bind, explain, unbind, unload; loading and unloading twice change nothing', () =>
    withLoaded(async (host, run) => {
      expect((await run('load')).stdout).toMatch(/^loaded already: program \d+\n$/);
      expect((await run('bind', 'web', 'tcp', '127.0.0.0/8', '80')).stdout).toBe(
        'bound web tcp 127.0.0.0/8 80\n',
      );
      expect((await run('bind', 'all', 'tcp', '127.0.0.0/8', 'all')).code).toBe(0);
      expect((await run('bind', 'near', 'tcp', '127.0.0.0/8', '80', '--from', '127.1.0.0/16')).code).toBe(0);
      const web = host.listen(8080, '127.0.0.1');
      const word = [
        '--label',
        'web',
        '--pid',
        String(process.pid),
        '--protocol',
        'tcp',
        '--address',
        '127.0.0.1',
      ];
      expect(await run('register', ...word, '--port', '8080')).toMatchObject({
        code: 0,
        stdout: 'registered tcp 127.0.0.1:8080 for web (ipv4)\n',
      });
      host.connect('127.77.0.1', 80);
      expect(web.accept()).toBeDefined();
      const explained = await run('explain', 'tcp', '127.0.0.1:80', '--from', '10.0.0.1:99');
      expect(explained.stdout).toMatch(
        /^✗ near tcp 127\.0\.0\.0\/8 80 from 127\.1\.0\.0\/16: the source is not in 127\.1\.0\.0\/16\n✓ web tcp 127\.0\.0\.0\/8 80\n✗ all tcp 127\.0\.0\.0\/8 all: fewer ports win\ngoes to web, socket sk:[0-9a-f]+ \(checked by a test run\)\n$/,
      );
      expect((await run('explain', 'tcp', '127.0.0.1:81')).stdout).toContain(
        'all has no live socket: refused',
      );
      expect((await run('explain', 'udp', '127.0.0.1:81')).stdout).toContain('no binding takes it');
      expect((await run('unbind', 'web', 'tcp', '127.0.0.0/8', 'all')).stderr).toContain(
        'bound to all, not to web',
      );
      expect((await run('unbind', 'all', 'tcp', '127.0.0.0/8', 'all')).code).toBe(0);
      expect((await run('bindings')).stdout).toBe(
        'near tcp 127.0.0.0/8 80 from 127.1.0.0/16\nweb tcp 127.0.0.0/8 80\n',
      );
      expect((await run('unload')).stdout).toBe('unloaded\n');
      expect((await run('unload')).stdout).toBe('nothing was loaded\n');
      expect(await run('bindings')).toMatchObject({
        code: 4,
        stderr: expect.stringContaining(`run: sluice socket load --netns ${host.netnsName}\n`),
      });
    }));

  test('apply shows the plan, changes nothing in a dry run or with errors, and says both lines of a conflict', () =>
    withLoaded(async (_host, run, folder) => {
      const path = join(folder, 'bindings');
      writeFileSync(path, 'a tcp 10.0.0.0/8 80\nb udp ::/0 all\n');
      expect((await run('apply', path, '--dry-run')).stdout).toContain(
        '2 added, 0 removed, 0 moved, 0 kept; nothing changed',
      );
      expect((await run('bindings')).stdout).toBe('');
      expect((await run('apply', path)).stdout).toContain('2 added');
      writeFileSync(path, 'c tcp 10.0.0.0/8 80\n');
      expect((await run('apply', path)).stdout).toBe(
        '- b udp ::/0 all\n~ c tcp 10.0.0.0/8 80 (was a)\n0 added, 1 removed, 1 moved, 0 kept\n',
      );
      writeFileSync(path, 'a tcp 10.0.0.0/8 80\n  d tcp 10.0.0.0/8 80\nx tcp 10.0.0.0/40 80\n');
      const wrong = await run('apply', path);
      expect(wrong).toMatchObject({ code: 1, stdout: '' });
      expect(wrong.stderr).toContain(
        `${path}:2:3: error: takes the same packets as line 1 with the same precedence: a tcp 10.0.0.0/8 80`,
      );
      expect(wrong.stderr).toContain(
        `${path}:3:7: error: "10.0.0.0/40" is no address or prefix\n  x tcp 10.0.0.0/40 80\n        ^^^^^^^^^^^`,
      );
      expect((await run('bindings')).stdout).toBe('c tcp 10.0.0.0/8 80\n');
      expect((await run('bind', 'e', 'tcp', '10.0.0.0/8', '80', '--in', 'nodev')).stderr).toContain(
        'there is no device nodev',
      );
      expect((await run('bindings')).stdout).toBe('c tcp 10.0.0.0/8 80\n');
    }));

  test('status, metrics and JSON; closed sockets are shown as closed, foreign programs in their order', () =>
    withLoaded(async (host, run) => {
      using foreign = new CountingProgram('BPF_PROG_TYPE_SK_LOOKUP', 1);
      using _link = attachSkLookup(foreign.program, host.netns.number);
      await run('bind', 'web', 'tcp', '127.0.0.1', '80');
      const server = host.listen(8080, '::');
      const unbound = host.listen(8081, '127.0.0.1');
      const elsewhere = ['--label', 'typo', '--pid', String(process.pid), '--protocol', 'tcp'];
      expect(
        (await run('register', ...elsewhere, '--address', '127.0.0.1', '--port', String(unbound.port)))
          .stdout,
      ).toBe('registered tcp 127.0.0.1:8081 for typo (ipv4); no tcp binding names typo yet\n');
      expect((await run('unregister', '--label', 'typo')).code).toBe(0);
      const word = ['--label', 'web', '--pid', String(process.pid), '--protocol', 'tcp', '--address', '::'];
      expect((await run('register', ...word, '--port', '8080')).stdout).toContain('(ipv4, ipv6)');
      host.connect('127.0.0.1', 80);
      const status = await run('status');
      expect(status.stdout).toMatch(/programs in order: \d+ \(sluice\), \d+\n/);
      expect(status.stdout).toMatch(/web +tcp +ipv4 +1 +1 +0 +0 +\[::\]:8080 sk:[0-9a-f]+ weight 1/);
      const json = JSON.parse((await run('status', '--json')).stdout) as {
        status: { destinations: { metrics: { lookups: number } }[] };
      };
      expect(json.status.destinations[0]!.metrics.lookups).toBe(1);
      expect((await run('metrics')).stdout).toContain(
        'sluice_socket_lookups_total{label="web",protocol="tcp",family="ipv4"} 1\n',
      );
      server.close();
      expect((await run('status')).stdout).toContain('[::]:8080 closed: refused\n');
      expect((await run('upgrade')).stdout).toMatch(/^program \d+ -> \d+\n$/);
      expect((await run('unregister', '--label', 'web')).stdout).toBe('took out 2 sockets of web\n');
      expect((await run('unregister', '--label', 'web')).code).toBe(1);
    }));

  test('--json prints what its page says', () =>
    withLoaded(async (host, run, folder) => {
      const printed = async (command: string, ...words: string[]) => {
        const { code, stdout, stderr } = await run(command, ...words, '--json');
        expect(code, stderr).toBe(0);
        return expectDocumented(`socket ${command}`, stdout);
      };
      const file = join(folder, 'bindings');
      writeFileSync(file, 'web tcp 127.0.0.0/8 80\n');
      host.listen(8080, '127.0.0.1');
      const socket = ['--label', 'web', '--protocol', 'tcp', '--address', '127.0.0.1', '--port', '8080'];
      await printed('load');
      expect(await printed('apply', file)).toMatchObject({
        added: [{ label: 'web' }],
        kept: 0,
        dryRun: false,
      });
      await printed('bind', 'all', 'udp', '::/0', 'all');
      await printed('register', ...socket, '--pid', String(process.pid));
      expect(await printed('explain', 'tcp', '127.0.0.1:80')).toMatchObject({ label: 'web', agrees: true });
      expect(await printed('status')).toMatchObject({
        bindings: 2,
        destinations: [{ label: 'web' }, { label: 'all' }],
      });
      await printed('upgrade');
      await printed('unregister', ...socket);
      await printed('unbind', 'all', 'udp', '::/0', 'all');
      await printed('unload');
    }));

  test('metrics over HTTP; sockets over a unix socket, as another process sends them', () =>
    withLoaded(async (host, run, folder) => {
      await run('bind', 'web', 'tcp', '127.0.0.1', '80');
      const path = join(folder, 'sockets');
      const spawned = (...words: string[]) =>
        spawn(
          'bash',
          ['-c', 'exec node bin/sluice.js "$@"', 'sluice', 'socket', ...words, '--netns', host.netnsName],
          {
            stdio: ['ignore', 'pipe', 'pipe'],
          },
        );
      const receiver = spawned('register', '--listen', path);
      const metrics = spawned('metrics', '--listen', '0');
      try {
        await once(receiver.stderr, 'data');
        const client = SeqpacketSocket.connect(path);
        const ask = (label: string, ...fds: number[]): string => {
          client.send(new TextEncoder().encode(label), fds);
          expect(client.waitForMessage(5000)).toBe(true);
          const message = client.receive();
          return typeof message === 'string' ? message : new TextDecoder().decode(message.data);
        };
        const server = host.listen(8080, '127.0.0.1');
        expect(ask('web#', server.fd.number)).toBe('OK');
        expect(ask('web')).toMatch(/^ERROR HOST_SOCKET_REFUSED no descriptor/);
        expect(ask('no label', server.fd.number)).toMatch(/^ERROR HOST_SOCKET_REFUSED/);
        expect(ask('web', 0)).toMatch(/^ERROR HOST_SOCKET_NOT_INET/);
        client.close();
        host.connect('127.0.0.1', 80);
        expect(server.accept()).toBeDefined();
        const [line] = (await once(metrics.stderr, 'data')) as [Buffer];
        const url = /http:\S+/.exec(line.toString())![0];
        expect(await (await fetch(url)).text()).toContain(
          'sluice_socket_assigned_total{label="web",protocol="tcp",family="ipv4"} 1\n',
        );
        expect((await fetch(url.replace('metrics', 'other'))).status).toBe(404);
      } finally {
        for (const child of [receiver, metrics]) {
          child.kill('SIGTERM');
          if (child.exitCode === null) await once(child, 'exit');
        }
      }
      expect([receiver.exitCode, metrics.exitCode]).toEqual([0, 0]);
    }));

  test('sockets that a service manager passes: names are labels', () =>
    withLoaded(async (host, run) => {
      await run('bind', 'web', 'tcp', '127.0.0.1', '80');
      await run('bind', 'dns', 'udp', '127.0.0.1', '53');
      const [web, dns] = [host.listen(8080, '127.0.0.1'), host.udp(5353, '127.0.0.1')];
      const passed = (names: string) =>
        spawn(
          'bash',
          [
            '-c',
            `export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=${names}; exec node bin/sluice.js socket register --listen-fds --netns ${host.netnsName}`,
          ],
          {
            stdio: ['ignore', 'pipe', 'pipe', web.fd.number, dns.fd.number],
          },
        );
      const child = passed('web:dns');
      let output = '';
      child.stdout!.on('data', (data: Buffer) => (output += data.toString()));
      await once(child, 'exit');
      expect(output).toBe(
        'registered tcp 127.0.0.1:8080 for web (ipv4)\nregistered udp 127.0.0.1:5353 for dns (ipv4)\n',
      );
      host.connect('127.0.0.1', 80);
      expect(web.accept()).toBeDefined();
      host.udp(0, '127.0.0.1').send('127.0.0.1', 53, 'q');
      expect(dns.receiveText()).toBe('q');
      const wrong = passed('web');
      await once(wrong, 'exit');
      expect(wrong.exitCode).toBe(4);
      const none = await sluice(['socket', 'register', '--listen-fds', '--netns', host.netnsName]);
      expect(none).toMatchObject({ code: 4, stderr: expect.stringContaining('LISTEN_FDS') });
    }));

  test('import: what a binding can say, and what it cannot', async () => {
    const rules = `*mangle
-A PREROUTING -d 192.0.2.0/24 -p tcp -m tcp --dport 80 -j TPROXY --on-port 8080 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1
-A PREROUTING -p udp -m multiport --dports 53,5353 -i eth0 -j TPROXY --on-port 5300 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1
-A PREROUTING -p tcp -m ttl --ttl-eq 3 -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0
COMMIT
*nat
-A PREROUTING -s 198.51.100.0/24 -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 8443
-A OUTPUT -p tcp -j REDIRECT --to-ports 1
COMMIT
`;
    const result = await sluice(['socket', 'import', '-'], { stdin: rules });
    expect(result.code).toBe(1);
    expect(result.stdout).toContain(
      'port-8080 tcp 192.0.2.0/24 80\nport-5300 udp 0.0.0.0/0 53 in eth0\nport-5300 udp 0.0.0.0/0 5353 in eth0\nport-8443 tcp 0.0.0.0/0 443 from 198.51.100.0/24\n',
    );
    expect(result.stderr).toMatch(
      /<stdin>:4: not imported: a binding cannot say -m ttl\n.*\n<stdin>:8: not imported: it stands in OUTPUT/,
    );
    const json = await sluice(['socket', 'import', '-'], {
      stdin:
        '{"bindings":[{"label":"web","prefix":"1.2.3.0/24","port":80},{"label":"all","prefix":"::1","port":0}]}',
    });
    expect(json).toMatchObject({
      code: 0,
      stdout: 'web tcp 1.2.3.0/24 80\nweb udp 1.2.3.0/24 80\nall tcp ::1/128 all\nall udp ::1/128 all\n',
    });
  });

  test('what cannot be registered says why', () =>
    withLoaded(async (host, run) => {
      const other = (port: number, protocol = 'tcp', address = '127.0.0.1') =>
        run(
          'register',
          '--label',
          'x',
          '--pid',
          String(process.pid),
          '--protocol',
          protocol,
          '--address',
          address,
          '--port',
          String(port),
        );
      host.listen(8080, '127.0.0.1');
      expect(await other(8081)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /process \d+ has no such socket\n {2}hint: it has: .*tcp 127\.0\.0\.1:8080/,
        ),
      });
      expect(
        (
          await run(
            'register',
            '--label',
            'x',
            '--pid',
            '4194304',
            '--protocol',
            'tcp',
            '--address',
            '::',
            '--port',
            '1',
          )
        ).code,
      ).toBe(4);
      expect(
        (
          await run(
            'register',
            '--label',
            '-x',
            '--pid',
            '1',
            '--protocol',
            'tcp',
            '--address',
            '::',
            '--port',
            '1',
          )
        ).code,
      ).toBe(2);
      await withNamespaces(['d'], async ({ d }) => {
        d.listen(9090, '127.0.0.1');
        expect(await other(9090)).toMatchObject({
          code: 4,
          stderr: expect.stringContaining('another network namespace'),
        });
      });
    }));

  test('tables of another layout: refused with the way out, which works', () =>
    withLoaded(async (host, run) => {
      await run('bind', 'web', 'tcp', '127.0.0.1', '80');
      using steering = SocketSteering.open(host.netnsName);
      const other = SOCKET_LAYOUT_VERSION - 1;
      new DataView(steering.objects.arena.buffer).setUint32(SocketArena.version, other, true);
      const refused = `the loaded tables have layout ${other}, this build has ${SOCKET_LAYOUT_VERSION}\n  hint: `;
      for (const words of [
        ['bindings'],
        ['status'],
        ['upgrade'],
        ['bind', 'a', 'tcp', '::1', '1'],
        ['load'],
      ]) {
        expect(await run(...words), words.join(' ')).toMatchObject({
          code: 4,
          stdout: '',
          stderr: expect.stringContaining(refused),
        });
      }
      expect(await run('unload')).toMatchObject({ code: 0, stdout: 'unloaded\n' });
      expect((await run('load')).code).toBe(0);
      expect((await run('bindings')).stdout).toBe('');
    }));

  test('two writers and a reader at once: nothing is lost, nothing is half', () =>
    withLoaded(async (_host, run) => {
      const bind = (n: number) => run('bind', `l${n}`, 'tcp', `10.0.0.${n}`, '80');
      const results = await Promise.all(
        Array.from({ length: 12 }, (_, n) => (n % 3 === 2 ? run('bindings') : bind(n))),
      );
      expect(results.map(({ code, stderr }) => [code, stderr])).toEqual(results.map(() => [0, '']));
      expect((await run('bindings')).stdout.split('\n').length).toBe(9);
    }));

  test('without privilege: refused in words', async () => {
    const child = spawn(
      'setpriv',
      [
        '--reuid=65534',
        '--clear-groups',
        '--bounding-set=-all',
        '--inh-caps=-all',
        process.execPath,
        'bin/sluice.js',
        'socket',
        'status',
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let talk = '';
    child.stderr.on('data', (data: Buffer) => {
      talk += data.toString();
    });
    await once(child, 'exit');
    expect([child.exitCode, talk]).toEqual([4, expect.stringContaining('hint: run as root')]);
  });
});
