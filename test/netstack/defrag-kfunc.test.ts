/** The kfunc form of 2023: programs at tc reassemble packets themselves, on a copy. */
import { describe, expect, it } from 'vitest';
import { Assembler, R0, R1, R2, R6 } from '../../src/isa/index.ts';
import {
  bpfIpCheckDefrag,
  type DefragKfuncHost,
  defineDefragKfuncs,
  Errno,
  ETH_P_IP,
  ETH_P_IPV6,
} from '../../src/netstack/index.ts';
import { Machine, SkbContext } from '../../src/vm/index.ts';
import { datagramIpv4, defragNamespace, pieceIpv4, pieceIpv6 } from './defrag-models.ts';

const TC_ACT_OK = 0;
const TC_ACT_SHOT = 2;
const CURRENT = -1;
const ETHERNET = 14;

/** A program that reassembles and drops what does not become whole; its mark takes the function's result. */
function program(name: string, netns: number | bigint) {
  const asm = new Assembler();
  const drop = asm.label('drop');
  asm.mov(R6, R1).loadConstant(R2, netns).callKfunc(name).store('u32', R6, 8, R0);
  asm.jump32('!=', R0, 0, drop).return(TC_ACT_OK);
  return asm.place(drop).return(TC_ACT_SHOT).finish();
}

function bench(name: string, netns: number | bigint = CURRENT) {
  const { net, device, icmp } = defragNamespace();
  const other = defragNamespace().net;
  const machine = new Machine();
  const host: DefragKfuncHost = { net, device, namespaceById: (id) => (id === 3 ? other : undefined) };
  defineDefragKfuncs(machine, host);
  const loaded = machine.load(program(name, netns), { type: 'BPF_PROG_TYPE_SCHED_CLS' });
  const packet = machine.createPacket(70_000);
  const context = new SkbContext(machine, packet);
  const run = (ip: Uint8Array, type: number): { verdict: number; code: number; frame: Uint8Array } => {
    const frame = new Uint8Array(ETHERNET + ip.length).fill(0x02, 0, 12);
    frame.set([type >> 8, type & 0xff], 12);
    frame.set(ip, ETHERNET);
    packet.set(frame, ETHERNET);
    const verdict = loaded.run(context.set({}));
    return { verdict, code: context.mark | 0, frame: packet.bytes.slice() };
  };
  return { run, net, other, icmp, machine, host };
}

const payload = Uint8Array.from({ length: 58 }, (_, at) => at);

describe('bpf_ip_check_defrag', () => {
  it('drops fragments until the datagram is whole, which then lies behind an empty link header', () => {
    const { run } = bench('bpf_ip_check_defrag');
    const first = run(pieceIpv4(payload, 0, 24, 1), ETH_P_IP);
    expect(first).toMatchObject({ verdict: TC_ACT_SHOT, code: -Errno.EINPROGRESS });
    // The packet that waits is as it was.
    expect(first.frame.subarray(0, 12)).toEqual(new Uint8Array(12).fill(2));
    run(pieceIpv4(payload, 24, 48, 1), ETH_P_IP);
    const last = run(pieceIpv4(payload, 48, 58, 1), ETH_P_IP);
    expect(last.verdict).toBe(TC_ACT_OK);
    expect(last.frame).toEqual(Uint8Array.of(...new Uint8Array(14), ...datagramIpv4(payload, 1)));
  });

  it('gives back what is no fragment', () => {
    const { run } = bench('bpf_ip_check_defrag');
    const whole = datagramIpv4(payload, 1);
    expect(run(whole, ETH_P_IP)).toMatchObject({ verdict: TC_ACT_OK, code: 0 });
    expect(run(whole, ETH_P_IP).frame.subarray(14)).toEqual(whole);
  });

  it('keeps the queue of another user and of another namespace apart', () => {
    const { run, net, other } = bench('bpf_ip_check_defrag', 3);
    run(pieceIpv4(payload, 0, 24, 1), ETH_P_IP);
    expect([net.fragments.ipv4.size, other.fragments.ipv4.size]).toEqual([0, 1]);
  });

  it.each([
    ['an id that nobody has', 4],
    ['an id beyond the signed range', 0x1_0000_0000n],
  ])('refuses %s', (_, netns) => {
    const { run } = bench('bpf_ip_check_defrag', netns);
    expect(run(pieceIpv4(payload, 0, 24, 1), ETH_P_IP)).toMatchObject({
      verdict: TC_ACT_SHOT,
      code: -Errno.EINVAL,
    });
  });

  it('copies: the queue keeps nothing of the program’s packet', () => {
    const { host } = bench('bpf_ip_check_defrag');
    const call = (start: number, end: number, spoil: boolean) => {
      const frame = pieceIpv4(payload, start, end, 9);
      const result = bpfIpCheckDefrag(host, { frame, networkOffset: 0, protocol: ETH_P_IP }, -1n);
      if (spoil) frame.fill(0xff);
      return result;
    };
    call(0, 24, true);
    expect(call(24, 58, true).frame?.subarray(20)).toEqual(payload);
  });

  it('is refused to programs that run elsewhere', () => {
    const { machine } = bench('bpf_ip_check_defrag');
    expect(() =>
      machine.load(program('bpf_ip_check_defrag', CURRENT), { type: 'BPF_PROG_TYPE_CGROUP_SKB' }),
    ).toThrow(/not allowed/);
  });
});

describe('bpf_ipv6_frag_rcv', () => {
  it('reassembles, counts as the host does, and answers what it cannot use', () => {
    const { run, net, icmp } = bench('bpf_ipv6_frag_rcv');
    expect(run(pieceIpv6(payload, 24, 58, 1), ETH_P_IPV6)).toMatchObject({ code: -Errno.EINPROGRESS });
    const last = run(pieceIpv6(payload, 0, 24, 1), ETH_P_IPV6);
    expect(last.verdict).toBe(TC_ACT_OK);
    expect(last.frame.subarray(54)).toEqual(payload);
    expect(net.counters).toMatchObject({ Ip6ReasmReqds: 2, Ip6ReasmOKs: 1 });
    // Nine bytes with more to come: what the review objected to, an answer out of a program.
    expect(run(pieceIpv6(payload, 0, 9, 2), ETH_P_IPV6).verdict).toBe(TC_ACT_SHOT);
    expect(icmp).toHaveLength(1);
  });

  it('refuses what is not IPv6', () => {
    const { run } = bench('bpf_ipv6_frag_rcv');
    expect(run(pieceIpv4(payload, 0, 24, 1), ETH_P_IP).code).toBe(-Errno.EINVAL);
  });
});
