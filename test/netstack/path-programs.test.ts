/** Programs of real links at the stations of the whole path, in the virtual machine. */
import { describe, expect, it } from 'vitest';
import { StackTables } from '../../src/host/index.ts';
import { Course } from '../../src/host/replay/course.ts';
import { Assembler, R0, R1, R2, R3, R4, R6, R7, R10 } from '../../src/isa/index.ts';
import { parsePrefix } from '../../src/net/index.ts';
import {
  AttachType,
  attachNetfilter,
  BPF_F_NETFILTER_IP_DEFRAG,
  ManualClock,
  NetworkStack,
  NF_ACCEPT,
  NF_DROP,
  NF_INET_PRE_ROUTING,
  NF_NETDEV_EGRESS,
  NF_NETDEV_INGRESS,
  NFPROTO_IPV4,
  NFPROTO_NETDEV,
  type PathEvent,
  PathMachine,
  TCX_DROP,
  TCX_NEXT,
  TCX_PASS,
  TCX_REDIRECT,
  XdpAction,
} from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { Machine } from '../../src/vm/index.ts';
import { pieceIpv4 } from './defrag-models.ts';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 8, 0);
const SKB_MARK = 8;

/** A router; what it did by station, and what left it as "device hex". */
function router(rules = '') {
  const machine = new PathMachine(new Machine());
  const events: PathEvent[] = [];
  const sent: string[] = [];
  const stack = new NetworkStack({
    clock: new ManualClock(),
    random32: () => 0,
    devices: [{ name: 'eth0' }, { name: 'eth1' }, { name: 'eth2' }],
    addresses: [
      { device: 'eth0', prefix: parsePrefix('192.0.2.1/24')! },
      { device: 'eth1', prefix: parsePrefix('198.51.100.1/24')! },
    ],
    routes: [],
    settings: { forwarding: { ipv4: true, ipv6: false } },
    runProgram: (...given) => machine.run(...given),
    transmit: (device, packet) => sent.push(`${device.name} ${Buffer.from(packet).toString('hex')}`),
    trace: (event) => events.push(event),
  });
  machine.serve(stack);
  if (rules !== '') new StackTables(stack, parseRuleset(rules, { file: 'rules', family: 'ipv4' }).ruleset);
  const load = (
    type: 'XDP' | 'SCHED_CLS' | 'NETFILTER',
    emit: (asm: Assembler) => void,
    name: string = type,
  ) => {
    const asm = new Assembler();
    emit(asm);
    return machine.load(asm.finish(), `BPF_PROG_TYPE_${type}`, name);
  };
  const says = (type: 'XDP' | 'SCHED_CLS', verdict: number, name?: string) =>
    load(type, (asm) => asm.mov(R0, verdict).exit(), name);
  const receive = (bytes = udp(), device = 'eth0'): void =>
    stack.receive({ family: 'ipv4', bytes, mac: MAC.slice() }, device);
  return { stack, events, sent, load, says, receive };
}

/** From 192.0.2.2 to 198.51.100.2, whole. */
function udp(): Uint8Array {
  const bytes = pieceIpv4(Uint8Array.from([0, 7, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]), 0, 12, 1);
  bytes.set([192, 0, 2, 2, 198, 51, 100, 2], 12);
  return withHeaderChecksum(bytes);
}

function withHeaderChecksum(bytes: Uint8Array): Uint8Array {
  bytes.fill(0, 10, 12);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
  bytes.set([sum >> 8, sum & 0xff], 10);
  return bytes;
}

/** How far a packet came: programs by name, other stations by kind. */
function stations(events: readonly PathEvent[]): string[] {
  return events.map((event) => {
    if (event.kind === 'program') return `${event.where} ${event.name}`;
    if (event.kind === 'routed') return `routed ${event.to}`;
    return event.kind === 'dropped' ? `dropped ${event.reason}` : event.kind;
  });
}

/** Reads a byte of the frame into r0, or 0 where there is none, and goes on behind `then`. */
function loadByte(asm: Assembler, at: number, data: number, end: number): Assembler {
  const short = asm.label('short');
  asm
    .load('u32', R2, R1, data)
    .load('u32', R3, R1, end)
    .mov(R4, R2)
    .add(R4, at + 1);
  return asm.mov(R0, 0).jump('>', R4, R3, short).load('u8', R0, R2, at).place(short);
}

describe('the stations', () => {
  it('come in the order of the kernel', () => {
    const { stack, events, says, receive, sent } = router();
    const eth0 = stack.deviceByName('eth0')!;
    const eth1 = stack.deviceByName('eth1')!;
    stack.xdp.attach(says('XDP', XdpAction.PASS, 'x'), { ifindex: eth0.ifindex });
    stack.tcx.attach(says('SCHED_CLS', TCX_NEXT, 'in'), {
      ifindex: eth0.ifindex,
      attachType: AttachType.TCX_INGRESS,
    });
    stack.tcx.attach(says('SCHED_CLS', TCX_PASS, 'out'), {
      ifindex: eth1.ifindex,
      attachType: AttachType.TCX_EGRESS,
    });
    const hook = (name: string) => ({
      name,
      hook: () => {
        events.push({ kind: 'program', where: 'xdp', name, verdict: 0 });
        return NF_ACCEPT;
      },
    });
    const { netfilter } = stack.net;
    netfilter.register({
      ...hook('netdev ingress'),
      pf: NFPROTO_NETDEV,
      hooknum: NF_NETDEV_INGRESS,
      priority: 0,
      dev: eth0,
    });
    netfilter.register({
      ...hook('netdev egress'),
      pf: NFPROTO_NETDEV,
      hooknum: NF_NETDEV_EGRESS,
      priority: 0,
      dev: eth1,
    });
    for (const [hooknum, name] of ['pre', 'in', 'forward', 'out', 'post'].entries())
      netfilter.register({ ...hook(name), pf: NFPROTO_IPV4, hooknum, priority: 0 });
    receive();
    expect(stations(events)).toEqual([
      'received',
      'xdp x',
      'tc-ingress in',
      'xdp netdev ingress',
      'xdp pre',
      'routed forward',
      'xdp forward',
      'xdp post',
      'xdp netdev egress',
      'tc-egress out',
      'transmitted',
    ]);
    expect(sent).toHaveLength(1);
  });

  it('a hook of the device that drops ends the packet before PRE_ROUTING, and after POST_ROUTING', () => {
    for (const [device, hooknum] of [
      ['eth0', NF_NETDEV_INGRESS],
      ['eth1', NF_NETDEV_EGRESS],
    ] as const) {
      const { stack, sent, receive } = router();
      const dev = stack.deviceByName(device)!;
      const ops = { name: 'no', hook: () => NF_DROP, pf: NFPROTO_NETDEV, hooknum, priority: 0, dev };
      stack.net.netfilter.register(ops);
      receive();
      expect(sent).toEqual([]);
      stack.net.netfilter.registry.unregister(ops);
      receive();
      expect(sent).toHaveLength(1);
    }
  });
});

describe('XDP', () => {
  it('drops, passes, sends back and redirects past the other device', () => {
    const { stack, events, sent, load, says, receive } = router();
    const eth2 = stack.deviceByName('eth2')!.ifindex;
    const ifindex = stack.deviceByName('eth0')!.ifindex;
    stack.tcx.attach(says('SCHED_CLS', TCX_DROP), { ifindex: eth2, attachType: AttachType.TCX_EGRESS });
    const link = stack.xdp.attach(says('XDP', XdpAction.DROP), { ifindex });
    const by = (): string => {
      sent.length = 0;
      events.length = 0;
      receive();
      return sent.map((line) => line.split(' ')[0]).join() || stations(events).at(-1)!;
    };
    expect(by()).toBe('dropped xdp');
    link.update(says('XDP', XdpAction.TX));
    expect(by()).toBe('eth0');
    link.update(load('XDP', (asm) => asm.mov(R1, eth2).mov(R2, 0).call('bpf_redirect').exit()));
    expect(by()).toBe('eth2');
    link.update(says('XDP', XdpAction.REDIRECT));
    expect(by()).toBe('dropped xdp');
    link.update(says('XDP', XdpAction.ABORTED));
    expect(by()).toBe('dropped xdp');
    link.update(says('XDP', 9));
    expect(by()).toBe('dropped xdp');
    link.update(says('XDP', XdpAction.PASS));
    expect(by()).toBe('eth1');
    link.detach();
    expect(by()).toBe('eth1');
  });

  it('what it writes goes on: the path sees another destination', () => {
    const { stack, load, receive, events, sent } = router();
    stack.xdp.attach(
      load('XDP', (asm) => {
        const end = asm.label('end');
        asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2).add(R4, 42);
        // 198.51.100.2 becomes 192.0.2.1: this host. The header's sum changes by as much.
        asm.jump('>', R4, R3, end).store('u32', R2, 30, 0x010200c0).store('u16', R2, 24, 0);
        asm.place(end).return(XdpAction.PASS);
      }),
      { ifindex: stack.deviceByName('eth0')!.ifindex },
    );
    receive();
    expect(sent).toEqual([]);
    // A wrong sum is found behind the program, not before it.
    expect(stations(events).at(-1)).toBe('dropped checksum');
    stack.xdp.link(2)!.update(
      load('XDP', (asm) => {
        const end = asm.label('end');
        asm.load('u32', R2, R1, 0).load('u32', R3, R1, 4).mov(R4, R2).add(R4, 46);
        asm.jump('>', R4, R3, end).store('u8', R2, 42, 0xee).place(end).return(XdpAction.PASS);
      }),
    );
    receive();
    expect(sent[0]).toMatch(/ee020304$/);
  });

  it('asks the routes of the stack', () => {
    const { stack, load, receive, events } = router();
    stack.xdp.attach(
      load('XDP', (asm) => {
        // struct bpf_fib_lookup of 64 bytes: family, ifindex, addresses.
        for (let at = -64; at < 0; at += 8) asm.store('u64', R10, at, 0);
        asm.mov(R6, R1).store('u8', R10, -64, 2).load('u32', R7, R6, 12).store('u32', R10, -56, R7);
        asm.load('u32', R2, R6, 0).load('u32', R3, R6, 4).mov(R4, R2).add(R4, 34);
        const short = asm.label('short');
        asm.jump('>', R4, R3, short);
        asm
          .load('u32', R4, R2, 26)
          .store('u32', R10, -48, R4)
          .load('u32', R4, R2, 30)
          .store('u32', R10, -32, R4);
        asm.mov(R1, R6).mov(R2, R10).add(R2, -64).mov(R3, 64).mov(R4, 4).call('bpf_fib_lookup');
        asm.load('u32', R0, R10, -56).exit();
        asm.place(short).return(0);
      }),
      { ifindex: stack.deviceByName('eth0')!.ifindex },
    );
    receive();
    const program = events.find(({ kind }) => kind === 'program');
    expect(program).toMatchObject({ verdict: stack.deviceByName('eth1')!.ifindex });
  });
});

describe('tcx', () => {
  it('programs run in order until one decides; the mark that one sets is what rules see', () => {
    const rules = [
      '*filter',
      ':INPUT ACCEPT',
      ':FORWARD DROP',
      ':OUTPUT ACCEPT',
      '-A FORWARD -m mark --mark 7 -j ACCEPT',
      'COMMIT',
      '',
    ].join('\n');
    const { stack, events, sent, load, says, receive } = router(rules);
    const place = { ifindex: stack.deviceByName('eth0')!.ifindex, attachType: AttachType.TCX_INGRESS };
    receive();
    expect(sent).toEqual([]);
    const marker = stack.tcx.attach(
      load('SCHED_CLS', (asm) => asm.store('u32', R1, SKB_MARK, 7).return(TCX_NEXT), 'marker'),
      place,
    );
    stack.tcx.attach(says('SCHED_CLS', TCX_PASS, 'second'), place);
    stack.tcx.attach(says('SCHED_CLS', TCX_DROP, 'third'), place);
    events.length = 0;
    receive();
    expect(stations(events).slice(1, 3)).toEqual(['tc-ingress marker', 'tc-ingress second']);
    expect(sent).toHaveLength(1);
    marker.detach();
    receive();
    expect(sent).toHaveLength(1);
  });

  it('sees the link header first, and of a packet without one an empty one', () => {
    const { stack, events, load, receive } = router();
    const typed = load('SCHED_CLS', (asm) => loadByte(asm, 12, 76, 80).exit());
    for (const [device, attachType] of [
      ['eth0', AttachType.TCX_INGRESS],
      ['eth1', AttachType.TCX_EGRESS],
    ] as const)
      stack.tcx.attach(typed, { ifindex: stack.deviceByName(device)!.ifindex, attachType });
    receive();
    stack.send({ family: 'ipv4', bytes: udp() });
    const verdicts = events.flatMap((event) => (event.kind === 'program' ? [event.verdict] : []));
    expect(verdicts).toEqual([8, 8, 8]);
  });

  it('redirects to the egress of another device, or into its ingress; without a target it drops', () => {
    const { stack, events, sent, load, says, receive } = router();
    const eth2 = stack.deviceByName('eth2')!.ifindex;
    const place = { ifindex: stack.deviceByName('eth0')!.ifindex, attachType: AttachType.TCX_INGRESS };
    const redirecting = (flags: number) =>
      load('SCHED_CLS', (asm) => asm.mov(R1, eth2).mov(R2, flags).call('bpf_redirect').exit());
    const out = stack.tcx.attach(redirecting(0), place);
    receive();
    expect(sent.map((line) => line.split(' ')[0])).toEqual(['eth2']);
    out.detach();
    const inward = stack.tcx.attach(redirecting(1), place);
    events.length = 0;
    receive();
    expect(events.filter(({ kind }) => kind === 'received')).toMatchObject([
      { device: 'eth0' },
      { device: 'eth2' },
    ]);
    expect(sent.map((line) => line.split(' ')[0])).toEqual(['eth2', 'eth1']);
    inward.detach();
    stack.tcx.attach(says('SCHED_CLS', TCX_REDIRECT), place);
    receive();
    expect(sent).toHaveLength(2);
  });
});

describe('netfilter links', () => {
  it('with the defragmentation flag a program that drops fragments sees none', () => {
    const { stack, events, sent, load, receive } = router();
    const dropsFragments = load('NETFILTER', (asm) => {
      // ctx->skb->head + network_header, then the fragment word.
      const drop = asm.label('drop');
      asm.load('u64', R1, R1, 8).mov(R2, 0).mov(R3, R10).add(R3, -16).callKfunc('bpf_dynptr_from_skb');
      asm
        .mov(R1, R10)
        .add(R1, -16)
        .mov(R2, 6)
        .mov(R3, R10)
        .add(R3, -24)
        .mov(R4, 2)
        .callKfunc('bpf_dynptr_slice');
      asm.jump('==', R0, 0, drop).load('u16', R0, R0, 0).and(R0, 0xff3f).jump('!=', R0, 0, drop).return(1);
      asm.place(drop).return(0);
    });
    const payload = Uint8Array.from({ length: 40 }, (_, at) => at);
    const fragments = [pieceIpv4(payload, 0, 16, 5), pieceIpv4(payload, 16, 40, 5)].map((bytes) => {
      bytes.set([192, 0, 2, 2, 198, 51, 100, 2], 12);
      return withHeaderChecksum(bytes);
    });
    const attach = { pf: NFPROTO_IPV4, hooknum: NF_INET_PRE_ROUTING, priority: 1 };
    const plain = attachNetfilter(stack.net, dropsFragments, attach);
    for (const bytes of fragments) receive(bytes.slice());
    expect(sent).toEqual([]);
    plain.detach();
    attachNetfilter(stack.net, dropsFragments, { ...attach, flags: BPF_F_NETFILTER_IP_DEFRAG });
    for (const bytes of fragments) receive(bytes.slice());
    // Whole in between, and cut again on its way out as it came.
    expect(sent).toHaveLength(2);
    expect(stations(events)).toContain('reassembled');
  });
});

describe('an explanation', () => {
  it('names every program that a packet met, with its verdict in words, and what became of fragments', () => {
    const { stack, load, says, receive, events } = router();
    const [eth0, eth1] = ['eth0', 'eth1'].map((name) => stack.deviceByName(name)!.ifindex) as [
      number,
      number,
    ];
    stack.xdp.attach(says('XDP', XdpAction.PASS, 'guard'), { ifindex: eth0 });
    stack.tcx.attach(says('SCHED_CLS', 77, 'odd'), { ifindex: eth0, attachType: AttachType.TCX_INGRESS });
    stack.tcx.attach(says('SCHED_CLS', TCX_NEXT, 'count'), {
      ifindex: eth1,
      attachType: AttachType.TCX_EGRESS,
    });
    attachNetfilter(
      stack.net,
      load('NETFILTER', (asm) => asm.return(NF_ACCEPT), 'policy'),
      {
        pf: NFPROTO_IPV4,
        hooknum: NF_INET_PRE_ROUTING,
        priority: 1,
        flags: BPF_F_NETFILTER_IP_DEFRAG,
      },
    );
    const explained = (bytes: Uint8Array): string[] => {
      events.length = 0;
      receive(bytes);
      const course = new Course();
      for (const event of events) course.take(event);
      return course.steps.map((step) => (step.kind === 'note' ? step.text : ''));
    };
    expect(explained(udp())).toEqual([
      'comes in by eth0',
      'xdp program guard: XDP_PASS',
      'tc-ingress program odd: 77, which passes as TCX_PASS',
      'netfilter program policy at PREROUTING: NF_ACCEPT',
      'routed out by eth1',
      'tc-egress program count: TCX_NEXT',
      'leaves by eth1: 192.0.2.2 > 198.51.100.2',
    ]);
    const piece = (start: number, end: number, more: number): Uint8Array => {
      const bytes = pieceIpv4(new Uint8Array(64), start, end, 9);
      bytes.set([192, 0, 2, 2, 198, 51, 100, 2], 12);
      bytes[6] = (bytes[6]! & ~0x20) | (more << 5);
      return withHeaderChecksum(bytes);
    };
    expect(explained(piece(0, 32, 1)).at(-1)).toBe('waits for the other fragments');
    expect(explained(piece(24, 48, 1)).at(-1)).toBe('dropped: reassembly, overlap');
    explained(piece(0, 32, 1));
    const whole = explained(piece(32, 64, 0));
    expect(whole).toContain('reassembled from 2 fragments, 84 bytes');
    expect(whole).toContain('netfilter program policy at PREROUTING: NF_ACCEPT');
  });
});
