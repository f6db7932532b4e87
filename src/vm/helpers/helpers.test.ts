/** Helpers, kernel functions and contexts, as programs use them. */
import { describe, expect, test } from 'vitest';
import {
  Assembler,
  type ProgramType,
  parseProgram,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  R7,
  R10,
} from '../../isa/index.ts';
import { NetfilterContext, SkbContext, SkLookupContext, XdpContext } from '../context.ts';
import type { Environment } from '../environment.ts';
import { Machine } from '../machine.ts';
import type { ArenaMap } from '../maps/arena.ts';
import { indexKey } from '../maps/map.ts';
import type { ObjectMap } from '../maps/object-map.ts';
import type { RingBufferMap } from '../maps/ring-buffer.ts';
import type { Program } from '../program.ts';

const frame = (length = 64): Uint8Array => Uint8Array.from({ length }, (_, index) => index);
const signed = (value: number): number => value | 0;

function xdp(
  text: string,
  packet = frame(),
  environment: Environment = {},
): { result: number; machine: Machine; context: XdpContext } {
  const machine = new Machine({ environment });
  const program = machine.load(parseProgram(text), { type: 'BPF_PROG_TYPE_XDP' });
  const context = new XdpContext(machine, machine.createPacket(2048).set(packet, 14));
  return { result: program.run(context), machine, context };
}

function skb(
  text: string,
  packet = frame(),
  environment: Environment = {},
): { result: number; machine: Machine; context: SkbContext } {
  const machine = new Machine({ environment });
  const program = machine.load(parseProgram(text), { type: 'BPF_PROG_TYPE_SCHED_CLS' });
  const context = new SkbContext(machine, machine.createPacket(2048).set(packet, 14)).set({
    mark: 7,
    ifindex: 3,
  });
  return { result: program.run(context), machine, context };
}

describe('packets at XDP', () => {
  test('data and data_end', () => {
    expect(xdp('r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr0 = r3\nr0 -= r2\nexit').result).toBe(64);
    expect(xdp('r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +63)\nexit').result).toBe(63);
    expect(() => xdp('r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +64)\nexit')).toThrow(
      /1 past the end of packet|0 bytes past the end of packet/,
    );
    expect(() => xdp('*(u32 *)(r1 +0) = 0\nexit')).toThrow(expect.objectContaining({ code: 'VM_ACCESS' }));
  });

  test('the head moves, and old bytes stay where they are', () => {
    const { result, context } = xdp(
      'r6 = r1\nr2 = -4\ncall bpf_xdp_adjust_head\nr2 = *(u32 *)(r6 +0)\n*(u32 *)(r2 +0) = -1\nexit',
    );
    expect([result, context.packet!.length]).toEqual([0, 68]);
    expect([...context.packet!.bytes.subarray(0, 6)]).toEqual([255, 255, 255, 255, 0, 1]);
    expect(signed(xdp('r2 = 51\ncall bpf_xdp_adjust_head\nexit').result)).toBe(-22);
    expect(signed(xdp('r2 = -4000\ncall bpf_xdp_adjust_head\nexit').result)).toBe(-22);
  });

  test('the tail moves, new bytes are zero', () => {
    const { context } = xdp('r2 = 4\ncall bpf_xdp_adjust_tail\nexit');
    expect([...context.packet!.bytes.subarray(62)]).toEqual([62, 63, 0, 0, 0, 0]);
    expect(xdp('r2 = -50\ncall bpf_xdp_adjust_tail\nexit').context.packet!.length).toBe(14);
    expect(signed(xdp('r2 = -51\ncall bpf_xdp_adjust_tail\nexit').result)).toBe(-22);
  });

  test('loads and stores by helper', () => {
    expect(
      xdp('r2 = 60\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_load_bytes\nr0 = *(u32 *)(r10 -8)\nexit').result,
    ).toBe(0x3f3e3d3c);
    expect(signed(xdp('r2 = 61\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_load_bytes\nexit').result)).toBe(
      -22,
    );
  });

  test('redirection is left for the host', () => {
    const { result, machine } = xdp('r1 = 9\nr2 = 0\ncall bpf_redirect\nexit');
    expect([result, machine.redirection]).toEqual([4, { ifindex: 9, flags: 0 }]);
  });
});

describe('packets at tc', () => {
  test('fields come in and go out', () => {
    const { result, context } = skb(
      'r2 = *(u32 *)(r1 +8)\nr2 += 1\n*(u32 *)(r1 +8) = r2\nr0 = *(u32 *)(r1 +0)\nexit',
    );
    expect([result, context.mark]).toEqual([64, 8]);
  });

  test('legacy loads are in network order and end the program when out of range', () => {
    expect(skb('r6 = r1\nr0 = *(u16 *)skb[12]\nexit').result).toBe(0x0c0d);
    expect(skb('r6 = r1\nr2 = 10\nr0 = *(u32 *)skb[r2 + 2]\nexit').result).toBe(0x0c0d0e0f);
    expect(skb('r6 = r1\nr0 = *(u8 *)skb[-1048576]\nexit').result).toBe(14);
    expect(skb('r6 = r1\nr0 = *(u32 *)skb[61]\nr0 = 5\nexit').result).toBe(0);
  });

  test('store, change the length, checksum', () => {
    const store =
      '*(u32 *)(r10 -4) = -1\nr2 = 4\nr3 = r10\nr3 += -4\nr4 = 4\nr5 = 0\ncall bpf_skb_store_bytes\nexit';
    expect([...skb(store).context.packet!.bytes.subarray(3, 9)]).toEqual([3, 255, 255, 255, 255, 8]);
    expect(skb('r2 = 20\nr3 = 0\ncall bpf_skb_change_tail\nexit').context.packet!.length).toBe(20);
    expect(skb('r2 = 14\nr3 = 0\ncall bpf_skb_change_head\nexit').context.packet!.length).toBe(78);
  });

  test('an IPv4 header checksum stays right when an address changes (RFC 1624)', () => {
    const header = Uint8Array.from(Buffer.from('4500003c1c4640004006b1e6ac100a63ac100a0c', 'hex'));
    const packet = new Uint8Array(34);
    packet.set(header, 14);
    const text = `
      r6 = r1
      r2 = 24
      r3 = 0x630a10ac
      r4 = 0x0101000a
      r5 = 4
      call bpf_l3_csum_replace
      if r0 != 0x0 goto out
      *(u32 *)(r10 -4) = 0x0101000a
      r1 = r6
      r2 = 26
      r3 = r10
      r3 += -4
      r4 = 4
      r5 = 0
      call bpf_skb_store_bytes
      out:
      exit`;
    const { result, context } = skb(text, packet);
    expect(result).toBe(0);
    const view = new DataView(context.packet!.bytes.slice().buffer);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
    expect(((sum & 0xffff) + (sum >>> 16)) & 0xffff).toBe(0xffff);
  });

  test('bpf_csum_diff of the same bytes is the seed', () => {
    const text =
      '*(u64 *)(r10 -8) = 12345\nr1 = r10\nr1 += -8\nr2 = 8\nr3 = r1\nr4 = 8\nr5 = 77\ncall bpf_csum_diff\nexit';
    expect([77, 77 + 0xffff]).toContain(skb(text).result);
    expect(
      signed(skb('r1 = r10\nr1 += -8\nr2 = 3\nr3 = 0\nr4 = 0\nr5 = 0\ncall bpf_csum_diff\nexit').result),
    ).toBe(-22);
  });
});

describe('netfilter', () => {
  const build = (asm: Assembler): Assembler => asm.mov(R6, R1).load('u64', R7, R6, 8).load('u64', R6, R6, 0);

  function netfilter(asm: Assembler): { machine: Machine; program: Program; context: NetfilterContext } {
    const machine = new Machine();
    const program = machine.load(asm.finish(), { type: 'BPF_PROG_TYPE_NETFILTER' });
    const context = new NetfilterContext(machine, machine.createPacket(2048).set(frame(40)));
    return { machine, program, context };
  }

  test('fields of skb, state, devices and namespace by name; null pointers read as 0', () => {
    const asm = build(new Assembler());
    asm.loadField('u32', R0, R7, 'sk_buff', 'mark');
    asm
      .loadField('u64', R1, R6, 'nf_hook_state', 'in')
      .loadField('u32', R2, R1, 'net_device', 'ifindex')
      .add(R0, R2);
    asm
      .loadField('u64', R1, R6, 'nf_hook_state', 'out')
      .loadField('u32', R2, R1, 'net_device', 'ifindex')
      .add(R0, R2);
    asm
      .loadField('u64', R1, R6, 'nf_hook_state', 'net')
      .loadField('u64', R2, R1, 'net', 'net_cookie')
      .add(R0, R2);
    asm.loadField('u8', R2, R6, 'nf_hook_state', 'hook').add(R0, R2).exit();
    const { machine, program, context } = netfilter(asm);
    const device = machine.kernel.create('net_device', { ifindex: 30 });
    context.state
      .set('in', device)
      .set('hook', 1)
      .set('net', machine.kernel.create('net', { net_cookie: 4000 }));
    context.skb.set('mark', 200_000);
    expect(program.run(context)).toBe(204_031);
  });

  test('the packet through a dynptr, at layer 3, read only', () => {
    const asm = build(new Assembler());
    const out = asm.label();
    const slice = (offset: number, bytes: number, kfunc: string): void => {
      asm.mov(R1, R10).add(R1, -16).mov(R2, offset).mov(R3, R10).add(R3, -64).mov(R4, bytes).callKfunc(kfunc);
    };
    asm.mov(R1, R7).mov(R2, 0).mov(R3, R10).add(R3, -16).callKfunc('bpf_dynptr_from_skb');
    asm.jump('!=', R0, 0, out);
    slice(0, 20, 'bpf_dynptr_slice_rdwr');
    asm.jump('!=', R0, 0, out);
    slice(21, 20, 'bpf_dynptr_slice');
    asm.jump('!=', R0, 0, out);
    slice(20, 20, 'bpf_dynptr_slice');
    asm.jump('==', R0, 0, out).load('u8', R0, R0, 19).place(out).exit();
    const { program, context } = netfilter(asm);
    expect(program.run(context)).toBe(39);
  });

  test('what the kernel refuses to such programs is refused when loading', () => {
    const type: ProgramType = 'BPF_PROG_TYPE_NETFILTER';
    for (const text of [
      'call bpf_redirect\nexit',
      'call bpf_skb_load_bytes\nexit',
      'call bpf_skb_ct_lookup\nexit',
    ]) {
      expect(() => new Machine().load(parseProgram(text), { type })).toThrow(
        expect.objectContaining({ code: 'VM_HELPER' }),
      );
    }
    expect(() => new Machine().load(parseProgram('call bpf_no_such_thing\nexit'), { type })).toThrow(
      expect.objectContaining({ code: 'VM_PROGRAM' }),
    );
  });

  test('the way from XDP to the namespace', () => {
    const asm = new Assembler();
    asm.callKfunc('bpf_cast_to_kern_ctx').loadField('u64', R1, R0, 'xdp_buff', 'rxq');
    asm.loadField('u64', R1, R1, 'xdp_rxq_info', 'dev').loadField('u64', R1, R1, 'net_device', 'nd_net.net');
    asm.loadField('u64', R0, R1, 'net', 'net_cookie').exit();
    const machine = new Machine();
    const program = machine.load(asm.finish(), { type: 'BPF_PROG_TYPE_XDP' });
    const net = machine.kernel.create('net', { net_cookie: 99 });
    const device = machine.kernel.create('net_device', { ifindex: 2, 'nd_net.net': net });
    const context = new XdpContext(machine, machine.createPacket().set(frame())).setDevice(device);
    expect([program.run(context), context.ingressIfindex]).toEqual([99, 2]);
  });
});

describe('arena', () => {
  test('programs and host share the pages; pointers go through the casts', () => {
    const machine = new Machine();
    const arena = machine.createMap({
      name: 'tables',
      type: 'BPF_MAP_TYPE_ARENA',
      keySize: 0,
      valueSize: 0,
      maxEntries: 2,
    }) as ArenaMap;
    arena.bytes.set([7], 4096);
    const program = new Assembler();
    const out = program.label();
    program.loadArena(R1, 'tables', 4096).castToKernel(R2, R1).load('u8', R0, R2, 0);
    program
      .store('u32', R2, 4, 0x01020304)
      .castToUser(R3, R2)
      .jump('==', R3, R1, out)
      .mov(R0, 0)
      .place(out)
      .exit();
    expect(machine.runRaw(machine.load(program.finish()), new Uint8Array())).toBe(7n);
    expect([...arena.bytes.subarray(4100, 4104)]).toEqual([4, 3, 2, 1]);
    const beyond = new Assembler();
    beyond.loadArena(R1, 'tables', 8192).castToKernel(R2, R1).load('u8', R0, R2, 0).exit();
    expect(() => machine.runRaw(machine.load(beyond.finish()), new Uint8Array())).toThrow(
      expect.objectContaining({ code: 'VM_ACCESS' }),
    );
  });
});

describe('tail calls, loops, ring buffers', () => {
  test('33 tail calls, then the call falls through', () => {
    const machine = new Machine();
    const map = machine.createMap({
      name: 'jumps',
      type: 'BPF_MAP_TYPE_PROG_ARRAY',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
    });
    const counter = machine.createMap({
      name: 'count',
      type: 'BPF_MAP_TYPE_ARRAY',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
    });
    const text = `
      r6 = r1
      r2 = map[count][0]+0
      r3 = *(u64 *)(r2 +0)
      r3 += 1
      *(u64 *)(r2 +0) = r3
      r1 = r6
      r2 = map[jumps]
      r3 = 0
      call bpf_tail_call
      r0 = 77
      exit`;
    const program = machine.load(parseProgram(text), { type: 'BPF_PROG_TYPE_XDP' });
    (map as ObjectMap<Program>).put(0, program);
    const context = new XdpContext(machine, machine.createPacket().set(frame()));
    expect(program.run(context)).toBe(77);
    expect(counter.get(indexKey(0))?.[0]).toBe(34);
    map.remove(indexKey(0));
    expect(program.run(context)).toBe(77);
    expect(counter.get(indexKey(0))?.[0]).toBe(35);
  });

  test('bpf_loop calls back with index and context, and stops when told', () => {
    const text = (limit: number): string => `
      *(u64 *)(r10 -8) = 0
      r6 = 5
      r1 = ${limit}
      r2 = subprog[step]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop
      r0 <<= 32
      r1 = *(u64 *)(r10 -8)
      r0 += r1
      r0 += r6
      exit
      step:
      r6 = 0
      *(u64 *)(r10 -8) = 1000
      r3 = *(u64 *)(r2 +0)
      r3 += r1
      *(u64 *)(r2 +0) = r3
      r0 = 0
      if r1 < 0x13 goto out
      r0 = 1
      out:
      exit`;
    const machine = new Machine();
    expect(machine.runRaw(machine.load(parseProgram(text(10))), new Uint8Array())).toBe(
      (10n << 32n) + 45n + 5n,
    );
    expect(machine.runRaw(machine.load(parseProgram(text(100))), new Uint8Array())).toBe(
      (20n << 32n) + 190n + 5n,
    );
  });

  test('records reach the host', () => {
    const machine = new Machine();
    const ring = machine.createMap({
      name: 'log',
      type: 'BPF_MAP_TYPE_RINGBUF',
      keySize: 0,
      valueSize: 0,
      maxEntries: 4096,
    });
    const text = `
      r1 = map[log]
      r2 = 8
      r3 = 0
      call bpf_ringbuf_reserve
      if r0 == 0x0 goto out
      *(u64 *)(r0 +0) = 42
      r1 = r0
      r2 = 0
      call bpf_ringbuf_submit
      *(u32 *)(r10 -4) = 7
      r1 = map[log]
      r2 = r10
      r2 += -4
      r3 = 4
      r4 = 0
      call bpf_ringbuf_output
      out:
      exit`;
    machine.runRaw(machine.load(parseProgram(text)), new Uint8Array());
    const records = [...(ring as RingBufferMap).drain()].map((record) => [...record]);
    expect(records).toEqual([
      [42, 0, 0, 0, 0, 0, 0, 0],
      [7, 0, 0, 0],
    ]);
  });

  test('time, randomness and text come from outside', () => {
    const lines: string[] = [];
    const machine = new Machine({
      clock: { monotonicNs: () => 5_000_000_000n },
      random: () => 0xfffffffe,
      environment: { trace: (line) => lines.push(line) },
    });
    const run = (text: string): bigint => machine.runRaw(machine.load(parseProgram(text)), new Uint8Array());
    expect(run('call bpf_ktime_get_ns\nexit')).toBe(5_000_000_000n);
    expect(run('call bpf_get_prandom_u32\nexit')).toBe(0xfffffffen);
    const format = Buffer.from('n=%d x=%lx\0').readBigUInt64LE(0);
    expect(
      run(
        `r3 = ${format} ll\n*(u64 *)(r10 -16) = r3\n*(u64 *)(r10 -8) = ${0x00786c}\nr1 = r10\nr1 += -16\nr2 = 16\nr3 = -5\nr4 = -1\ncall bpf_trace_printk\nexit`.replace(
          `${format} ll`,
          `0x${format.toString(16)}`,
        ),
      ),
    ).toBe(BigInt('n=-5 x=ffffffffffffffff'.length));
    expect(lines).toEqual(['n=-5 x=ffffffffffffffff']);
  });
});

describe('sockets and routes', () => {
  test('an assignment selects, a second needs REPLACE', () => {
    const machine = new Machine();
    const socket = machine.kernel.create('sock').address;
    const text = (flags: number): string => `
      r6 = r1
      r2 = ${socket}
      r3 = 0
      call bpf_sk_assign
      if r0 != 0x0 goto out
      r1 = r6
      r2 = 0
      r3 = ${flags}
      call bpf_sk_assign
      out:
      exit`;
    const context = new SkLookupContext(machine);
    const lookup = {
      protocol: 6,
      localAddress: Uint8Array.of(127, 0, 0, 1),
      remoteAddress: Uint8Array.of(10, 0, 0, 1),
      localPort: 80,
      remotePort: 1234,
    };
    const type = 'BPF_PROG_TYPE_SK_LOOKUP';
    expect(signed(machine.load(parseProgram(text(0)), { type }).run(context.set(lookup)))).toBe(-17);
    expect(context.selected).toBe(socket);
    expect(machine.load(parseProgram(text(1)), { type }).run(context.set(lookup))).toBe(0);
    expect(context.selected).toBe(0);
    expect(signed(machine.load(parseProgram(text(8)), { type }).run(context.set(lookup)))).toBe(-22);
    const port = machine.load(parseProgram('r0 = *(u32 *)(r1 +60)\nexit'), { type });
    expect(port.run(context.set(lookup))).toBe(80);
    const remote = machine.load(parseProgram('r0 = *(u16 *)(r1 +36)\nr0 = be16 r0\nexit'), { type });
    expect(remote.run(context.set(lookup))).toBe(1234);
  });

  test('a route look-up fills the request in', () => {
    const text = `
      *(u64 *)(r10 -64) = 2
      *(u64 *)(r10 -56) = 4
      *(u64 *)(r10 -48) = 0
      *(u64 *)(r10 -40) = 0
      *(u64 *)(r10 -32) = 0x0100007f
      r2 = r10
      r2 += -64
      r3 = 64
      r4 = 0
      call bpf_fib_lookup
      r1 = *(u32 *)(r10 -56)
      r0 <<= 8
      r0 += r1
      exit`;
    const seen: unknown[] = [];
    const environment: Environment = {
      fibLookup: (request) => {
        seen.push([request.family, request.ifindex, [...request.destination]]);
        return { code: 3, ifindex: 11 };
      },
    };
    expect(xdp(text, frame(), environment).result).toBe((3 << 8) + 11);
    expect(seen).toEqual([['ipv4', 4, [127, 0, 0, 1]]]);
    expect(xdp(text, frame()).result).toBe((4 << 8) + 4);
  });

  test('a context of another type is refused', () => {
    const machine = new Machine();
    const program = machine.load(parseProgram('r0 = 0\nexit'), { type: 'BPF_PROG_TYPE_XDP' });
    expect(() => program.run(new SkLookupContext(machine))).toThrow(
      expect.objectContaining({ code: 'VM_CONTEXT' }),
    );
  });
});
