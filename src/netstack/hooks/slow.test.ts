import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '../clock.ts';
import { NetworkNamespace } from '../netns.ts';
import { ETH_P_IP, SkBuff } from '../skb.ts';
import { NF_INET_LOCAL_IN, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 } from './family.ts';
import {
  NF_ACCEPT,
  NF_DROP,
  NF_QUEUE,
  NF_REPEAT,
  NF_STOLEN,
  NF_STOP,
  nfDropErr,
  nfQueueNr,
} from './verdict.ts';

/** A namespace whose LOCAL_IN hooks answer with given verdicts, and everything that happened. */
function scripted(verdicts: readonly number[]) {
  const events: string[] = [];
  const net = new NetworkNamespace(1n, new ManualClock(), {
    packetFreed: () => events.push('free'),
    warnVerdict: (verdict) => events.push(`warn ${verdict}`),
  });
  verdicts.forEach((verdict, index) => {
    net.netfilter.register({
      name: `${index}`,
      pf: NFPROTO_IPV4,
      hooknum: NF_INET_LOCAL_IN,
      priority: index,
      hook: () => {
        events.push(`call ${index}`);
        return verdict;
      },
    });
  });
  const skb = new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP });
  const run = (): number =>
    net.netfilter.run(NFPROTO_IPV4, NF_INET_LOCAL_IN, skb, {}, () => events.push('okfn'));
  return { net, events, run, skb };
}

/** What the rules of nf_hook_slow say of a list of verdicts, written as a fold; `listening` are the bound queues. */
function predict(
  verdicts: readonly number[],
  listening: readonly number[],
): { result: number; events: string[] } {
  const events: string[] = [];
  for (const [index, verdict] of verdicts.entries()) {
    events.push(`call ${index}`);
    const code = verdict % 256;
    const high = Math.floor(verdict / 65536);
    if (code === NF_ACCEPT) continue;
    if (code === NF_DROP) return { result: high === 0 ? -1 : -high, events: [...events, 'free'] };
    if (code === NF_STOLEN) return { result: 0 - high, events };
    if (code === NF_QUEUE) {
      if (listening.includes(high)) return { result: 0, events: [...events, `queued ${high}`] };
      if (Math.floor(verdict / 0x8000) % 2 === 1) continue;
      return { result: 0, events: [...events, 'free'] };
    }
    return { result: 0, events: [...events, `warn ${verdict}`] };
  }
  return { result: 1, events };
}

const verdict = fc.oneof(
  { weight: 6, arbitrary: fc.constant(NF_ACCEPT) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x7fff }).map(nfDropErr) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 133 }).map((errno) => errno * 65536 + NF_STOLEN) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 4 }), fc.boolean())
      .map(([queue, bypass]) => nfQueueNr(queue, bypass)),
  },
  { weight: 1, arbitrary: fc.constantFrom(NF_REPEAT, NF_STOP, 6, 255) },
);

describe('nf_hook_slow', () => {
  it('follows every script of verdicts', () => {
    fc.assert(
      fc.property(fc.array(verdict, { maxLength: 12 }), fc.subarray([0, 1, 2]), (verdicts, listening) => {
        const { net, events, run } = scripted(verdicts);
        for (const queue of listening) net.netfilter.queues.bind(queue, () => events.push(`queued ${queue}`));
        const result = run();
        expect({ result, events }).toEqual(predict(verdicts, listening));
      }),
      { numRuns: process.env.SLUICE_SOAK ? 100_000 : 500 },
    );
  });

  it('passes where no function is registered', () => {
    const { run } = scripted([]);
    expect(run()).toBe(1);
  });

  it('shifts a drop errno arithmetically: above 0x7fff it turns positive', () => {
    const { run } = scripted([(0xffff << 16) | NF_DROP]);
    expect(run()).toBe(1);
  });
});

describe('registration', () => {
  it('runs lower priorities first and the newcomer first among equals', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -3, max: 3 }), { maxLength: 30 }), (priorities) => {
        const net = new NetworkNamespace(1n, new ManualClock());
        const called: number[] = [];
        priorities.forEach((priority, index) => {
          net.netfilter.register({
            name: `${index}`,
            pf: NFPROTO_INET,
            hooknum: NF_INET_LOCAL_IN,
            priority,
            hook: () => {
              called.push(index);
              return NF_ACCEPT;
            },
          });
        });
        const expected = priorities
          .map((priority, index) => ({ priority, index }))
          .sort((a, b) => a.priority - b.priority || b.index - a.index)
          .map(({ index }) => index);
        for (const pf of [NFPROTO_IPV4, NFPROTO_IPV6]) {
          called.length = 0;
          net.netfilter.run(
            pf,
            NF_INET_LOCAL_IN,
            new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP }),
            {},
            () => {},
          );
          expect(called).toEqual(expected);
        }
      }),
    );
  });

  it('takes 1024 functions and no more', () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const register = (): void =>
      net.netfilter.register({ name: 'x', pf: NFPROTO_IPV4, hooknum: 0, priority: 0, hook: () => NF_ACCEPT });
    for (let count = 0; count < 1024; count++) register();
    expect(register).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    expect(net.netfilter.registry.entries(NFPROTO_IPV4, 0)).toHaveLength(1024);
  });

  it('registers nothing of family INET when one of both families refuses', () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const ops = { name: 'x', hooknum: 0, priority: 5, hook: () => NF_ACCEPT };
    net.netfilter.register({ ...ops, pf: NFPROTO_IPV6 });
    const both = { ...ops, pf: NFPROTO_INET, type: 'bpf' as const };
    expect(() => net.netfilter.register(both)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(net.netfilter.registry.entries(NFPROTO_IPV4, 0)).toHaveLength(0);
  });

  it('lets a packet finish along the list that it met', () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const called: string[] = [];
    const second = {
      name: 'second',
      pf: NFPROTO_IPV4,
      hooknum: 0,
      priority: 2,
      hook: (): number => {
        called.push('second');
        return NF_ACCEPT;
      },
    };
    net.netfilter.register({
      name: 'first',
      pf: NFPROTO_IPV4,
      hooknum: 0,
      priority: 1,
      hook: () => {
        net.netfilter.unregister(second);
        return NF_ACCEPT;
      },
    });
    net.netfilter.register(second);
    net.netfilter.run(NFPROTO_IPV4, 0, new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP }), {}, () => {});
    expect(called).toEqual(['second']);
    expect(() => net.netfilter.unregister(second)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it.each([
    ['a device of another namespace', { pf: 5, hooknum: 0, dev: device(9) }],
    ['no device for family NETDEV', { pf: 5, hooknum: 0 }],
    ['a hook that ARP lacks', { pf: 3, hooknum: 3 }],
    ['a family that is none', { pf: 12, hooknum: 0 }],
    ['a sixth hook', { pf: 2, hooknum: 5 }],
  ])('refuses %s with EINVAL', (_, place) => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const ops = { name: 'x', priority: 0, hook: () => NF_ACCEPT, ...place };
    expect(() => net.netfilter.register(ops)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('keeps the hooks of each device apart and forgets them with it', () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const [a, b] = [device(2), device(3)];
    net.addDevice(a);
    net.addDevice(b);
    net.netfilter.register({ name: 'x', pf: 5, hooknum: 0, dev: a, priority: 0, hook: () => NF_DROP });
    net.netfilter.register({ name: 'y', pf: 5, hooknum: 1, dev: a, priority: 0, hook: () => NF_STOLEN });
    const skb = new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP });
    expect(net.netfilter.ingress(skb, a, () => {})).toBe(-1);
    expect(net.netfilter.ingress(skb, b, () => {})).toBe(1);
    expect(net.netfilter.egress(skb, a, () => {})).toBe('consumed');
    net.removeDevice(a);
    expect(net.netfilter.ingress(skb, a, () => {})).toBe(1);
  });
});

function device(ifindex: number) {
  return { ifindex, name: `d${ifindex}`, loopback: false, l3mdevIfindex: 0, mtu: 1500 };
}
