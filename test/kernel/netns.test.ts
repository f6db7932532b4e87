import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  createNamedNetns,
  createNetns,
  currentNetnsInode,
  deleteNetns,
  isErrno,
  listAddresses,
  listDevices,
  listNeighbours,
  listNetnsNames,
  netnsInode,
  openNetns,
  reachableNetnsInodes,
  readSysctl,
  withNetns,
  writeSysctl,
} from '../../src/kernel/index.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressText, withNamespaces, withPair, withRouter } from '../support/netns.ts';

describeKernel('network namespaces', () => {
  test('withNetns enters for the length of the function and comes back, also after an error', () => {
    const outside = currentNetnsInode();
    using netns = createNetns();
    expect(currentNetnsInode()).toBe(outside);
    const inside = withNetns(netns, currentNetnsInode);
    expect(inside).toBe(netnsInode(netns));
    expect(inside).not.toBe(outside);
    expect(() =>
      withNetns(netns, () => {
        throw new Error('from inside');
      }),
    ).toThrow('from inside');
    expect(currentNetnsInode()).toBe(outside);
  });

  test('withNetns refuses a function that goes on later', () => {
    using netns = createNetns();
    const outside = currentNetnsInode();
    expect(() => withNetns(netns, async () => 1)).toThrow(/synchronous/);
    expect(currentNetnsInode()).toBe(outside);
  });

  test('nested namespaces unwind in order', () => {
    using one = createNetns();
    using two = createNetns();
    withNetns(one, () => {
      expect(withNetns(two, currentNetnsInode)).toBe(netnsInode(two));
      expect(currentNetnsInode()).toBe(netnsInode(one));
    });
  });

  test('named namespaces are those of iproute2', () => {
    const name = `slc-${process.pid}-named`;
    try {
      using made = createNamedNetns(name);
      using opened = openNetns(name);
      expect(netnsInode(opened)).toBe(netnsInode(made));
      expect(() => createNamedNetns(name)).toThrow(expect.objectContaining({ code: 'NETNS_EXISTS' }));
      expect(readdirSync('/run/netns')).toContain(name);
    } finally {
      deleteNetns(name);
    }
    expect(deleteNetns(name)).toBe(false);
    expect(() => openNetns(name)).toThrow(expect.objectContaining({ code: 'NETNS_NOT_FOUND' }));
    expect(() => openNetns('../etc/passwd')).toThrow(expect.objectContaining({ code: 'KERNEL_ARGUMENT' }));
  });

  test('a namespace can be reached while it has a name or a process, and no longer', async () => {
    const name = `slc-${process.pid}-reach`;
    using netns = createNamedNetns(name);
    const inode = netnsInode(netns);
    expect(listNetnsNames()).toContain(name);
    expect(reachableNetnsInodes().has(inode)).toBe(true);
    expect(reachableNetnsInodes().has(currentNetnsInode())).toBe(true);
    const sleeper = withNetns(netns, () => spawn('sleep', ['60']));
    try {
      deleteNetns(name);
      expect(listNetnsNames()).not.toContain(name);
      expect(reachableNetnsInodes().has(inode)).toBe(true);
    } finally {
      sleeper.kill('SIGKILL');
      await once(sleeper, 'exit');
    }
    expect(reachableNetnsInodes().has(inode)).toBe(false);
    // Our descriptor still holds it.
    expect(withNetns(netns, currentNetnsInode)).toBe(inode);
  });

  test('sysctls are those of the namespace', () => {
    using netns = createNetns();
    const outside = readSysctl('net.ipv4.ip_forward');
    withNetns(netns, () => {
      writeSysctl('net.ipv4.ip_forward', 1);
      expect(readSysctl('net/ipv4/ip_forward')).toBe('1');
      expect(readSysctl('net.ipv4.no_such_thing')).toBeUndefined();
      expect(() => writeSysctl('net.ipv4.ip_forward', 'x')).toThrow(
        expect.objectContaining({ code: 'SYSCTL' }),
      );
    });
    expect(readSysctl('net.ipv4.ip_forward')).toBe(outside);
  });

  test('every namespace has a cookie of its own', () =>
    withNamespaces(['a', 'b'], ({ a, b }) => {
      expect(a.cookie).not.toBe(b.cookie);
      expect(a.cookie).toBe(a.cookie);
      expect(a.cookie).toBeGreaterThan(0n);
    }));
});

describeKernel('rtnetlink', () => {
  test('devices: a fresh namespace has lo; a pair has both ends with each other as link', () =>
    withPair(({ a, b }) => {
      const names = a.run(listDevices).map((device) => device.name);
      expect(names).toContain('lo');
      const left = a.device('b');
      const right = b.device('a');
      expect(left).toMatchObject({ kind: 'veth', mtu: 1500, up: true, carrier: true, hardwareType: 1 });
      expect(left.linkIndex).toBe(right.index);
      expect(left.mac).toHaveLength(6);
      expect(left.xdp).toEqual({ native: 0, generic: 0, offloaded: 0 });
    }));

  test('addresses and neighbours read back as they were set', () =>
    withPair(({ a, b }) => {
      const { index } = a.device('b');
      const own = a.run(listAddresses).filter((entry) => entry.index === index);
      const texts = own.map(({ address, prefixLength }) => `${addressText(address)}/${prefixLength}`);
      expect(texts).toEqual(expect.arrayContaining(['10.11.0.1/24', 'fd11::1/64']));
      const neighbours = a.run(listNeighbours).filter((entry) => entry.index === index);
      const entry = neighbours.find(({ address }) => addressText(address) === b.ipv4);
      expect(entry?.mac).toEqual(b.device('a').mac);
    }));

  test('the kernel says in words what it refuses', () =>
    withPair(({ a }) => {
      let caught: unknown;
      try {
        a.configure('b', '10.11.0.1/24');
      } catch (error) {
        caught = error;
      }
      expect(isErrno(caught, 17)).toBe(true);
      expect(String(caught)).toMatch(/already assigned|EEXIST/);
    }));

  test('UDP and TCP cross a pair, IPv4 and IPv6', () =>
    withPair(({ a, b }) => {
      for (const address of [b.ipv4, b.ipv6]) {
        const server = b.udp();
        a.udp().send(address, server.port, 'ping');
        expect(server.receiveText()).toBe('ping');
        const listener = b.listen();
        const client = a.connect(address, listener.port);
        const accepted = b.keep(listener.accept()!);
        client.send('hello');
        expect(accepted.receiveText()).toBe('hello');
      }
      expect(() => a.connect(b.ipv4, 9)).toThrow(/ECONNREFUSED/);
    }));

  test('a router forwards between two networks', () =>
    withRouter(({ a, b }) => {
      for (const address of [b.ipv4, b.ipv6]) {
        const server = b.udp();
        a.udp().send(address, server.port, 'through');
        const datagram = server.receive();
        expect(datagram && new TextDecoder().decode(datagram.data)).toBe('through');
        expect(datagram?.from).toBe(address === b.ipv4 ? a.ipv4 : a.ipv6);
      }
    }));
});
