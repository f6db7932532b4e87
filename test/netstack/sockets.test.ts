/** Socket look-up in user space: the kernel's acceptance cases, the rules of the loader, and the interface of 2019. */
import { describe, expect, it } from 'vitest';
import { Assembler, R0, R1, R2, R3, R4, R5, R6, R10 } from '../../src/isa/index.ts';
import { parseAddress } from '../../src/net/index.ts';
import {
  BPF_REDIRECT,
  BPF_REDIRECT_LOOKUP,
  InetLookup,
  InetLookupProgram,
  inetLookupMayRead,
  type NetSocket,
  SkLookupPrograms,
  type SocketQuery,
  SocketTable,
} from '../../src/netstack/index.ts';
import { Machine, type SocketMap, XdpContext } from '../../src/vm/index.ts';
import {
  ACCEPTANCE_NAMES,
  LOOKUP_CASES,
  type LookupCase,
  NARROW_CASES,
  type ServerCase,
} from '../support/sklookup-cases.ts';
import {
  ACCESS_CASES,
  ASSIGN_CASES,
  type AssignStep,
  actionProgram,
  assignProgram,
  contextSocketProgram,
  narrowFields,
  narrowProgram,
} from '../support/sklookup-programs.ts';

const bytes = (text: string): Uint8Array => parseAddress(text)!.bytes;

function machineWith(slots = 4): { machine: Machine; sockets: SocketMap; ran: () => number } {
  const machine = new Machine();
  const sockets = machine.createMap({
    name: 'sockets',
    type: 'BPF_MAP_TYPE_SOCKMAP',
    keySize: 4,
    valueSize: 8,
    maxEntries: slots,
  }) as SocketMap;
  const ran = machine.createMap({
    name: 'ran',
    type: 'BPF_MAP_TYPE_ARRAY',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
  });
  return { machine, sockets, ran: () => ran.get(new Uint8Array(4))![0]! };
}

function serve(
  table: SocketTable,
  protocol: 'tcp' | 'udp',
  { address, port, reusePort }: ServerCase,
): NetSocket {
  const local = bytes(address);
  const socket = table.socket({
    protocol,
    domain: local.length === 4 ? 'ipv4' : 'ipv6',
    reusePort: reusePort ?? false,
  });
  table.bind(socket, local, port);
  return protocol === 'tcp' ? table.listen(socket) : socket;
}

function queryFor(protocol: 'tcp' | 'udp', address: string, port: number): SocketQuery {
  const local = bytes(address);
  return {
    protocol: protocol === 'tcp' ? 6 : 17,
    localAddress: local,
    localPort: port,
    remoteAddress: bytes(local.length === 4 ? '127.0.0.1' : 'fd00::1'),
    remotePort: 40_000,
    ingressIfindex: 1,
  };
}

describe('acceptance cases of sk_lookup', () => {
  it.each(LOOKUP_CASES.map((each) => [each.name, each] as const))('%s', (_, each: LookupCase) => {
    const { machine, sockets, ran } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const servers: Partial<Record<string, NetSocket>> = {};
    for (const name of ['A', 'B', 'C'] as const) {
      const server = each.servers[name];
      if (server !== undefined) servers[name] = serve(table, each.protocol, server);
    }
    if (each.connectedMember === true) {
      const member = each.servers.A!;
      const extra = table.socket({
        protocol: 'udp',
        domain: bytes(member.address).length === 4 ? 'ipv4' : 'ipv6',
        reusePort: true,
      });
      table.bind(extra, bytes(member.address), member.port);
      table.connect(extra, bytes(each.target.address), 9);
    }
    if (each.reuseport !== undefined)
      servers.A!.group!.program = () => (each.reuseport === 'drop' ? 'drop' : servers.B!);
    sockets.put(0, programs.objectOf(servers.A!));
    for (const action of each.programs) programs.attach(programs.load(actionProgram(action)));
    const query = queryFor(each.protocol, each.target.address, each.target.port);
    const found = table.lookup(query);
    const name = Object.entries(servers).find(([, socket]) => socket === found)?.[0] ?? 'refused';
    expect(name).toBe(each.expect);
    expect(ran()).toBe(each.programs.length);
  });

  it('are all 50 here', ({ task }) => {
    expect(new Set(ACCEPTANCE_NAMES).size).toBe(50);
    expect(task.suite!.tasks.map(({ name }) => name)).toEqual(expect.arrayContaining([...ACCEPTANCE_NAMES]));
  });

  // In the order of attachment; a detached link is attached no more.
  it('query lookup prog', () => {
    const { machine } = machineWith();
    const programs = new SkLookupPrograms(machine, new SocketTable());
    const links = ['pass', 'pass', 'drop'].map((action) =>
      programs.attach(programs.load(actionProgram(action as 'pass'))),
    );
    expect(programs.links).toEqual(links);
    const { program } = links[0]!;
    links[0]!.detach();
    expect(links[0]!.attached).toBe(false);
    expect(links[0]!.program).toBe(program);
    expect(programs.links).toEqual(links.slice(1));
    expect(() => links[0]!.update(program)).toThrow(expect.objectContaining({ code: 'ENOLINK' }));
    expect(() => links[1]!.update(program, program)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    links[1]!.update(links[2]!.program);
    expect(() => programs.attach(program, 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    for (let count = 2; count < 64; count++) programs.attach(program);
    expect(() => programs.attach(program)).toThrow(expect.objectContaining({ code: 'E2BIG' }));
  });

  const assignCases: readonly (readonly [string, readonly AssignStep[], 'A' | 'B' | 'C'])[] = [
    ...ASSIGN_CASES,
    ['a socket that is connected elsewhere', [{ slot: 2, flags: 0, result: -94 }], 'C'],
    ['a socket of the other protocol', [{ slot: 3, flags: 0, result: -91 }], 'C'],
  ];
  it.each(assignCases)('%s', (_, steps, expected) => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const servers = {
      A: serve(table, 'tcp', { address: '127.0.0.2', port: 8008 }),
      B: serve(table, 'tcp', { address: '127.0.0.3', port: 8008 }),
      C: serve(table, 'tcp', { address: '127.0.0.1', port: 7007 }),
    };
    sockets.put(0, programs.objectOf(servers.A));
    sockets.put(1, programs.objectOf(servers.B));
    const connection = table.connect(
      table.socket({ protocol: 'tcp', domain: 'ipv4' }),
      bytes('127.0.0.9'),
      9,
      bytes('127.0.0.1'),
    );
    sockets.put(2, programs.objectOf(connection));
    sockets.put(3, programs.objectOf(serve(table, 'udp', { address: '127.0.0.1', port: 53 })));
    programs.attach(programs.load(assignProgram(steps)));
    expect(table.lookup(queryFor('tcp', '127.0.0.1', 7007))).toBe(servers[expected]);
  });

  it('sk_assign rejects UDP connected', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const regular = serve(table, 'udp', { address: '127.0.0.1', port: 7007 });
    const connected = serve(table, 'udp', { address: '127.0.0.2', port: 8008 });
    table.connect(connected, bytes('127.0.0.9'), 9);
    sockets.put(0, programs.objectOf(connected));
    programs.attach(programs.load(assignProgram([{ slot: 0, flags: 0, result: -94 }])));
    expect(table.lookup(queryFor('udp', '127.0.0.1', 7007))).toBe(regular);
  });

  it('sk_assign rejects families that do not fit', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const regular = serve(table, 'udp', { address: '127.0.0.1', port: 7007 });
    const v6Only = table.socket({ protocol: 'udp', domain: 'ipv6', v6Only: true });
    sockets.put(0, programs.objectOf(table.bind(v6Only, bytes('::'), 9009)));
    programs.attach(programs.load(assignProgram([{ slot: 0, flags: 0, result: -97 }])));
    expect(table.lookup(queryFor('udp', '127.0.0.1', 7007))).toBe(regular);
  });

  it('sk_assign rejects TCP established', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const regular = serve(table, 'tcp', { address: '127.0.0.1', port: 7007 });
    const query = queryFor('tcp', '127.0.0.1', 7007);
    const established = table.accept(regular, { ...query, remotePort: 1 });
    sockets.put(0, programs.objectOf(established));
    programs.attach(programs.load(assignProgram([{ slot: 0, flags: 0, result: -94 }])));
    expect(table.lookup(query)).toBe(regular);
  });

  // Null at first, then the selected socket, whose fields can be read.
  it('access ctx->sk', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const server = serve(table, 'tcp', { address: 'fd00::2', port: 8008 });
    sockets.put(0, programs.objectOf(server));
    programs.attach(programs.load(contextSocketProgram()));
    expect(table.lookup(queryFor('tcp', 'fd00::1', 7007))).toBe(server);
  });

  it.each(NARROW_CASES)('%s', (_, address) => {
    const { machine } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const query = queryFor('tcp', address, 7007);
    programs.attach(programs.load(narrowProgram(narrowFields(query.localAddress, 1))));
    const server = serve(table, 'tcp', { address, port: 7007 });
    expect(table.lookup(query)).toBe(server);
  });
});

describe('context access of sk_lookup programs', () => {
  it('has all 21 cases here', ({ task }) => {
    expect(ACCESS_CASES.length).toBe(21);
    expect(task.suite!.tasks.map(({ name }) => name)).toEqual(
      expect.arrayContaining(ACCESS_CASES.map(({ name }) => name)),
    );
  });

  it.each(ACCESS_CASES.map((each) => [each.name, each] as const))('%s', (_, each) => {
    const programs = new SkLookupPrograms(new Machine(), new SocketTable());
    if (each.valid) programs.load(each.program());
    else expect(() => programs.load(each.program())).toThrow(/invalid bpf_context access/);
  });

  it('follows the context through registers, arithmetic and the stack, and knows the return values', () => {
    const programs = new SkLookupPrograms(new Machine(), new SocketTable());
    const spilled = new Assembler()
      .store('u64', R10, -8, R1)
      .load('u64', R2, R10, -8)
      .add(R2, 60)
      .load('u64', R0, R2, 0);
    expect(() => programs.load(spilled.return(1).finish())).toThrow(/off=60 size=8/);
    const called = new Assembler();
    const callee = called.label('reads');
    called.callFunction(callee).return(1).function('reads', callee);
    called.load('u16', R0, R1, 1).mov(R0, 0).exit();
    expect(() => programs.load(called.finish())).toThrow(/off=1 size=2/);
    expect(() => programs.load(new Assembler().return(2).finish())).toThrow(/R0 has value 2/);
  });
});

describe('the order of look-up', () => {
  it('an established connection, then programs, then listeners by score, the wildcard last', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const query = queryFor('tcp', '127.0.0.1', 80);
    const any6 = serve(table, 'tcp', { address: '::', port: 80 });
    expect(table.lookup(query)).toBe(any6);
    expect(table.lookup(queryFor('tcp', 'fd00::1', 80))).toBe(any6);
    expect(() => serve(table, 'tcp', { address: '0.0.0.0', port: 80 })).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE' }),
    );
    table.close(any6);
    const any4 = serve(table, 'tcp', { address: '0.0.0.0', port: 80, reusePort: true });
    expect(table.lookup(query)).toBe(any4);
    const bound = table.socket({ protocol: 'tcp', domain: 'ipv4', reusePort: true, boundDevice: 1 });
    table.listen(table.bind(bound, bytes('0.0.0.0'), 80));
    expect(table.lookup(query)).toBe(bound);
    expect(table.lookup({ ...query, ingressIfindex: 2 })).toBe(any4);
    const exact = serve(table, 'tcp', { address: '127.0.0.1', port: 80, reusePort: true });
    expect(table.lookup(query)).toBe(exact);
    const steered = serve(table, 'tcp', { address: '127.0.0.5', port: 9999 });
    sockets.put(0, programs.objectOf(steered));
    const link = programs.attach(programs.load(actionProgram('redirect')));
    expect(table.lookup(query)).toBe(steered);
    const connection = table.accept(steered, query);
    expect(table.lookup(query)).toBe(connection);
    link.detach();
    expect(table.lookup({ ...query, remotePort: 1 })).toBe(exact);
  });

  it('a connected UDP socket comes before programs, an unconnected one after them', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const query = queryFor('udp', '127.0.0.1', 53);
    const plain = table.bind(
      table.socket({ protocol: 'udp', domain: 'ipv4', reuseAddr: true }),
      bytes('127.0.0.1'),
      53,
    );
    const steered = serve(table, 'udp', { address: '127.0.0.5', port: 9999 });
    sockets.put(0, programs.objectOf(steered));
    const link = programs.attach(programs.load(actionProgram('redirect')));
    expect(table.lookup(query)).toBe(steered);
    const connected = table.bind(
      table.socket({ protocol: 'udp', domain: 'ipv4', reuseAddr: true }),
      bytes('127.0.0.1'),
      53,
    );
    table.connect(connected, query.remoteAddress, query.remotePort);
    expect(table.lookup(query)).toBe(connected);
    expect(table.lookup({ ...query, remotePort: 1 })).toBe(steered);
    // The map has forgotten the socket, and this program drops what it has no socket for.
    table.close(steered);
    expect(table.lookup({ ...query, remotePort: 1 })).toBeUndefined();
    link.detach();
    expect(table.lookup({ ...query, remotePort: 1 })).toBe(plain);
  });

  it('a redirection is visible to XDP programs that look sockets up', () => {
    const { machine, sockets } = machineWith();
    const table = new SocketTable();
    const programs = new SkLookupPrograms(machine, table);
    const server = serve(table, 'tcp', { address: '127.0.0.5', port: 9999 });
    sockets.put(0, programs.objectOf(server));
    const xdp = new Machine();
    xdp.environment = { lookupSocket: programs.lookupFor(xdp) };
    const lookup = new Assembler();
    const missing = lookup.label('missing');
    lookup
      .mov(R6, R1)
      .store('u32', R10, -12, 0x0100007f)
      .store('u32', R10, -8, 0x0100007f)
      .store('u32', R10, -4, 0x50000a00);
    lookup.mov(R1, R6).mov(R2, R10).add(R2, -12).mov(R3, 12).mov(R4, -1).mov(R5, 0);
    lookup.call('bpf_sk_lookup_tcp').jump('==', R0, 0, missing).load('u32', R0, R0, 44).exit();
    const program = xdp.load(lookup.place(missing).return(0).finish(), { type: 'BPF_PROG_TYPE_XDP' });
    const context = new XdpContext(xdp, xdp.createPacket().set(new Uint8Array(60), 14));
    expect(program.run(context)).toBe(0);
    programs.attach(programs.load(actionProgram('redirect')));
    expect(program.run(context)).toBe(9999);
  });
});

describe('the interface of 2019', () => {
  function inetMachine(): { machine: Machine; sockets: SocketMap } {
    const machine = new Machine();
    const sockets = machine.createMap({
      name: 'redir',
      type: 'BPF_MAP_TYPE_REUSEPORT_SOCKARRAY',
      keySize: 4,
      valueSize: 8,
      maxEntries: 2,
    }) as SocketMap;
    return { machine, sockets };
  }
  function redirect(flags = 0) {
    const asm = new Assembler();
    asm.store('u32', R10, -4, 0).mov(R3, R10).add(R3, -4).loadMap(R2, 'redir').mov(R4, flags);
    return asm.callKfunc(BPF_REDIRECT_LOOKUP).exit().finish();
  }

  const cases = ['tcp', 'udp'].flatMap((protocol) =>
    [
      ['IPv4 redir port', '127.0.0.1', '127.0.0.1', 8008],
      ['IPv4 redir addr', '127.0.0.1', '127.0.0.2', 7007],
      ['IPv6 redir port', 'fd00::1', 'fd00::1', 8008],
      ['IPv6 redir addr', 'fd00::1', 'fd00::2', 7007],
      ['IPv4->IPv6 redir port', '127.0.0.1', '::ffff:127.0.0.2', 8008],
    ].map(
      ([name, target, address, port]) =>
        [
          `${protocol.toUpperCase()} ${name}`,
          protocol as 'tcp' | 'udp',
          String(target),
          String(address),
          Number(port),
        ] as const,
    ),
  );
  it.each(cases)('%s', (_, protocol, target, address, port) => {
    const { machine, sockets } = inetMachine();
    const table = new SocketTable();
    const inet = new InetLookupProgram(machine, table);
    const server = serve(table, protocol, { address, port, reusePort: true });
    sockets.put(0, inet.objectOf(server));
    inet.attach(inet.load(redirect()));
    expect(inet.query()).toEqual({ attachFlags: 0, ids: [1] });
    expect(table.lookup(queryFor(protocol, target, 7007))).toBe(server);
  });

  it('helper errors and other return values mean the ordinary look-up; there is no drop', () => {
    const results: number[] = [];
    const attempt = (
      prepare: (table: SocketTable, inet: InetLookupProgram, sockets: SocketMap) => void,
      flags = 0,
    ): void => {
      const { machine, sockets } = inetMachine();
      const table = new SocketTable();
      const inet = new InetLookupProgram(machine, table);
      prepare(table, inet, sockets);
      const regular = serve(table, 'tcp', { address: '127.0.0.1', port: 7007 });
      inet.attach(inet.load(redirect(flags)));
      expect(table.lookup(queryFor('tcp', '127.0.0.1', 7007))).toBe(regular);
      results.push(Number(BigInt.asIntN(64, machine.result)));
    };
    attempt(() => undefined);
    attempt(() => undefined, 1);
    attempt((table, inet, sockets) =>
      sockets.put(0, inet.objectOf(serve(table, 'tcp', { address: '127.0.0.2', port: 1 }))),
    );
    attempt((table, inet, sockets) =>
      sockets.put(0, inet.objectOf(serve(table, 'udp', { address: '127.0.0.2', port: 1, reusePort: true }))),
    );
    attempt((table, inet, sockets) => {
      const socket = table.socket({ protocol: 'tcp', domain: 'ipv6', v6Only: true, reusePort: true });
      sockets.put(0, inet.objectOf(table.listen(table.bind(socket, bytes('::'), 1))));
    });
    expect(results).toEqual([-2, -22, -2, -91, -97]);
    const { machine, sockets } = inetMachine();
    const table = new SocketTable();
    const inet = new InetLookupProgram(machine, table);
    sockets.put(0, inet.objectOf(serve(table, 'tcp', { address: '127.0.0.2', port: 1, reusePort: true })));
    const ignored = new Assembler();
    ignored
      .store('u32', R10, -4, 0)
      .mov(R3, R10)
      .add(R3, -4)
      .loadMap(R2, 'redir')
      .mov(R4, 0)
      .callKfunc(BPF_REDIRECT_LOOKUP);
    const server = serve(table, 'tcp', { address: '127.0.0.1', port: 7007 });
    const program = inet.load(ignored.return(0).finish());
    inet.attach(program);
    expect(table.lookup(queryFor('tcp', '127.0.0.1', 7007))).toBe(server);
    expect(() => inet.attach(program)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => inet.attach(program, 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    inet.detach();
    expect(() => inet.detach()).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(inet.query()).toEqual({ attachFlags: 0, ids: [] });
    expect(BPF_REDIRECT).toBe(7);
  });

  it('context: addresses in 1, 2 and 4 bytes, all else in 4 only, no 8 bytes, no stores', () => {
    const { family, protocol, remoteIp4, localIp4, remoteIp6, localIp6, remotePort, localPort } = InetLookup;
    for (const field of [remoteIp4, localIp4, remoteIp6, remoteIp6 + 12, localIp6, localIp6 + 12]) {
      for (const size of [1, 2, 4]) expect(inetLookupMayRead(field, size)).toBe(true);
      expect(inetLookupMayRead(field, 8)).toBe(false);
    }
    for (const field of [family, protocol, remotePort, localPort]) {
      expect(inetLookupMayRead(field, 4)).toBe(true);
      for (const size of [1, 2, 8]) expect(inetLookupMayRead(field, size)).toBe(false);
    }
    expect(inetLookupMayRead(56, 4)).toBe(false);
    const inet = new InetLookupProgram(new Machine(), new SocketTable());
    for (const size of ['u8', 'u16', 'u32', 'u64'] as const) {
      const store = new Assembler().mov(R2, 0).store(size, R1, 0, R2).return(0).finish();
      expect(() => inet.load(store)).toThrow(/invalid bpf_context access/);
    }
  });
});
