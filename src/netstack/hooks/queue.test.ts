import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '../clock.ts';
import { NetworkNamespace } from '../netns.ts';
import { ETH_P_ARP, ETH_P_IP, SkBuff } from '../skb.ts';
import { NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, NFPROTO_ARP, NFPROTO_IPV4 } from './family.ts';
import type { QueuedPacket } from './nfqueue.ts';
import { NF_ACCEPT, NF_DROP, NF_QUEUE, NF_REPEAT, NF_STOLEN, NF_STOP, nfQueueNr } from './verdict.ts';

function bench(hook: number = NF_INET_PRE_ROUTING, pf: number = NFPROTO_IPV4) {
  const events: string[] = [];
  let route = 0;
  const net = new NetworkNamespace(1n, new ManualClock(), {
    packetFreed: () => events.push('free'),
    reroute: () => {
      events.push('reroute');
      return route;
    },
  });
  const add = (name: string, priority: number, ...verdicts: number[]): void =>
    net.netfilter.register({
      name,
      pf,
      hooknum: hook,
      priority,
      hook: () => {
        events.push(name);
        return verdicts.length > 1 ? verdicts.shift()! : verdicts[0]!;
      },
    });
  const packets: QueuedPacket[] = [];
  const send = (): number =>
    net.netfilter.pass(
      pf,
      hook,
      new SkBuff(new Uint8Array(20).fill(1), { protocol: pf === NFPROTO_ARP ? ETH_P_ARP : ETH_P_IP }),
      {},
      () => events.push('okfn'),
    );
  return {
    net,
    events,
    add,
    packets,
    send,
    queues: net.netfilter.queues,
    listen: (number: number, options = {}) =>
      net.netfilter.queues.bind(number, (packet) => packets.push(packet), options),
    refuseRoute: () => {
      route = -113;
    },
  };
}

describe('reinjection', () => {
  it.each([
    ['ACCEPT goes on behind the hook that queued', NF_ACCEPT, ['before', 'queue', 'after', 'okfn']],
    ['REPEAT calls that hook again', NF_REPEAT, ['before', 'queue', 'queue', 'after', 'okfn']],
    ['STOP skips the rest', NF_STOP, ['before', 'queue', 'okfn']],
    ['STOLEN does nothing more', NF_STOLEN, ['before', 'queue']],
    ['DROP frees', NF_DROP, ['before', 'queue', 'free']],
    ['nonsense frees', 99, ['before', 'queue', 'free']],
  ])('%s', (_, verdict, expected) => {
    const { events, add, send, listen, queues } = bench();
    add('before', 1, NF_ACCEPT);
    add('queue', 2, nfQueueNr(7), NF_ACCEPT);
    add('after', 3, NF_ACCEPT);
    listen(7);
    expect(send()).toBe(0);
    queues.verdict(7, 1, verdict);
    expect(events).toEqual(expected);
  });

  it('may move a packet to another queue, and on from there', () => {
    const { events, add, send, listen, queues } = bench();
    add('one', 1, nfQueueNr(1));
    add('two', 2, NF_ACCEPT);
    listen(1);
    listen(2);
    send();
    queues.verdict(1, 1, nfQueueNr(2));
    expect(queues.status(2).waiting).toBe(1);
    queues.verdict(2, 1, NF_ACCEPT);
    expect(events).toEqual(['one', 'two', 'okfn']);
  });

  it('goes on past a queue that nobody listens on, when the verdict bypasses', () => {
    const { events, add, send, listen, queues } = bench();
    add('one', 1, nfQueueNr(1));
    add('two', 2, nfQueueNr(9, true));
    add('three', 3, NF_ACCEPT);
    listen(1);
    send();
    queues.verdict(1, 1, NF_ACCEPT);
    expect(events).toEqual(['one', 'two', 'three', 'okfn']);
  });

  it('repeats a hook that asks for it', () => {
    const { events, add, send, listen, queues } = bench();
    add('one', 1, nfQueueNr(1));
    add('again', 2, NF_REPEAT, NF_REPEAT, NF_ACCEPT);
    listen(1);
    send();
    queues.verdict(1, 1, NF_ACCEPT);
    expect(events).toEqual(['one', 'again', 'again', 'again', 'okfn']);
  });

  it.each([true, false])(
    'routes anew what user space changed at LOCAL_OUT; no route drops: %s',
    (refused) => {
      const { events, add, send, listen, queues, refuseRoute } = bench(NF_INET_LOCAL_OUT);
      add('one', 1, nfQueueNr(1));
      listen(1);
      send();
      send();
      if (refused) refuseRoute();
      queues.verdict(1, 1, NF_ACCEPT);
      queues.verdict(1, 2, NF_ACCEPT, { mark: 5 });
      expect(events).toEqual(['one', 'one', 'okfn', 'reroute', refused ? 'free' : 'okfn']);
    },
  );

  it('cannot find its way back into families without a list to look at', () => {
    const { events, add, send, listen, queues } = bench(0, NFPROTO_ARP);
    add('one', 1, nfQueueNr(1));
    listen(1);
    send();
    queues.verdict(1, 1, NF_ACCEPT);
    expect(events).toEqual(['one', 'free']);
  });
});

describe('queues', () => {
  it('give every packet one verdict, in whatever order they come', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.infiniteStream(fc.nat()), (count, choices) => {
        const { events, add, send, listen, queues, packets } = bench();
        add('one', 1, NF_QUEUE);
        listen(0);
        for (let sent = 0; sent < count; sent++) send();
        const ids = packets.map(({ id }) => id);
        while (ids.length > 0) {
          const [id] = ids.splice(choices.next().value! % ids.length, 1);
          queues.verdict(0, id!, id! % 2 === 0 ? NF_ACCEPT : NF_DROP);
          expect(() => queues.verdict(0, id!, NF_ACCEPT)).toThrow(
            expect.objectContaining({ code: 'ENOENT' }),
          );
        }
        expect(events.filter((event) => event === 'okfn')).toHaveLength(Math.floor(count / 2));
        expect(events.filter((event) => event === 'free')).toHaveLength(Math.ceil(count / 2));
      }),
    );
  });

  it('drop what they cannot hold, or let it pass when told to', () => {
    for (const failOpen of [false, true]) {
      const { events, add, send, listen, queues } = bench();
      add('one', 1, nfQueueNr(3, true));
      listen(3, { maxLength: 2, failOpen });
      for (let sent = 0; sent < 5; sent++) send();
      expect(queues.status(3)).toEqual({ waiting: 2, dropped: failOpen ? 0 : 3 });
      expect(events.filter((event) => event === (failOpen ? 'okfn' : 'free'))).toHaveLength(3);
    }
  });

  it('drop what waits when the listener leaves or any hook goes', () => {
    const { net, events, add, send, listen, queues } = bench();
    add('one', 1, nfQueueNr(1));
    listen(1);
    send();
    queues.unbind(1);
    expect(events).toEqual(['one', 'free']);
    listen(1);
    send();
    const other = { name: 'other', pf: NFPROTO_IPV4, hooknum: 4, priority: 0, hook: () => NF_ACCEPT };
    net.netfilter.register(other);
    expect(queues.status(1).waiting).toBe(1);
    net.netfilter.unregister(other);
    expect(queues.status(1).waiting).toBe(0);
    expect(events).toEqual(['one', 'free', 'one', 'free']);
  });

  it('decide on many packets at once', () => {
    const { events, add, send, listen, queues } = bench();
    add('one', 1, nfQueueNr(1));
    listen(1);
    for (let sent = 0; sent < 4; sent++) send();
    queues.batchVerdict(1, 3, NF_ACCEPT);
    expect(queues.status(1).waiting).toBe(1);
    expect(events.filter((event) => event === 'okfn')).toHaveLength(3);
    expect(() => queues.batchVerdict(1, 3, NF_ACCEPT)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('have one listener each and a number of 16 bits', () => {
    const { listen, queues } = bench();
    listen(0);
    expect(() => listen(0)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(() => listen(65536)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => queues.unbind(5)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });

  it('drop without a handler, unless bypassed', () => {
    const { net, events, add, send } = bench();
    net.netfilter.setQueueHandler(undefined);
    add('one', 1, nfQueueNr(1, true), nfQueueNr(1));
    send();
    send();
    expect(events).toEqual(['one', 'okfn', 'one', 'free']);
  });
});

describe('handlers that vanish, flood and answer out of order', () => {
  /** What user space and the host may do next; numbers choose among what is there. */
  const action = fc.oneof(
    { weight: 6, arbitrary: fc.constant({ kind: 'send' as const }) },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant('verdict' as const), which: fc.nat(), verdict: fc.nat(5) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('batch' as const), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'vanish' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'listen' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'unregister' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'stale' as const }) },
  );
  const QUEUE = 5;
  const ROOM = 3;

  it('end every packet once, hold no more than there is room for, and leave none behind', () => {
    const property = fc.property(
      fc.array(action, { maxLength: 80 }),
      fc.boolean(),
      fc.boolean(),
      (actions, bypass, failOpen) => {
        const { net, events, add, send, queues, packets } = bench();
        add('asks', 1, nfQueueNr(QUEUE, bypass));
        let waiting: number[] = [];
        let listening = false;
        let [passed, freed, stolen] = [0, 0, 0];
        for (const step of actions) {
          switch (step.kind) {
            case 'send':
              packets.length = 0;
              send();
              if (!listening) bypass ? passed++ : freed++;
              else if (waiting.length < ROOM) waiting.push(packets.at(-1)!.id);
              else failOpen ? passed++ : freed++;
              break;
            case 'verdict': {
              if (waiting.length === 0) break;
              const [id] = waiting.splice(step.which % waiting.length, 1);
              queues.verdict(QUEUE, id!, step.verdict);
              if (step.verdict === NF_DROP) freed++;
              else if (step.verdict === NF_STOLEN) stolen++;
              else if (step.verdict === NF_ACCEPT || step.verdict === NF_STOP) passed++;
              // To queue 0, where nobody listens; or to the hook once more, which queues it anew.
              else if (step.verdict === NF_QUEUE) freed++;
              else waiting.push(packets.at(-1)!.id);
              break;
            }
            case 'batch': {
              if (waiting.length === 0) break;
              const highest = waiting[step.which % waiting.length]!;
              queues.batchVerdict(QUEUE, highest, NF_ACCEPT);
              passed += waiting.filter((id) => id <= highest).length;
              waiting = waiting.filter((id) => id > highest);
              break;
            }
            case 'vanish':
              if (!listening) break;
              queues.unbind(QUEUE);
              listening = false;
              freed += waiting.length;
              waiting = [];
              break;
            case 'listen':
              if (listening) break;
              queues.bind(QUEUE, (packet) => packets.push(packet), { maxLength: ROOM, failOpen });
              listening = true;
              break;
            case 'unregister': {
              const other = {
                name: 'other',
                pf: NFPROTO_IPV4,
                hooknum: 4,
                priority: 0,
                hook: () => NF_ACCEPT,
              };
              net.netfilter.register(other);
              net.netfilter.unregister(other);
              freed += waiting.length;
              waiting = [];
              break;
            }
            case 'stale':
              expect(() => queues.verdict(QUEUE, 1_000_000, NF_ACCEPT)).toThrow(
                expect.objectContaining({ code: listening ? 'ENOENT' : 'ENODEV' }),
              );
              break;
          }
          const count = (what: string): number => events.filter((event) => event === what).length;
          expect([count('okfn'), count('free')]).toEqual([passed, freed]);
          if (listening) expect(queues.status(QUEUE).waiting).toBe(waiting.length);
        }
        const sent = actions.filter(({ kind }) => kind === 'send').length;
        expect(passed + freed + stolen + waiting.length).toBe(sent);
      },
    );
    fc.assert(property, { numRuns: process.env.SLUICE_SOAK === '1' ? 20_000 : 300 });
  });
});
