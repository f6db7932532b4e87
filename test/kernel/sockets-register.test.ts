/** What can be registered and what cannot: sockets of every kind, from everywhere they can come from. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { registerNodeSocket, SocketSteering, takeProcessSocket } from '../../src/host/index.ts';
import { Fd } from '../../src/kernel/index.ts';
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  encodeEndpoint,
  openSocket,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_SOCKET,
  setSocketOption,
  waitFor,
} from '../../src/kernel/sys/socket.ts';
import { syscall } from '../../src/kernel/sys/syscall.ts';
import { labelOptions, MAX_MEMBERS, MAX_SLOTS, parseBindings } from '../../src/sklookup/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces } from '../support/netns.ts';

const AF_UNIX = 1;
const POLLIN = 1;
const IPPROTO_ICMP = 1;
const IPPROTO_UDPLITE = 136;
const SO_REUSEPORT = 15;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const ON = Uint8Array.of(1, 0, 0, 0);

async function withSteering(use: (host: Host, steering: SocketSteering) => Promise<void>): Promise<void> {
  await withNamespaces(['g'], async ({ g }) => {
    const { steering } = await SocketSteering.load(g.netnsName);
    try {
      await use(g, steering);
    } finally {
      steering.close();
      await SocketSteering.unload(g.netnsName);
    }
  });
}

function make(host: Host, domain: number, type: number, protocol = 0): Fd {
  return host.keep(host.run(() => openSocket(domain, type, protocol, 'a socket')));
}

function bind(host: Host, fd: Fd, address: string, port: number): Fd {
  const name = encodeEndpoint({ address: addressBytes(address), port });
  host.run(() => syscall('bind', fd.number, name, name.length));
  return fd;
}

/** One socket or other descriptor that no look-up could use, and the code that says why. */
const WRONG: readonly (readonly [string, string, (host: Host) => Fd])[] = [
  ['a unix socket', 'HOST_SOCKET_NOT_INET', (host) => make(host, AF_UNIX, SOCK_STREAM)],
  ['a netlink socket', 'HOST_SOCKET_NOT_INET', (host) => make(host, AF_NETLINK, SOCK_RAW)],
  [
    'a file',
    'HOST_SOCKET_NOT_INET',
    (host) => host.keep(new Fd(openSync('/proc/self/status', 'r'), 'a file')),
  ],
  ['a raw socket', 'HOST_SOCKET_PROTOCOL', (host) => make(host, AF_INET, SOCK_RAW, IPPROTO_ICMP)],
  ['a UDP-Lite socket', 'HOST_SOCKET_PROTOCOL', (host) => make(host, AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)],
  [
    'a TCP socket that does not listen',
    'HOST_SOCKET_STATE',
    (host) => bind(host, make(host, AF_INET, SOCK_STREAM), '127.0.0.1', 80),
  ],
  [
    'a TCP connection',
    'HOST_SOCKET_STATE',
    (host) => {
      host.listen(8080, '127.0.0.1');
      return host.connect('127.0.0.1', 8080).fd;
    },
  ],
  ['a UDP socket that is not bound', 'HOST_SOCKET_STATE', (host) => make(host, AF_INET, SOCK_DGRAM)],
  [
    'a UDP socket that is connected',
    'HOST_SOCKET_STATE',
    (host) => {
      const fd = bind(host, make(host, AF_INET, SOCK_DGRAM), '127.0.0.1', 53);
      const peer = encodeEndpoint({ address: addressBytes('127.0.0.1'), port: 9 });
      host.run(() => syscall('connect', fd.number, peer, peer.length));
      return fd;
    },
  ],
];

/** Takes all places of the socket map but `left`, as many labels would whose sockets have been closed. */
function fill({ objects: { state } }: SocketSteering, left: number): void {
  const { destinations } = state;
  const free = MAX_SLOTS - destinations.list().flatMap(({ members }) => members).length - left;
  state.change(() => {
    for (let taken = 0, label = 0; taken < free; label++) {
      const index = destinations.add(`filler${label}`, 'udp', 'ipv4', labelOptions(new Map(), ''));
      const count = Math.min(MAX_MEMBERS, free - taken);
      const members = Array.from({ length: count }, () => ({
        slot: destinations.reserveSlot(index),
        weight: 1,
        address: addressBytes('127.0.0.1'),
        port: 6001,
      }));
      destinations.setMembers(index, members);
      taken += count;
    }
  });
}

describeKernel('registering', () => {
  test.each(WRONG)('%s is refused: %s', (_, code, open) =>
    withSteering(async (host, steering) => {
      const refused = expect.objectContaining({ code, hint: expect.stringMatching(/./) });
      await expect(steering.register(open(host), { label: 'web' })).rejects.toEqual(refused);
      expect(steering.status().destinations).toEqual([]);
    }),
  );

  test('a socket of another namespace, and a descriptor that is closed, are refused', () =>
    withSteering((_, steering) =>
      withNamespaces(['o'], async ({ o }) => {
        const refused = (code: string) => expect.objectContaining({ code, hint: expect.stringMatching(/./) });
        const foreign = o.listen(80, '127.0.0.1');
        await expect(steering.register(foreign.fd, { label: 'web' })).rejects.toEqual(
          refused('HOST_SOCKET_NETNS'),
        );
        const number = openSync('/proc/self/status', 'r');
        closeSync(number);
        const closed = new Fd(number, 'a closed descriptor');
        await expect(steering.register(closed, { label: 'web' })).rejects.toEqual(
          refused('HOST_SOCKET_NOT_INET'),
        );
        closed.release();
      }),
    ));

  test('of a process whose descriptors we may not have: refused in words, nothing changed', () =>
    withSteering(async (host, steering) => {
      host.listen(8080, '127.0.0.1');
      const child = spawn('setpriv', [
        '--bounding-set=-sys_ptrace',
        '--inh-caps=-sys_ptrace',
        process.execPath,
        'bin/sluice.js',
        ...['socket', 'register', '--label', 'web', '--netns', host.netnsName, '--pid', String(process.pid)],
        ...['--protocol', 'tcp', '--address', '127.0.0.1', '--port', '8080'],
      ]);
      let talk = '';
      child.stderr.on('data', (data: Buffer) => {
        talk += data.toString();
      });
      await once(child, 'exit');
      expect([child.exitCode, talk]).toEqual([
        4,
        expect.stringMatching(/process \d+.*\n {2}hint: .*(root|CAP_SYS_PTRACE)/),
      ]);
      expect(steering.status().destinations).toEqual([]);
    }));

  test('a socket serves the families that it can, no others; SO_REUSEPORT groups are spread by the kernel', () =>
    withSteering(async (host, steering) => {
      await steering.apply(
        parseBindings('web tcp 127.0.0.0/8 80\nweb tcp ::1 80\nudp udp 127.0.0.0/8 53\n', 'test'),
      );
      const six = make(host, AF_INET6, SOCK_STREAM);
      setSocketOption(six, IPPROTO_IPV6, IPV6_V6ONLY, ON);
      bind(host, six, '::', 8080);
      syscall('listen', six.number, 8);
      expect(await steering.register(six, { label: 'web' })).toMatchObject({ families: ['ipv6'] });
      host.connect('::1', 80);
      // The label has no socket for IPv4 packets: refused, and counted as missing.
      expect(() => host.connect('127.0.0.1', 80)).toThrow(/ECONNREFUSED/);
      const member = (): Fd => {
        const fd = make(host, AF_INET, SOCK_DGRAM);
        setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, ON);
        return bind(host, fd, '127.0.0.1', 5300);
      };
      const [first, second] = [member(), member()];
      expect(await steering.register(first, { label: 'udp' })).toMatchObject({ families: ['ipv4'] });
      const hasMail = (fd: Fd): boolean => waitFor(fd, POLLIN, 0);
      for (let sent = 0; sent < 200 && !(hasMail(first) && hasMail(second)); sent++)
        host.udp(0, '127.0.0.1').send('127.0.0.9', 53, 'x');
      expect([hasMail(first), hasMail(second)]).toEqual([true, true]);
    }));

  test('servers and datagram sockets of Node, until they are closed', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('web tcp 127.0.0.0/8 80\ndns udp 127.0.0.0/8 53\n', 'test'));
      const server = createServer((socket) => socket.destroy());
      const datagrams = createSocket({
        type: 'udp4',
        // Answered at once, so that binding happens in the namespace and not after we have left it.
        lookup: (name, _options, found) => found(null, name, 4),
      });
      try {
        await expect(registerNodeSocket(steering, server, { label: 'web' })).rejects.toEqual(
          expect.objectContaining({ code: 'HOST_SOCKET_STATE' }),
        );
        const listening = [once(server, 'listening'), once(datagrams, 'listening')];
        host.run(() => {
          server.listen(0);
          datagrams.bind(0, '127.0.0.1');
        });
        await Promise.all(listening);
        expect(await registerNodeSocket(steering, server, { label: 'web' })).toMatchObject({
          protocol: 'tcp',
        });
        expect(await registerNodeSocket(steering, datagrams, { label: 'dns' })).toMatchObject({
          protocol: 'udp',
        });
        const connected = once(server, 'connection');
        host.connect('127.0.0.7', 80);
        await connected;
        const message = once(datagrams, 'message');
        host.udp(0, '127.0.0.1').send('127.0.0.7', 53, 'query');
        expect(String((await message)[0])).toBe('query');
      } finally {
        const closed = [once(server, 'close'), once(datagrams, 'close')];
        server.close();
        datagrams.close();
        await Promise.all(closed);
      }
      expect(() => host.connect('127.0.0.7', 80)).toThrow(/ECONNREFUSED/);
      for (const { members } of steering.status().destinations)
        expect(members.map(({ cookie }) => cookie)).toEqual([undefined]);
    }));

  test('a full label says so, and keeps its sockets', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('label dns spread hash\ndns udp 127.1.0.1 53\n', 'test'));
      for (let port = 6001; port <= 6064; port++)
        await steering.register(host.udp(port, '127.0.0.1').fd, { label: 'dns' });
      const full = expect.objectContaining({ code: 'SOCKETS_FULL', hint: expect.stringMatching(/./) });
      await expect(steering.register(host.udp(6065, '127.0.0.1').fd, { label: 'dns' })).rejects.toEqual(full);
      expect(steering.status().destinations[0]!.members.length).toBe(64);
      await steering.unregister({ label: 'dns', port: 6001 });
      await steering.register(host.udp(6066, '127.0.0.1').fd, { label: 'dns' });
      expect(steering.status().destinations[0]!.members.map(({ port }) => port)).toContain(6066);
    }));

  test('a full socket map says so, and nothing changes; a place that becomes free is used', () =>
    withSteering(async (host, steering) => {
      const file =
        'label dns spread hash\ndns udp 127.1.0.1 53\nweb udp 127.1.0.2 53\nwide tcp ::/0 80\nwide tcp 0.0.0.0/0 80\n';
      await steering.apply(parseBindings(file, 'test'));
      const server = host.udp(6001, '127.0.0.1');
      await steering.register(server.fd, { label: 'dns' });
      fill(steering, 1);

      const before = steering.status();
      const full = expect.objectContaining({
        code: 'SOCKETS_FULL',
        message: expect.stringContaining(String(MAX_SLOTS)),
        hint: expect.stringMatching(/./),
      });
      // It needs two places, of which there is one.
      const both = host.listen(8080, '::');
      await expect(steering.register(both.fd, { label: 'wide' })).rejects.toEqual(full);
      expect(steering.status()).toEqual(before);
      const last = host.udp(6002, '127.0.0.1');
      await steering.register(last.fd, { label: 'web' });
      const filled = steering.status();
      for (const label of ['web', 'dns', 'another'])
        await expect(steering.register(host.udp(0, '127.0.0.1').fd, { label })).rejects.toEqual(full);
      expect(steering.status()).toEqual(filled);
      // What is registered goes on being served, and may be registered again.
      const client = host.udp(0, '127.0.0.1');
      client.send('127.1.0.2', 53, 'x');
      expect(last.receiveText()).toBe('x');
      await steering.register(server.fd, { label: 'dns', weight: 2 });
      client.send('127.1.0.1', 53, 'y');
      expect(server.receiveText()).toBe('y');

      await steering.unregister({ label: 'filler0' });
      await steering.register(both.fd, { label: 'wide' });
      host.connect('127.0.0.9', 80);
      expect(both.accept()).toBeDefined();
    }));

  test('descriptors with high numbers and gaps before them are found', () =>
    withSteering(async (host, steering) => {
      await steering.apply(parseBindings('web tcp 127.0.0.0/8 80\n', 'test'));
      const server = host.listen(8080, '127.0.0.1');
      const child = spawn('bash', ['-c', 'exec 900<&3 3<&-; echo; read -r'], {
        stdio: ['pipe', 'pipe', 'inherit', server.fd.number],
      });
      try {
        await once(child.stdout!, 'data');
        const wanted = { protocol: 'tcp', address: addressBytes('127.0.0.1'), port: 8080 } as const;
        const fd = host.keep(takeProcessSocket(child.pid!, wanted));
        await steering.register(fd, { label: 'web' });
        host.connect('127.0.0.1', 80);
        expect(server.accept()).toBeDefined();
      } finally {
        child.stdin!.end();
        await once(child, 'exit');
      }
    }));
});
