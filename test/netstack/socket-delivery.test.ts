/** The end of the packet path: a packet that the host takes finds its socket, steered or not, and programs see which. */
import { describe, expect, it } from 'vitest';
import { Assembler, R0, R1, R2, R3, R4, R5, R6, R10 } from '../../src/isa/index.ts';
import { parseAddress, parsePrefix } from '../../src/net/index.ts';
import {
  AttachType,
  deliverToSockets,
  ManualClock,
  type NetSocket,
  NetworkStack,
  type PathEvent,
  PathMachine,
  SkLookupPrograms,
  SocketTable,
  TCX_DROP,
  TCX_NEXT,
  XdpAction,
} from '../../src/netstack/index.ts';
import { Machine, type SocketMap } from '../../src/vm/index.ts';
import { actionProgram } from '../support/sklookup-programs.ts';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 8, 0);
const PEER = { ipv4: '192.0.2.2', ipv6: '2001:db8::2' } as const;
const HOST = { ipv4: '192.0.2.1', ipv6: '2001:db8::1' } as const;
type Family = 'ipv4' | 'ipv6';
type Protocol = 'tcp' | 'udp';

const bytes = (text: string): Uint8Array => parseAddress(text)!.bytes;

function sum16(data: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += (data[at]! << 8) | (data[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** A TCP segment (a SYN) or a datagram from the peer to a port of the host. */
function packet(family: Family, protocol: Protocol, port: number): Uint8Array {
  const transport = new Uint8Array(protocol === 'tcp' ? 20 : 12);
  transport.set([0x9c, 0x40, port >> 8, port & 255]);
  if (protocol === 'tcp') transport.set([0x50, 2], 12);
  else transport[5] = transport.length;
  const header =
    family === 'ipv4'
      ? Uint8Array.of(0x45, 0, 0, 20 + transport.length, 0, 1, 0, 0, 64, protocol === 'tcp' ? 6 : 17, 0, 0)
      : Uint8Array.of(0x60, 0, 0, 0, 0, transport.length, protocol === 'tcp' ? 6 : 17, 64);
  const whole = Uint8Array.of(...header, ...bytes(PEER[family]), ...bytes(HOST[family]), ...transport);
  if (family === 'ipv4') {
    const check = sum16(whole.subarray(0, 20));
    whole.set([check >> 8, check & 255], 10);
  }
  return whole;
}

function world() {
  const path = new Machine();
  const runner = new PathMachine(path);
  const lookups = new Machine();
  const sockets = lookups.createMap({
    name: 'sockets',
    type: 'BPF_MAP_TYPE_SOCKMAP',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
  }) as SocketMap;
  lookups.createMap({ name: 'ran', type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 1 });
  const table = new SocketTable();
  const programs = new SkLookupPrograms(lookups, table);
  path.environment = { ...path.environment, lookupSocket: programs.lookupFor(path) };
  const events: PathEvent[] = [];
  const got: NetSocket[] = [];
  const stack = new NetworkStack({
    clock: new ManualClock(),
    random32: () => 0,
    devices: [{ name: 'eth0' }],
    addresses: [
      { device: 'eth0', prefix: parsePrefix('192.0.2.1/24')! },
      { device: 'eth0', prefix: parsePrefix('2001:db8::1/64')! },
    ],
    routes: [],
    runProgram: (...given) => runner.run(...given),
    deliver: deliverToSockets(table, (socket) => got.push(socket)),
    trace: (event) => events.push(event),
  });
  runner.serve(stack);
  const listen = (protocol: Protocol, address: string, port: number): NetSocket => {
    const local = bytes(address);
    const socket = table.socket({ protocol, domain: local.length === 4 ? 'ipv4' : 'ipv6' });
    table.bind(socket, local, port);
    return protocol === 'tcp' ? table.listen(socket) : socket;
  };
  /** The socket that the packet is delivered to; `undefined`: none. */
  const receive = (family: Family, protocol: Protocol, port: number): NetSocket | undefined => {
    got.length = 0;
    stack.receive({ family, bytes: packet(family, protocol, port), mac: MAC.slice() }, 'eth0');
    expect(got.length).toBeLessThan(2);
    return got[0];
  };
  const redirectTo = (socket: NetSocket) => {
    sockets.put(0, programs.objectOf(socket));
    return programs.attach(programs.load(actionProgram('redirect')));
  };
  return { runner, stack, events, listen, receive, redirectTo };
}

const CASES = (['tcp', 'udp'] as const).flatMap((protocol) =>
  (['ipv4', 'ipv6'] as const).map((family) => [protocol, family] as const),
);

describe('delivery to sockets', () => {
  it.each(CASES)('%s over %s: the socket at the port, the steered one, or none', (protocol, family) => {
    const { events, listen, receive, redirectTo } = world();
    const plain = listen(protocol, HOST[family], 80);
    expect(receive(family, protocol, 80)).toBe(plain);
    expect(events.at(-1)).toMatchObject({ kind: 'delivered' });
    expect(receive(family, protocol, 81)).toBeUndefined();
    expect(events.map(({ kind }) => kind)).toContain('dropped');
    const steered = listen(protocol, family === 'ipv4' ? '127.0.0.5' : '::1', 9999);
    const link = redirectTo(steered);
    for (const port of [80, 81, 65_535]) expect(receive(family, protocol, port)).toBe(steered);
    link.detach();
    expect(receive(family, protocol, 80)).toBe(plain);
  });

  it.each(['XDP', 'SCHED_CLS'] as const)('%s programs see the socket that steering chooses', (type) => {
    const { runner, stack, listen, receive, redirectTo } = world();
    const asm = new Assembler();
    const missing = asm.label('missing');
    const tuple = Uint8Array.of(...bytes(PEER.ipv4), ...bytes(HOST.ipv4), 0x9c, 0x40, 0, 81);
    const words = new DataView(tuple.buffer);
    for (let at = 0; at < 12; at += 4) asm.store('u32', R10, at - 12, words.getInt32(at, true));
    asm.mov(R2, R10).add(R2, -12).mov(R3, 12).mov(R4, -1).mov(R5, 0).call('bpf_sk_lookup_udp');
    asm.jump('==', R0, 0, missing).load('u32', R6, R0, 44).mov(R1, R0).call('bpf_sk_release');
    asm.jump('!=', R6, 9999, missing).return(type === 'XDP' ? XdpAction.PASS : TCX_NEXT);
    asm.place(missing).return(type === 'XDP' ? XdpAction.DROP : TCX_DROP);
    const program = runner.load(asm.finish(), `BPF_PROG_TYPE_${type}`, type);
    const { ifindex } = stack.deviceByName('eth0')!;
    if (type === 'XDP') stack.xdp.attach(program, { ifindex });
    else stack.tcx.attach(program, { ifindex, attachType: AttachType.TCX_INGRESS });
    listen('udp', HOST.ipv4, 81);
    expect(receive('ipv4', 'udp', 81)).toBeUndefined();
    const steered = listen('udp', '127.0.0.5', 9999);
    redirectTo(steered);
    expect(receive('ipv4', 'udp', 81)).toBe(steered);
  });
});
