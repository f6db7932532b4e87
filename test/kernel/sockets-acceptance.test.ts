/** The acceptance cases of sk_lookup in the running kernel, with real sockets: the cases that the netstack runs too. */
import { expect, test } from 'vitest';
import { type AssembledProgram, Assembler, R0, R2, R3, R4, R10 } from '../../src/isa/index.ts';
import {
  addAddress,
  attachSkLookup,
  BpfMap,
  describeSocket,
  Fd,
  type Link,
  linkProgram,
  MapFlag,
  Program,
  queryPrograms,
  selectedSocketCookie,
  skLookupContext,
  testRun,
  VerifierError,
} from '../../src/kernel/index.ts';
import {
  AF_INET,
  AF_INET6,
  encodeEndpoint,
  openSocket,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  setSocketOption,
} from '../../src/kernel/sys/socket.ts';
import { syscall, trySyscall } from '../../src/kernel/sys/syscall.ts';
import { describeKernel } from '../support/kernel.ts';
import { addressBytes, type Host, withNamespaces } from '../support/netns.ts';
import {
  ACCEPTANCE_NAMES,
  LOOKUP_CASES,
  type LookupCase,
  NARROW_CASES,
  REJECTED_CASES,
  type ServerCase,
} from '../support/sklookup-cases.ts';
import {
  ACCESS_CASES,
  ASSIGN_CASES,
  actionProgram,
  assignProgram,
  contextSocketProgram,
  narrowFields,
  narrowProgram,
} from '../support/sklookup-programs.ts';

const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_ATTACH_REUSEPORT_EBPF = 52;
const SOCK_NONBLOCK = 0o4000;
const MSG_DONTWAIT = 0x40;
const ON = Uint8Array.of(1, 0, 0, 0);

/** Both families on loopback: 127.0.0.0/8, fd00::1 and fd00::2. */
async function withLoopback(use: (host: Host) => void): Promise<void> {
  await withNamespaces(['l'], ({ l }) => {
    for (const address of ['fd00::1', 'fd00::2'])
      l.run(() => addAddress({ index: 1, address: addressBytes(address), prefixLength: 128 }));
    // The kernel puts routes of new IPv6 addresses in place from a work queue; packets before that are lost.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 40);
    use(l);
  });
}

function openServer(host: Host, protocol: 'tcp' | 'udp', { address, port, reusePort }: ServerCase): Fd {
  const bytes = addressBytes(address);
  return host.keep(
    host.run(() => {
      const type = (protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK;
      const fd = openSocket(bytes.length === 16 ? AF_INET6 : AF_INET, type, 0, `server at ${address}`);
      setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, ON);
      if (reusePort === true) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, ON);
      const name = encodeEndpoint({ address: bytes, port });
      syscall('bind', fd.number, name, name.length);
      if (protocol === 'tcp') syscall('listen', fd.number, 16);
      return fd;
    }),
  );
}

function fdValue(fd: Fd): Uint8Array {
  const value = new Uint8Array(8);
  new DataView(value.buffer).setUint32(0, fd.number, true);
  return value;
}

/** The maps of a case, and its programs. */
class CaseObjects {
  readonly sockets: BpfMap;
  readonly ran: BpfMap;

  constructor() {
    const shape = { keySize: 4, valueSize: 8 };
    this.sockets = BpfMap.create({
      ...shape,
      type: 'BPF_MAP_TYPE_SOCKMAP',
      name: 'slc_sockets',
      maxEntries: 8,
    });
    const flags = MapFlag.BPF_F_MMAPABLE;
    this.ran = BpfMap.create({ ...shape, type: 'BPF_MAP_TYPE_ARRAY', name: 'slc_ran', maxEntries: 1, flags });
  }
  load(program: AssembledProgram): Program {
    const maps = { sockets: this.sockets, ran: this.ran };
    const instructions = linkProgram(program, { maps });
    const expectedAttachType = 'BPF_SK_LOOKUP' as const;
    return Program.load({
      type: 'BPF_PROG_TYPE_SK_LOOKUP',
      name: 'slc_case',
      instructions,
      expectedAttachType,
    });
  }
  close(): void {
    this.sockets.close();
    this.ran.close();
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A program for the group of `member` that chooses one socket, or drops without one. */
function attachReuseport(host: Host, member: Fd, chosen: Fd | undefined): void {
  const shape = { name: 'slc_group', keySize: 4, valueSize: 8, maxEntries: 1 };
  const group = host.keep(BpfMap.create({ ...shape, type: 'BPF_MAP_TYPE_REUSEPORT_SOCKARRAY' }));
  const asm = new Assembler();
  const drop = asm.label('drop');
  if (chosen !== undefined) {
    group.update(0, fdValue(chosen));
    asm.store('u32', R10, -4, 0).loadMap(R2, 'group').mov(R3, R10).add(R3, -4).mov(R4, 0);
    asm.call('bpf_sk_select_reuseport').jump('!=', R0, 0, drop).return(1);
  }
  const instructions = linkProgram(asm.place(drop).return(0).finish(), { maps: { group } });
  const type = 'BPF_PROG_TYPE_SK_REUSEPORT' as const;
  using program = Program.load({ type, name: 'slc_reuseport', instructions });
  setSocketOption(
    member,
    SOL_SOCKET,
    SO_ATTACH_REUSEPORT_EBPF,
    new Uint8Array(Int32Array.of(program.fd.number).buffer),
  );
}

/** True when a connection or datagram has come. */
function hasTraffic(protocol: 'tcp' | 'udp', fd: Fd): boolean {
  if (protocol === 'udp')
    return trySyscall('recvfrom', fd.number, new Uint8Array(16), 16, MSG_DONTWAIT, null, null) >= 0;
  const result = trySyscall('accept4', fd.number, null, null, 0);
  if (result >= 0) trySyscall('close', result);
  return result >= 0;
}

/** Sends one byte; the servers that got it, and `refused` when it was. Waits until one of it happens. */
function outcome(host: Host, { protocol, target }: LookupCase, servers: ReadonlyMap<string, Fd>): string[] {
  const address = addressBytes(target.address);
  let client: Fd | undefined;
  if (protocol === 'tcp') {
    try {
      host.connect(target.address, target.port, 5000);
    } catch (error) {
      expect(error).toMatchObject({ errnoName: 'ECONNREFUSED' });
      return ['refused'];
    }
  } else {
    const domain = address.length === 16 ? AF_INET6 : AF_INET;
    client = host.keep(host.run(() => openSocket(domain, SOCK_DGRAM | SOCK_NONBLOCK, 0, 'client')));
    const name = encodeEndpoint({ address, port: target.port });
    syscall('connect', client.number, name, name.length);
  }
  for (let waitedMs = 0; waitedMs < 2000; waitedMs += 5) {
    if (client !== undefined && waitedMs % 500 === 0)
      trySyscall('sendto', client.number, Uint8Array.of(1), 1, 0, null, 0);
    const got = [...servers].filter(([, fd]) => hasTraffic(protocol, fd)).map(([name]) => name);
    if (got.length > 0) return got;
    if (
      client !== undefined &&
      trySyscall('recvfrom', client.number, new Uint8Array(1), 1, MSG_DONTWAIT, null, null) === -111
    )
      return ['refused'];
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
  return [];
}

describeKernel('acceptance cases of sk_lookup in the kernel', () => {
  test.each(LOOKUP_CASES.map((each) => [each.name, each] as const))('%s', (_, each) =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      const servers = new Map<string, Fd>();
      for (const name of ['A', 'B', 'C'] as const) {
        const server = each.servers[name];
        if (server !== undefined) servers.set(name, openServer(host, each.protocol, server));
      }
      const first = servers.get('A')!;
      if (each.connectedMember === true) {
        const extra = openServer(host, 'udp', each.servers.A!);
        const peer = encodeEndpoint({ address: addressBytes(each.target.address), port: 9 });
        syscall('connect', extra.number, peer, peer.length);
      }
      if (each.reuseport !== undefined)
        attachReuseport(host, first, each.reuseport === 'B' ? servers.get('B') : undefined);
      objects.sockets.update(0, fdValue(first));
      const links: Link[] = [];
      try {
        for (const action of each.programs) {
          using program = objects.load(actionProgram(action));
          links.push(attachSkLookup(program, host.netns.number));
        }
        expect(outcome(host, each, servers)).toEqual([each.expect]);
        expect(objects.ran.lookup(0)![0]).toBe(each.programs.length);
      } finally {
        for (const link of links) link.close();
      }
    }),
  );

  test('all 50 cases and 21 accesses are here', ({ task }) => {
    const names = task.suite!.tasks.map(({ name }) => name);
    expect([new Set(ACCEPTANCE_NAMES).size, ACCESS_CASES.length]).toEqual([50, 21]);
    expect(names).toEqual(expect.arrayContaining([...ACCEPTANCE_NAMES]));
    expect(names).toEqual(expect.arrayContaining(ACCESS_CASES.map(({ name }) => name)));
  });

  test('query lookup prog', () =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      const loaded = (['pass', 'pass', 'drop'] as const).map((action) => objects.load(actionProgram(action)));
      const links = loaded.map((program) => attachSkLookup(program, host.netns.number));
      try {
        const ids = () =>
          queryPrograms(host.netns.number, 'BPF_SK_LOOKUP').programs.map(({ programId }) => programId);
        expect(ids()).toEqual(loaded.map(({ id }) => id));
        expect(links[0]!.describe()).toMatchObject({ kind: 'netns', netnsInode: host.inode });
        links[0]!.detach();
        expect(links[0]!.describe()).toMatchObject({ netnsInode: 0, programId: loaded[0]!.id });
        expect(ids()).toEqual(loaded.slice(1).map(({ id }) => id));
      } finally {
        for (const thing of [...links, ...loaded]) thing.close();
      }
    }));

  test.each(ASSIGN_CASES)('%s', (_, steps, expected) =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      const servers = {
        A: openServer(host, 'tcp', { address: '127.0.0.2', port: 8008 }),
        B: openServer(host, 'tcp', { address: '127.0.0.3', port: 8008 }),
      };
      objects.sockets.update(0, fdValue(servers.A));
      objects.sockets.update(1, fdValue(servers.B));
      using program = objects.load(assignProgram(steps));
      const context = skLookupContext({
        protocol: 6,
        remoteAddress: addressBytes('127.0.0.1'),
        remotePort: 1,
        localAddress: addressBytes('127.0.0.1'),
        localPort: 7007,
      });
      const result = testRun(program, { context });
      expect(result.returnValue).toBe(1);
      expect(selectedSocketCookie(result.context)).toBe(describeSocket(servers[expected])!.cookie);
    }),
  );

  test('sk_assign rejects other states, protocols and families, each by its own error', () =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      const listener = openServer(host, 'tcp', { address: '127.0.0.1', port: 7007 });
      const connection = host.connect('127.0.0.1', 7007);
      const udp = openServer(host, 'udp', { address: '127.0.0.1', port: 7007 });
      const peer = encodeEndpoint({ address: addressBytes('127.0.0.1'), port: 9 });
      syscall('connect', udp.number, peer, peer.length);
      const six = openServer(host, 'tcp', { address: 'fd00::1', port: 7007 });
      const v6Only = host.keep(host.run(() => openSocket(AF_INET6, SOCK_STREAM, 0, 'v6only')));
      setSocketOption(v6Only, 41, 26, ON);
      const any = encodeEndpoint({ address: new Uint8Array(16), port: 9009 });
      host.run(() => syscall('bind', v6Only.number, any, any.length));
      syscall('listen', v6Only.number, 1);
      for (const [slot, fd] of [connection.fd, udp, listener, six, v6Only].entries())
        objects.sockets.update(slot, fdValue(fd));
      const verdict = (protocol: number, address: string, slot: number, result: number): number => {
        using program = objects.load(assignProgram([{ slot, flags: 0, result }]));
        const bytes = addressBytes(address);
        return testRun(program, {
          context: skLookupContext({
            protocol,
            remoteAddress: bytes,
            remotePort: 1,
            localAddress: bytes,
            localPort: 7007,
          }),
        }).returnValue;
      };
      expect(verdict(6, '127.0.0.1', 0, -94)).toBe(1);
      expect(verdict(17, '127.0.0.1', 1, -94)).toBe(1);
      expect(verdict(17, '127.0.0.1', 2, -91)).toBe(1);
      expect(verdict(6, 'fd00::1', 2, -97)).toBe(1);
      // Bound to an address that is not mapped, an IPv6 socket is IPv6-only from then on.
      expect(verdict(6, '127.0.0.1', 3, -97)).toBe(1);
      expect(verdict(6, '127.0.0.1', 4, -97)).toBe(1);
    }));

  // It gets nothing, the regular server does.
  test.each(REJECTED_CASES)('%s', (_, protocol) =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      const regular = openServer(host, protocol, { address: '127.0.0.1', port: 7007 });
      const rejected =
        protocol === 'tcp'
          ? host.connect('127.0.0.1', 7007).fd
          : openServer(host, 'udp', { address: '127.0.0.2', port: 8008 });
      if (protocol === 'tcp') {
        const number = syscall('accept4', regular.number, null, null, SOCK_NONBLOCK);
        host.keep(new Fd(number, 'the other end'));
      } else {
        const peer = encodeEndpoint({ address: addressBytes('127.0.0.9'), port: 9 });
        syscall('connect', rejected.number, peer, peer.length);
      }
      objects.sockets.update(0, fdValue(rejected));
      using program = objects.load(assignProgram([{ slot: 0, flags: 0, result: -94 }]));
      const link = attachSkLookup(program, host.netns.number);
      try {
        const target = { address: '127.0.0.1', port: 7007 };
        const each = { ...LOOKUP_CASES[0]!, protocol, target };
        const servers = new Map([
          ['regular', regular],
          ['rejected', rejected],
        ]);
        expect(outcome(host, each, servers)).toEqual(['regular']);
      } finally {
        link.close();
      }
    }),
  );

  test('access ctx->sk', () =>
    withLoopback((host) => {
      using objects = new CaseObjects();
      objects.sockets.update(0, fdValue(openServer(host, 'tcp', { address: 'fd00::2', port: 8008 })));
      using program = objects.load(contextSocketProgram());
      const bytes = addressBytes('fd00::1');
      const context = skLookupContext({
        protocol: 6,
        remoteAddress: bytes,
        remotePort: 1,
        localAddress: bytes,
        localPort: 7007,
      });
      expect(testRun(program, { context }).returnValue).toBe(1);
    }));

  test.each(NARROW_CASES)('%s', (_, address) => {
    using objects = new CaseObjects();
    const local = addressBytes(address);
    using program = objects.load(narrowProgram(narrowFields(local, 0)));
    const fields = {
      protocol: 6,
      remoteAddress: local,
      remotePort: 40_000,
      localAddress: local,
      localPort: 7007,
    };
    expect(testRun(program, { context: skLookupContext(fields) }).returnValue).toBe(1);
  });

  test.each(ACCESS_CASES.map((each) => [each.name, each] as const))('%s', (_, each) => {
    using objects = new CaseObjects();
    if (each.valid) objects.load(each.program()).close();
    else expect(() => objects.load(each.program())).toThrow(VerifierError);
  });
});
