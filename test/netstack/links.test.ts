/** Links of the netstack refuse what the kernel refuses, in its order; test/kernel/links-live.test.ts compares both. */
import { describe, expect, it } from 'vitest';
import {
  AttachType,
  attachNetfilter,
  BPF_F_AFTER,
  BPF_F_BEFORE,
  ETH_P_IP,
  ManualClock,
  type NetfilterAttach,
  type NetfilterProgram,
  NetworkNamespace,
  NF_ACCEPT,
  NF_DROP,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  ProgramType,
  SkBuff,
  TcxHooks,
  XdpHooks,
} from '../../src/netstack/index.ts';
import { pieceIpv4 } from './defrag-models.ts';

let nextId = 1;
const netfilterProgram = (run: NetfilterProgram['run'] = () => NF_ACCEPT): NetfilterProgram => ({
  id: nextId++,
  name: 'test',
  type: ProgramType.NETFILTER,
  run,
});
const program = (type: number) => ({ id: nextId++, name: 'test', type });
const eth0 = { ifindex: 2, name: 'eth0', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
const code = (use: () => unknown): string => {
  try {
    use();
    return 'ok';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('netfilter links', () => {
  const namespace = () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    net.addDevice(eth0);
    return net;
  };
  const place: NetfilterAttach = { pf: 2, hooknum: 0, priority: 1 };

  it('pin defragmentation for their life, each family by itself', () => {
    const net = namespace();
    const links = [
      attachNetfilter(net, netfilterProgram(), { ...place, flags: 1 }),
      attachNetfilter(net, netfilterProgram(), { ...place, priority: 2, flags: 1 }),
      attachNetfilter(net, netfilterProgram(), { ...place, pf: 10, flags: 1 }),
    ];
    expect([net.defrag.users('ipv4'), net.defrag.users('ipv6')]).toEqual([2, 1]);
    links[0]!.detach();
    links[0]!.detach();
    expect(net.netfilter.registry.entries(NFPROTO_IPV4, 3)).toHaveLength(1);
    links[1]!.detach();
    expect([net.defrag.users('ipv4'), net.defrag.users('ipv6')]).toEqual([0, 1]);
    expect(net.netfilter.registry.entries(NFPROTO_IPV4, 3)).toHaveLength(0);
  });

  it('show programs whole packets only', () => {
    const net = namespace();
    const seen: number[] = [];
    attachNetfilter(
      net,
      netfilterProgram((_state, skb) => {
        seen.push(skb.length);
        return NF_DROP;
      }),
      { ...place, flags: 1 },
    );
    const payload = new Uint8Array(58);
    const results = [0, 24, 48].map((start) => {
      const skb = new SkBuff(pieceIpv4(payload, start, Math.min(58, start + 24), 1), {
        protocol: ETH_P_IP,
        dev: eth0,
      });
      return net.netfilter.run(NFPROTO_IPV4, NF_INET_PRE_ROUTING, skb, { in: eth0 }, () => {});
    });
    expect(results).toEqual([0, 0, -1]);
    expect(seen).toEqual([78]);
  });

  it('leave nothing behind when they are refused', () => {
    const net = namespace();
    attachNetfilter(net, netfilterProgram(), place);
    expect(code(() => attachNetfilter(net, netfilterProgram(), { ...place, flags: 1 }))).toBe('EBUSY');
    expect(net.defrag.users('ipv4')).toBe(0);
    expect(net.netfilter.registry.entries(NFPROTO_IPV4, 0)).toHaveLength(1);
    // The other way round a hook function may share a program's priority.
    net.netfilter.register({ name: 'x', pf: 2, hooknum: 0, priority: 1, hook: () => NF_ACCEPT });
    expect(code(() => attachNetfilter(net, netfilterProgram(), place).update())).toBe('EBUSY');
    expect(code(() => attachNetfilter(net, netfilterProgram(), { ...place, priority: 9 }).update())).toBe(
      'EOPNOTSUPP',
    );
  });

  it('end where the hook list ends', () => {
    const net = namespace();
    for (let priority = 1; priority <= 1024; priority++)
      attachNetfilter(net, netfilterProgram(), { ...place, priority });
    expect(code(() => attachNetfilter(net, netfilterProgram(), { ...place, priority: 2000 }))).toBe('E2BIG');
  });
});

describe('tcx links', () => {
  const { TCX_INGRESS, TCX_EGRESS } = AttachType;
  const hooks = () => new TcxHooks((ifindex) => (ifindex === 2 ? eth0 : undefined));
  const classifier = () => program(ProgramType.SCHED_CLS);

  it('are ordered by before and after, and count their revisions', () => {
    const tcx = hooks();
    const at = { ifindex: 2, attachType: TCX_INGRESS };
    const a = tcx.attach(classifier(), at);
    const b = tcx.attach(classifier(), at);
    const c = tcx.attach(classifier(), { ...at, flags: BPF_F_BEFORE, relative: b });
    const d = tcx.attach(classifier(), { ...at, flags: BPF_F_BEFORE });
    const e = tcx.attach(classifier(), { ...at, flags: BPF_F_AFTER, relative: a.program });
    const f = tcx.attach(classifier(), { ...at, flags: BPF_F_AFTER, expectedRevision: 6n });
    expect(tcx.query(2, TCX_INGRESS)).toMatchObject({ links: [d, a, e, c, b, f], revision: 7n });
    e.detach();
    expect(tcx.query(2, TCX_INGRESS)).toMatchObject({ links: [d, a, c, b, f], revision: 8n });
    a.update(classifier());
    expect(tcx.query(2, TCX_INGRESS).revision).toBe(9n);
    expect(tcx.query(2, TCX_EGRESS)).toEqual({ links: [], revision: 1n });
  });

  it('are refused as bpf_mprog_attach refuses', () => {
    const tcx = hooks();
    const at = { ifindex: 2, attachType: TCX_INGRESS };
    const first = classifier();
    const link = tcx.attach(first, at);
    expect(code(() => tcx.attach(first, at))).toBe('EEXIST');
    expect(code(() => tcx.attach(classifier(), { ...at, ifindex: 9 }))).toBe('ENODEV');
    expect(code(() => tcx.attach(classifier(), { ...at, expectedRevision: 1n }))).toBe('ESTALE');
    // A wrong revision comes before everything that the list could say.
    expect(code(() => tcx.attach(first, { ...at, expectedRevision: 1n }))).toBe('ESTALE');
    expect(code(() => tcx.attach(classifier(), { ...at, flags: BPF_F_BEFORE, relative: classifier() }))).toBe(
      'ENOENT',
    );
    expect(code(() => tcx.attach(classifier(), { ...at, flags: BPF_F_BEFORE | BPF_F_AFTER }))).toBe('ERANGE');
    expect(code(() => tcx.attach(classifier(), { ...at, flags: 32 }))).toBe('EINVAL');
    expect(code(() => tcx.attach(program(ProgramType.XDP), at))).toBe('EINVAL');
    for (let count = 1; count < 64; count++) tcx.attach(classifier(), at);
    expect(code(() => tcx.attach(classifier(), at))).toBe('ERANGE');
    link.detach();
    expect(code(() => link.update(classifier()))).toBe('ENODEV');
  });
});

describe('xdp links', () => {
  it('are one for each device, in one mode', () => {
    const xdp = new XdpHooks((ifindex) => (ifindex === 2 ? eth0 : undefined));
    const one = program(ProgramType.XDP);
    const attach = (flags?: number, ifindex = 2): string =>
      code(() =>
        xdp.attach(program(ProgramType.XDP), { ifindex, ...(flags === undefined ? {} : { flags }) }).detach(),
      );
    expect([undefined, 2, 4, 8, 6, 1, 16].map((flags) => attach(flags))).toEqual([
      'ok',
      'ok',
      'ok',
      'EINVAL',
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
    expect(attach(0, 9)).toBe('EINVAL');
    expect(code(() => xdp.attach(program(ProgramType.SCHED_CLS), { ifindex: 2 }))).toBe('EINVAL');
    const link = xdp.attach(one, { ifindex: 2, flags: 4 });
    expect([attach(), attach(4), attach(2)]).toEqual(['EBUSY', 'EBUSY', 'EEXIST']);
    link.update(program(ProgramType.XDP));
    link.detach();
    link.detach();
    expect(attach(2)).toBe('ok');
    expect(code(() => link.update(one))).toBe('ENODEV');
  });
});
