/**
 * Scratch network namespaces for tests: named `slc-<pid>-<n>-<name>`, joined by veth pairs, gone afterwards.
 *
 *     await withPair(async ({ a, b }) => {
 *       using link = b.run(() => attachNetfilter(program, { … }));
 *       a.udp().send(b.ipv4, 53, 'hello');
 *     });
 *
 * Whatever a host opened (sockets, what was given to `keep`) is closed before its namespace goes: a netfilter link that
 * is still open would keep the namespace and its devices alive.
 */
import { spawnSync } from 'node:child_process';
import {
  addAddress,
  addRoute,
  changeDevice,
  createNamedNetns,
  createVeth,
  currentNetnsCookie,
  type Device,
  deleteNetns,
  type Fd,
  findDevice,
  netnsInode,
  setNeighbour,
  withNetns,
  writeSysctl,
} from '../../src/kernel/index.ts';
import { formatAddressBytes, parseAddress } from '../../src/net/index.ts';
import { LONG_MS } from './patience.ts';
import { PingSocket, TcpListener, TcpStream, UdpSocket } from './socket.ts';

let made = 0;

interface Closable {
  close(): void;
}

/** Bytes of an address in text form. */
export function addressBytes(text: string): Uint8Array {
  const address = parseAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  return address.bytes;
}

/** One namespace and what a test does in it. */
export class Host {
  /** The name it was given: `a`. */
  readonly name: string;
  /** As `ip netns` knows it. */
  readonly netnsName: string;
  readonly netns: Fd;
  /** Addresses of the first device that was given any. */
  ipv4 = '';
  ipv6 = '';
  readonly #owned: Closable[] = [];

  constructor(name: string) {
    this.name = name;
    this.netnsName = `slc-${process.pid}-${++made}-${name}`;
    this.netns = createNamedNetns(this.netnsName);
    this.run(() => changeDevice(1, { up: true }));
  }

  get inode(): number {
    return netnsInode(this.netns);
  }

  get cookie(): bigint {
    return this.run(currentNetnsCookie);
  }

  /** Runs a synchronous function inside the namespace. */
  run<T>(use: () => T): T {
    return withNetns(this.netns, use);
  }

  /** Closes `thing` before the namespace goes; gives it back. */
  keep<T extends Closable>(thing: T): T {
    this.#owned.push(thing);
    return thing;
  }

  /** The device of this name. */
  device(name: string): Device {
    const device = this.run(() => findDevice(name));
    if (device === undefined) throw new Error(`${this.name} has no device ${name}`);
    return device;
  }

  sysctl(name: string, value: string | number): void {
    this.run(() => writeSysctl(name, value));
  }

  /** Gives a device addresses (`10.0.0.1/24`) and sets it up. */
  configure(deviceName: string, ...addresses: readonly string[]): void {
    const { index } = this.device(deviceName);
    this.run(() => {
      changeDevice(index, { up: true });
      for (const text of addresses) {
        const [address = '', length = ''] = text.split('/');
        addAddress({ index, address: addressBytes(address), prefixLength: Number(length) });
        if (address.includes(':')) this.ipv6 ||= address;
        else this.ipv4 ||= address;
      }
    });
  }

  /** A route; `destination` as `10.1.0.0/24` or `default`. */
  route(destination: string, gateway: string): void {
    const family = gateway.includes(':') ? 'ipv6' : 'ipv4';
    const via = { family, gateway: addressBytes(gateway) } as const;
    const [address = '', length = ''] = destination.split('/');
    const target = {
      address: destination === 'default' ? via.gateway : addressBytes(address),
      prefixLength: Number(length),
    };
    this.run(() => addRoute(destination === 'default' ? via : { ...via, destination: target }));
  }

  /** Runs a program inside (with /sys of the machine, unlike `ip netns exec`); throws when it fails, unless `allowFailure`. */
  exec(
    command: string,
    args: readonly string[] = [],
    options: { input?: string; allowFailure?: boolean } = {},
  ): string {
    const run = spawnSync('nsenter', [`--net=/run/netns/${this.netnsName}`, command, ...args], {
      encoding: 'utf8',
      timeout: LONG_MS,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    if (run.error !== undefined) throw run.error;
    if (run.status !== 0 && options.allowFailure !== true) {
      throw new Error(`${command} ${args.join(' ')}: exit ${run.status}: ${run.stderr}`);
    }
    return run.stdout;
  }

  /** A UDP socket; bound when a port (0: any) is given. */
  udp(port = 0, address = '::'): UdpSocket {
    return this.keep(this.run(() => new UdpSocket(addressBytes(address), port)));
  }

  /** A socket for echo requests to an address, from another one where that is given. */
  ping(address: string, source?: string): PingSocket {
    const from = source === undefined ? undefined : addressBytes(source);
    return this.keep(this.run(() => new PingSocket(addressBytes(address), from)));
  }

  /** A TCP listener on all addresses, both families unless an IPv4 address is given. */
  listen(port = 0, address = '::'): TcpListener {
    return this.keep(this.run(() => new TcpListener(addressBytes(address), port)));
  }

  /** Connects; throws the errno, ETIMEDOUT when nothing answers within `timeoutMs`. */
  connect(address: string, port: number, timeoutMs = 1000): TcpStream {
    return this.keep(this.run(() => TcpStream.connect(addressBytes(address), port, timeoutMs)));
  }

  /** Closes all that was kept, whatever fails, then the namespace; throws the first failure. */
  close(): void {
    const failures: unknown[] = [];
    for (const thing of this.#owned.splice(0).reverse()) {
      try {
        thing.close();
      } catch (error) {
        failures.push(error);
      }
    }
    this.netns.close();
    deleteNetns(this.netnsName);
    if (failures.length > 0) throw failures[0];
  }
}

/** Makes a namespace for each name, runs the test, takes them away again whatever happens. */
export async function withNamespaces<const N extends string, T>(
  names: readonly N[],
  use: (hosts: Readonly<Record<N, Host>>) => T | Promise<T>,
): Promise<T> {
  const hosts = new Map<N, Host>();
  try {
    for (const name of names) hosts.set(name, new Host(name));
    return await use(Object.fromEntries(hosts) as Record<N, Host>);
  } finally {
    const failures: unknown[] = [];
    for (const host of hosts.values()) {
      try {
        host.close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) console.error('cleaning up failed:', ...failures);
  }
}

/** Joins two hosts by a veth pair named after each other (`a` gets device `b`), with permanent neighbour entries. */
export function join(
  left: Host,
  right: Host,
  subnet: {
    ipv4?: readonly [left: string, right: string];
    ipv6?: readonly [left: string, right: string];
  } = {},
): void {
  createVeth({ name: right.name, netns: left.netns }, { name: left.name, netns: right.netns }, 2);
  const sides = [
    [left, right, 0, 1],
    [right, left, 1, 0],
  ] as const;
  for (const [host, other, own] of sides) {
    // No router advertisements, multicast reports or address checks: tests count packets.
    host.sysctl(`net/ipv6/conf/${other.name}/accept_ra`, 0);
    host.sysctl(`net/ipv6/conf/${other.name}/accept_dad`, 0);
    host.sysctl(`net/ipv6/conf/${other.name}/router_solicitations`, 0);
    host.sysctl(`net/ipv6/conf/${other.name}/mldv2_unsolicited_report_interval`, 86_400_000);
    const addresses = [subnet.ipv4 && `${subnet.ipv4[own]}/24`, subnet.ipv6 && `${subnet.ipv6[own]}/64`];
    host.configure(other.name, ...addresses.filter((text) => text !== undefined));
  }
  for (const [host, other, , theirs] of sides) {
    const { index } = host.device(other.name);
    const { mac } = other.device(host.name);
    for (const pair of [subnet.ipv4, subnet.ipv6]) {
      const address = pair?.[theirs];
      if (address === undefined) continue;
      host.run(() => setNeighbour({ index, address: addressBytes(address), mac }));
    }
  }
  // The first multicast listener report cannot be turned off: it leaves two clock ticks after an address is added.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
}

export const PAIR = {
  ipv4: ['10.11.0.1', '10.11.0.2'],
  ipv6: ['fd11::1', 'fd11::2'],
} as const;

/** Two hosts: `a` (10.11.0.1, fd11::1, device `b`) and `b` (10.11.0.2, fd11::2, device `a`). */
export function withPair<T>(
  use: (hosts: { readonly a: Host; readonly b: Host }) => T | Promise<T>,
): Promise<T> {
  return withNamespaces(['a', 'b'], (hosts) => {
    join(hosts.a, hosts.b, PAIR);
    return use(hosts);
  });
}

/** Three hosts: `a` (10.11.0.1) and `b` (10.12.0.2) with the forwarding `r` (10.11.0.254, 10.12.0.254) between them. */
export function withRouter<T>(
  use: (hosts: { readonly a: Host; readonly b: Host; readonly r: Host }) => T | Promise<T>,
): Promise<T> {
  return withNamespaces(['a', 'b', 'r'], (hosts) => {
    const { a, b, r } = hosts;
    r.sysctl('net/ipv4/ip_forward', 1);
    r.sysctl('net/ipv6/conf/all/forwarding', 1);
    join(a, r, { ipv4: ['10.11.0.1', '10.11.0.254'], ipv6: ['fd11::1', 'fd11::fe'] });
    join(b, r, { ipv4: ['10.12.0.2', '10.12.0.254'], ipv6: ['fd12::2', 'fd12::fe'] });
    a.route('default', '10.11.0.254');
    a.route('default', 'fd11::fe');
    b.route('default', '10.12.0.254');
    b.route('default', 'fd12::fe');
    return use(hosts);
  });
}

/** Text of an address given as bytes. */
export function addressText(bytes: Uint8Array): string {
  return formatAddressBytes(bytes);
}
