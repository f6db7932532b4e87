/** Generated hook programs do what nf_hook_slow does, are as long as the series says, and are shared. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachNetfilter,
  ETH_P_IP,
  GeneratedHooks,
  generateFallbackProgram,
  generateHookProgram,
  type HookFunction,
  HookProgramCache,
  hookProgramLength,
  MachineHookEngine,
  ManualClock,
  type NetfilterProgram,
  NetworkNamespace,
  NF_ACCEPT,
  NF_DROP,
  NF_QUEUE,
  NF_STOLEN,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  type NfHookOps,
  nfDropErr,
  nfQueueNr,
  ProgramType,
  SkBuff,
} from '../../src/netstack/index.ts';
import { HookMachine } from './hook-machine.ts';

/** Hook functions that answer what their argument, or a script, says. */
interface ScriptedHook {
  readonly verdict: number;
  readonly withPriv: boolean;
}

function namespaceOf(hooks: readonly ScriptedHook[], listening: readonly number[], cache?: HookProgramCache) {
  const events: string[] = [];
  const net = new NetworkNamespace(1n, new ManualClock(), { packetFreed: () => events.push('free') });
  if (cache !== undefined)
    new GeneratedHooks(net, net.netfilter, cache, (error) => {
      throw error;
    });
  hooks.forEach(({ verdict, withPriv }, index) => {
    net.netfilter.register({
      name: `${index}`,
      pf: NFPROTO_IPV4,
      hooknum: 0,
      priority: index,
      ...(withPriv ? { priv: { verdict, index } } : {}),
      hook: (priv, skb) => {
        const own = withPriv ? (priv as { verdict: number; index: number }) : { verdict, index };
        events.push(`call ${own.index} ${skb.mark}`);
        return own.verdict;
      },
    });
  });
  for (const queue of listening) net.netfilter.queues.bind(queue, () => events.push(`queued ${queue}`));
  const skb = new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP, mark: 7 });
  const result = net.netfilter.run(NFPROTO_IPV4, 0, skb, {}, () => events.push('okfn'));
  return { result, events };
}

// Verdicts that a hook may return; the program takes any other for a queue, and never carries an errno with STOLEN.
const legalVerdict = fc.oneof(
  { weight: 8, arbitrary: fc.constant(NF_ACCEPT) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x7fff }).map(nfDropErr) },
  { weight: 1, arbitrary: fc.constant(NF_STOLEN) },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.integer({ min: 0, max: 3 }), fc.boolean()).map(([q, b]) => nfQueueNr(q, b)),
  },
);
const hooks = fc.array(fc.record({ verdict: legalVerdict, withPriv: fc.boolean() }), {
  minLength: 1,
  maxLength: 40,
});

describe('generated programs', () => {
  it('give the results, calls, arguments and queueing of the interpreter', () => {
    const machine = new HookMachine();
    fc.assert(
      fc.property(hooks, fc.subarray([0, 1]), (list, listening) => {
        const cache = new HookProgramCache(machine);
        expect(namespaceOf(list, listening, cache)).toEqual(namespaceOf(list, listening));
      }),
      { numRuns: process.env.SLUICE_SOAK ? 20_000 : 300 },
    );
    expect(machine.runs).toBeGreaterThan(100);
  });

  it('do so on the virtual machine too, one hook calling into hooks again included', () => {
    const engine = new MachineHookEngine();
    fc.assert(
      fc.property(hooks, fc.subarray([0, 1]), (list, listening) => {
        const cache = new HookProgramCache(engine);
        expect(namespaceOf(list, listening, cache)).toEqual(namespaceOf(list, listening));
      }),
      { numRuns: process.env.SLUICE_SOAK ? 20_000 : 300 },
    );
    const cache = new HookProgramCache(engine);
    const net = new NetworkNamespace(1n, new ManualClock());
    new GeneratedHooks(net, net.netfilter, cache, (error) => {
      throw error;
    });
    const place = { name: 'x', pf: NFPROTO_IPV4, priority: 0 };
    net.netfilter.register({ ...place, hooknum: 1, hook: () => nfDropErr(5) });
    const inner: number[] = [];
    net.netfilter.register({
      ...place,
      hooknum: 0,
      hook: (_priv, skb) => {
        inner.push(net.netfilter.run(NFPROTO_IPV4, 1, skb, {}, () => {}));
        return NF_ACCEPT;
      },
    });
    const skb = new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP });
    expect(net.netfilter.run(NFPROTO_IPV4, 0, skb, {}, () => {})).toBe(1);
    expect(inner).toEqual([-5]);
  });

  it('have 36 + 4N - 2 + 2P instructions', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }), (arguments_) => {
        const list = arguments_.map((hasPriv, index) => ({ callee: `hook${index}`, hasPriv }));
        const withPriv = arguments_.filter(Boolean).length;
        expect(generateHookProgram(list).instructions).toHaveLength(hookProgramLength(list.length, withPriv));
        expect(hookProgramLength(list.length, withPriv)).toBe(36 + 4 * list.length - 2 + 2 * withPriv);
      }),
    );
  });

  it('reach their way out from any hook of the longest list', () => {
    const list = Array.from({ length: 1024 }, (_, index) => ({ callee: `hook${index}`, hasPriv: true }));
    expect(generateHookProgram(list).instructions.length).toBe(hookProgramLength(1024, 1024));
  });

  it('fall back to the interpreter as a whole', () => {
    const calls = [...generateFallbackProgram().references.values()];
    expect(calls).toEqual([{ kind: 'kfunc', name: 'nf_hook_slow' }]);
  });
});

describe('the program cache', () => {
  const functions: readonly HookFunction[] = [
    () => NF_ACCEPT,
    () => NF_ACCEPT,
    () => NF_DROP,
    () => NF_QUEUE,
  ];
  const ops = (index: number, priority: number, priv?: unknown): NfHookOps => ({
    name: `${index}`,
    pf: NFPROTO_IPV4,
    hooknum: 0,
    priority,
    hook: functions[index % functions.length]!,
    ...(priv === undefined ? {} : { priv }),
  });
  const generated = (cache: HookProgramCache): NetworkNamespace => {
    const net = new NetworkNamespace(1n, new ManualClock());
    new GeneratedHooks(net, net.netfilter, cache, (error) => {
      throw error;
    });
    return net;
  };

  it('has ten namespaces with the same hooks at five places share five programs', () => {
    const machine = new HookMachine();
    const cache = new HookProgramCache(machine);
    const filter: HookFunction = () => NF_ACCEPT;
    const conntrack: HookFunction[] = Array.from({ length: 5 }, () => () => NF_ACCEPT);
    const spaces = Array.from({ length: 10 }, () => {
      const net = generated(cache);
      for (let hooknum = 0; hooknum < 5; hooknum++) {
        net.netfilter.register({
          name: 'ct',
          pf: NFPROTO_IPV4,
          hooknum,
          priority: -200,
          hook: conntrack[hooknum]!,
        });
        net.netfilter.register({
          name: 'filter',
          pf: NFPROTO_IPV4,
          hooknum,
          priority: 0,
          hook: filter,
          priv: {},
        });
      }
      return net;
    });
    expect([cache.size, machine.loaded]).toEqual([5, 5]);
    for (const net of spaces)
      for (let hooknum = 0; hooknum < 5; hooknum++)
        for (const entry of net.netfilter.registry.entries(NFPROTO_IPV4, hooknum))
          net.netfilter.unregister(entry);
    expect([cache.size, machine.loaded]).toEqual([0, 0]);
  });

  it('shares between namespaces whose arguments differ, and runs each with its own', () => {
    const cache = new HookProgramCache(new HookMachine());
    const program = (id: number, verdict: number): NetfilterProgram => ({
      id,
      name: `p${id}`,
      type: ProgramType.NETFILTER,
      run: () => verdict,
    });
    const [a, b] = [generated(cache), generated(cache)];
    attachNetfilter(a, program(1, NF_ACCEPT), { pf: 2, hooknum: 0, priority: 1, flags: 1 });
    attachNetfilter(b, program(2, NF_DROP), { pf: 2, hooknum: 0, priority: 1, flags: 1 });
    const run = (net: NetworkNamespace): number =>
      net.netfilter.run(
        NFPROTO_IPV4,
        0,
        new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP }),
        {},
        () => {},
      );
    expect([run(a), run(b)]).toEqual([1, -1]);
    // Reassembly and the program at PRE_ROUTING, reassembly alone at LOCAL_OUT.
    expect(cache.size).toBe(2);
  });

  it('tells lists apart by function, order and whether there is an argument', () => {
    const cache = new HookProgramCache(new HookMachine());
    const lists = [
      [ops(0, 0)],
      [ops(1, 0)],
      [ops(0, 0), ops(1, 0)],
      [ops(1, 0), ops(0, 0)],
      [ops(0, 0, 'x')],
    ];
    const programs = lists.map((list) => cache.acquire(list));
    expect(new Set(programs).size).toBe(lists.length);
    expect(cache.acquire([ops(0, 5)])).toBe(programs[0]);
    expect(cache.acquire([ops(0, 5, 'y')])).toBe(programs[4]);
  });

  it('does not share lists of 64 functions and more', () => {
    const cache = new HookProgramCache(new HookMachine());
    const list = (length: number): NfHookOps[] => Array.from({ length }, (_, index) => ops(index, index));
    expect(cache.acquire(list(63))).toBe(cache.acquire(list(63)));
    expect(cache.acquire(list(64))).not.toBe(cache.acquire(list(64)));
    expect(cache.size).toBe(3);
  });

  it('refuses to be given back more than it lent', () => {
    const cache = new HookProgramCache(new HookMachine());
    const program = cache.acquire([ops(0, 0)]);
    cache.release(program);
    expect(() => cache.release(program)).toThrow(RangeError);
  });

  it('compiles nothing more for a namespace that goes, and runs it all the same', () => {
    const machine = new HookMachine();
    const cache = new HookProgramCache(machine);
    const net = generated(cache);
    const list = [ops(0, 0), ops(1, 1), ops(2, 2)];
    for (const entry of list) net.netfilter.register(entry);
    net.destroy();
    net.netfilter.unregister(list[0]!);
    expect([cache.size, machine.loaded]).toEqual([0, 0]);
    const skb = new SkBuff(new Uint8Array(20), { protocol: ETH_P_IP });
    expect(net.netfilter.run(NFPROTO_IPV4, 0, skb, {}, () => {})).toBe(-1);
    expect(machine.runs).toBe(0);
  });

  it('interprets a list that the engine refuses, and says so', () => {
    const net = new NetworkNamespace(1n, new ManualClock());
    const refused: unknown[] = [];
    const engine = {
      load: () => {
        throw new Error('no memory');
      },
    };
    new GeneratedHooks(net, net.netfilter, new HookProgramCache(engine), (error) => refused.push(error));
    net.netfilter.register({ ...ops(2, 0), pf: NFPROTO_IPV6 });
    const skb = new SkBuff(new Uint8Array(40), { protocol: ETH_P_IP });
    expect(net.netfilter.run(NFPROTO_IPV6, 0, skb, {}, () => {})).toBe(-1);
    expect(refused).toHaveLength(1);
  });
});
