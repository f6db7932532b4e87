/** Reassembly by properties: order and duplicates do not matter, memory is bounded, time is kept, zones and users stay apart. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Errno,
  ETH_P_IP,
  ETH_P_IPV6,
  fragmentIpv4,
  fragmentIpv6,
  IpDefragUser,
  SkBuff,
} from '../../src/netstack/index.ts';
import {
  DEFRAG_MODELS,
  type DefragModel,
  datagramIpv4,
  datagramIpv6,
  defragNamespace,
  feed,
  pieceIpv4,
  pieceIpv6,
} from './defrag-models.ts';

const RUNS = process.env.SLUICE_SOAK ? 20_000 : 200;

/** Cut points of a payload: multiples of 8, ascending, 0 and the end included. */
const cuts = fc
  .tuple(
    fc.integer({ min: 2, max: 200 }),
    fc.integer({ min: 0, max: 7 }),
    fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
  )
  .map(([units, tail, steps]) => {
    const points = [0];
    while (points.at(-1)! < units * 8)
      points.push(Math.min(units * 8, points.at(-1)! + steps.next().value! * 8));
    if (points.length < 3) points.splice(1, 0, 8);
    points[points.length - 1]! += tail;
    return points;
  });

describe.each(DEFRAG_MODELS)('%s', (model) => {
  it('gives the original for every order of its fragments', () => {
    fc.assert(
      fc.property(cuts, fc.infiniteStream(fc.nat()), fc.nat(255), (points, choices, seed) => {
        const payload = Uint8Array.from({ length: points.at(-1)! }, (_, at) => (at * 7 + seed) & 0xff);
        const pieces = points.slice(1).map((end, index) => ({ start: points[index]!, end }));
        const { net } = defragNamespace();
        const whole = shuffle(pieces, choices).map(({ start, end }) =>
          deliver(model, net, payload, start, end),
        );
        expect(whole.slice(0, -1).every((result) => result === undefined)).toBe(true);
        expect(whole.at(-1)).toEqual(payload);
        expect(totalMemory(net)).toBe(0);
        expect(net.timers.size).toBe(0);
      }),
      { numRuns: RUNS },
    );
  });

  it('ignores what lies within one fragment that came before, whatever it says', () => {
    fc.assert(
      fc.property(cuts, fc.nat(), fc.boolean(), (points, chosen, first) => {
        const payload = Uint8Array.from({ length: points.at(-1)! }, (_, at) => at & 0xff);
        const pieces = points.slice(1).map((end, index) => ({ start: points[index]!, end }));
        const index = chosen % (pieces.length - 1);
        const { start, end } = pieces[index]!;
        const { net } = defragNamespace();
        const results: (Uint8Array | undefined)[] = [];
        for (const [at, piece] of pieces.entries()) {
          results.push(deliver(model, net, payload, piece.start, piece.end));
          if (at !== index) continue;
          const lie = new Uint8Array(payload.length).fill(0xee);
          const to = first ? Math.max(start + 8, end - 8) : end;
          expect(deliver(model, net, lie, start, to)).toBeUndefined();
        }
        expect(results.at(-1)).toEqual(payload);
      }),
      { numRuns: RUNS },
    );
  });

  it('stays within its memory whatever flood comes', () => {
    const { net } = defragNamespace();
    const directory = directoryOf(model, net);
    directory.configure({ lowThresh: 0, highThresh: 500_000 });
    const flows = process.env.SLUICE_SOAK ? 1_000_000 : 30_000;
    let largest = 0;
    let refused = 0;
    for (let flow = 0; flow < flows; flow++) {
      if (feed(model, net, halfDatagram(model, flow)).result === -Errno.ENOMEM || directory.memory > 500_000)
        refused++;
      largest = Math.max(largest, directory.memory);
    }
    // The check comes before the charge: one packet and its queue may go beyond.
    expect(largest).toBeLessThan(500_000 + 2_600);
    expect(refused).toBeGreaterThan(flows / 2);
    expect(directory.size).toBeLessThan(600);
    expect(net.timers.size).toBe(directory.size);
    expect(net.peers.size).toBeLessThanOrEqual(directory.size);
  });

  it('times out once, from its first fragment on, and frees everything', () => {
    const { net, clock, icmp } = defragNamespace();
    const directory = directoryOf(model, net);
    const { timeoutMs } = directory.limits;
    const payload = new Uint8Array(64);
    deliver(model, net, payload, 0, 16);
    clock.advance(timeoutMs - 1);
    net.runTimers();
    deliver(model, net, payload, 16, 32);
    expect(directory.size).toBe(1);
    clock.advance(1);
    net.runTimers();
    expect([directory.size, directory.memory, net.timers.size, net.peers.size]).toEqual([0, 0, 0, 0]);
    const prefix = model === 'ipv4' ? 'Ip' : 'Ip6';
    expect(net.counters[`${prefix}ReasmTimeout`]).toBe(1);
    expect(net.counters[`${prefix}ReasmFails`]).toBe(1);
    expect(icmp).toHaveLength(1);
    // Header(s) of the first fragment and its payload, as far as it was used.
    expect(icmp[0]!.packet.length).toBe(model === 'ipv4' ? 36 : 64);
  });

  it('does not answer a timeout without the first fragment, nor one whose device has gone', () => {
    for (const gone of [false, true]) {
      const { net, clock, icmp, device } = defragNamespace();
      deliver(model, net, new Uint8Array(64), gone ? 0 : 8, 16);
      if (gone) net.removeDevice(device);
      clock.advance(60_000);
      net.runTimers();
      expect(icmp).toHaveLength(0);
    }
  });

  it('is quick with as many fragments as a datagram can have, backwards', () => {
    const { net } = defragNamespace();
    directoryOf(model, net).configure({ highThresh: 64 << 20 });
    const units = model === 'ipv4' ? 8188 : 8190;
    const payload = Uint8Array.from({ length: units * 8 }, (_, at) => at & 0xff);
    let whole: Uint8Array | undefined;
    for (let unit = units - 1; unit >= 0; unit--)
      whole = deliver(model, net, payload, unit * 8, unit * 8 + 8);
    expect(whole).toEqual(payload);
  });

  it('takes nothing in once the namespace goes', () => {
    const { net } = defragNamespace();
    deliver(model, net, new Uint8Array(64), 0, 16);
    net.destroy();
    expect([totalMemory(net), net.timers.size]).toEqual([0, 0]);
    expect(deliver(model, net, new Uint8Array(64), 16, 64)).toBeUndefined();
    expect(totalMemory(net)).toBe(0);
  });

  it('refuses thresholds that contradict each other', () => {
    const { net } = defragNamespace();
    const directory = directoryOf(model, net);
    for (const change of [{ lowThresh: 5_000_000 }, { highThresh: 1000 }, { timeoutMs: -1 }])
      expect(() => directory.configure(change)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    directory.configure({ lowThresh: 0, highThresh: 0 });
    expect(deliver(model, net, new Uint8Array(64), 0, 16)).toBeUndefined();
    expect(directory.size).toBe(0);
  });
});

describe('IPv4 keys', () => {
  it.each([
    ['user', (skb: SkBuff) => skb, IpDefragUser.CONNTRACK_OUT],
    ['zone', (skb: SkBuff) => skb, IpDefragUser.CONNTRACK_IN + 1],
    [
      'VRF',
      (skb: SkBuff) => {
        skb.dev = { ...skb.dev!, l3mdevIfindex: 9 };
        return skb;
      },
      IpDefragUser.CONNTRACK_IN,
    ],
  ] as const)('keep fragments of another %s apart', (_, change, user) => {
    const { net, device } = defragNamespace();
    const payload = new Uint8Array(16);
    const first = new SkBuff(pieceIpv4(payload, 0, 8, 1), { protocol: ETH_P_IP, dev: device });
    const second = change(new SkBuff(pieceIpv4(payload, 8, 16, 1), { protocol: ETH_P_IP, dev: device }));
    expect(feed('ipv4', net, first, IpDefragUser.CONNTRACK_IN).result).toBe(-Errno.EINPROGRESS);
    expect(feed('ipv4', net, second, user).result).toBe(-Errno.EINPROGRESS);
    expect(net.fragments.ipv4.size).toBe(2);
  });

  it('allow 63 other fragments of the source in between, and begin anew after 64', () => {
    for (const [others, restarted] of [
      [63, false],
      [64, true],
    ] as const) {
      const { net } = defragNamespace();
      const payload = Uint8Array.from({ length: 24 }, (_, at) => at);
      deliver('ipv4', net, payload, 0, 8);
      for (let other = 0; other < others; other++) feed('ipv4', net, halfDatagram('ipv4', other + 100, true));
      deliver('ipv4', net, payload, 8, 16);
      expect(net.counters.IpReasmFails).toBe(restarted ? 1 : 0);
      expect(deliver('ipv4', net, payload, 16, 24)).toEqual(restarted ? undefined : payload);
    }
  });
});

describe('refragmentation', () => {
  it('sends a reassembled IPv4 datagram in the pieces it came in', () => {
    fc.assert(
      fc.property(cuts, fc.boolean(), (points, cloned) => {
        const payload = Uint8Array.from({ length: points.at(-1)! }, (_, at) => at & 0xff);
        const pieces = points.slice(1).map((end, index) => pieceIpv4(payload, points[index]!, end, 7));
        const { net, device } = defragNamespace();
        let whole: SkBuff | undefined;
        for (const piece of pieces) {
          const skb = new SkBuff(piece, { protocol: ETH_P_IP, dev: device });
          if (feed('ipv4', net, skb, IpDefragUser.CONNTRACK_IN).result === 0) whole = skb;
        }
        whole!.ignoreDf = true;
        whole!.cloned = cloned;
        const result = fragmentIpv4(whole!, 1500, net.counters);
        expect(result.kind).toBe('fragments');
        if (result.kind !== 'fragments') return;
        if (!cloned) expect(result.packets).toEqual(pieces);
        const again = defragNamespace();
        const back = result.packets.map((packet) => feedWhole('ipv4', again.net, packet));
        // A single piece is no fragment any more.
        if (result.packets.length > 1) expect(back.at(-1)).toEqual(payload);
        expect(Math.max(...result.packets.map(({ length }) => length))).toBeLessThanOrEqual(
          whole!.fragMaxSize,
        );
      }),
      { numRuns: RUNS },
    );
  });

  it('cuts any IPv6 datagram into pieces that give it again', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1300, max: 9000 }),
        fc.integer({ min: 1280, max: 4000 }),
        (length, mtu) => {
          const payload = Uint8Array.from({ length }, (_, at) => at & 0xff);
          const { net } = defragNamespace();
          const skb = new SkBuff(datagramIpv6(payload), { protocol: ETH_P_IPV6 });
          skb.ignoreDf = true;
          const result = fragmentIpv6(skb, mtu, 0x1234_5678, net.counters);
          if (result.kind !== 'fragments') throw new Error(result.kind);
          expect(result.packets.every((packet) => packet.length <= mtu)).toBe(true);
          expect(net.counters.Ip6FragCreates).toBe(result.packets.length);
          if (result.packets.length > 1)
            expect(result.packets.map((packet) => feedWhole('ipv6-host', net, packet)).at(-1)).toEqual(
              payload,
            );
        },
      ),
      { numRuns: RUNS },
    );
  });

  it('answers what may not be cut', () => {
    const { net } = defragNamespace();
    const whole = datagramIpv4(new Uint8Array(2000), 1);
    whole[6] = 0x40;
    const v4 = fragmentIpv4(new SkBuff(whole, { protocol: ETH_P_IP }), 1400, net.counters);
    expect(v4).toMatchObject({ kind: 'too-big', error: { type: 3, code: 4, info: 1400 } });
    const v6 = fragmentIpv6(
      new SkBuff(datagramIpv6(new Uint8Array(2000)), { protocol: ETH_P_IPV6 }),
      1400,
      1,
      net.counters,
    );
    expect(v6).toMatchObject({ kind: 'too-big', error: { type: 2, code: 0, info: 1400 } });
    expect([net.counters.IpFragFails, net.counters.Ip6FragFails]).toEqual([1, 1]);
  });

  it('blanks options that belong into the first fragment only', () => {
    const { net } = defragNamespace();
    // Record route (not copied), then loose source route (copied).
    const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0x83, 3, 4, 1, 0);
    const skb = new SkBuff(datagramIpv4(new Uint8Array(100), 1, options), { protocol: ETH_P_IP });
    const result = fragmentIpv4(skb, 72, net.counters);
    if (result.kind !== 'fragments') throw new Error(result.kind);
    const seen = result.packets.map((packet) => [...packet.subarray(20, 32)]);
    const blanked = [1, 1, 1, 1, 1, 1, 1, 0x83, 3, 4, 1, 0];
    expect(seen).toEqual([[...options], blanked, blanked]);
  });
});

function deliver(
  model: DefragModel,
  net: ReturnType<typeof defragNamespace>['net'],
  payload: Uint8Array,
  start: number,
  end: number,
): Uint8Array | undefined {
  const packet = model === 'ipv4' ? pieceIpv4(payload, start, end, 1) : pieceIpv6(payload, start, end, 1);
  return feedWhole(model, net, packet);
}

function feedWhole(
  model: DefragModel,
  net: ReturnType<typeof defragNamespace>['net'],
  packet: Uint8Array,
): Uint8Array | undefined {
  return feed(model, net, packet).payload;
}

function directoryOf(model: DefragModel, net: ReturnType<typeof defragNamespace>['net']) {
  const { ipv4, ipv6, netfilter6 } = net.fragments;
  return model === 'ipv4' ? ipv4 : model === 'ipv6-host' ? ipv6 : netfilter6;
}

function totalMemory(net: ReturnType<typeof defragNamespace>['net']): number {
  const { ipv4, ipv6, netfilter6 } = net.fragments;
  return ipv4.memory + ipv6.memory + netfilter6.memory;
}

/** The first half of a datagram of its own flow. */
function halfDatagram(model: DefragModel, flow: number, sameSource = false): Uint8Array {
  const payload = new Uint8Array(16);
  if (model !== 'ipv4') return pieceIpv6(payload, 0, 8, flow);
  const packet = pieceIpv4(payload, 0, 8, flow & 0xffff);
  if (!sameSource) packet.set([10, flow >> 16, (flow >> 8) & 0xff, flow & 0xff], 12);
  return packet;
}

function shuffle<T>(items: readonly T[], choices: Iterator<number>): T[] {
  const left = [...items];
  const out: T[] = [];
  while (left.length > 0) out.push(left.splice(choices.next().value % left.length, 1)[0]!);
  return out;
}
