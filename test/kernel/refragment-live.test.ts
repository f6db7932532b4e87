/** What was reassembled for a netfilter link leaves a router as it came, or cut anew: this kernel's bytes and the netstack's. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { attachNetfilter, NetfilterHook } from '../../src/kernel/index.ts';
import {
  ETH_P_IP,
  ETH_P_IPV6,
  fragmentIpv4,
  fragmentIpv6,
  ipv4ExceedsMtu,
  ipv4NeedsFragmentation,
  ipv6ExceedsMtu,
  ipv6NeedsFragmentation,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  SkBuff,
} from '../../src/netstack/index.ts';
import { internetChecksum } from '../../src/wire/index.ts';
import { defragNamespace, pieceIpv4, pieceIpv6 } from '../netstack/defrag-models.ts';
import { describeKernel } from '../support/kernel.ts';
import { withNamespaces } from '../support/netns.ts';
import { CountingProgram } from '../support/program.ts';
import { Tap } from '../support/tap.ts';

const RUNS = process.env.SLUICE_SOAK ? 5_000 : 80;
const SOURCE_IPV6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const TARGET_IPV6 = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/** Cut points, which fragments have DF, and the order in which they come. */
const trains = fc
  .tuple(
    fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 2, maxLength: 6 }),
    fc.integer({ min: 0, max: 7 }),
    fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
  )
  .chain(([units, tail, df]) => {
    let at = 0;
    const pieces = units.map((length, index) => {
      const start = at;
      at += length * 8 + (index === units.length - 1 ? tail : 0);
      return { start, end: at, df: df[index]! };
    });
    return fc.tuple(fc.constant(at), fc.shuffledSubarray(pieces, { minLength: pieces.length }));
  });

describeKernel('refragmentation on a router', () => {
  let accept: CountingProgram;
  beforeAll(() => {
    accept = new CountingProgram('BPF_PROG_TYPE_NETFILTER', 1);
  });
  afterAll(() => accept?.close());

  test.for([
    ['ipv4', 1500],
    ['ipv4', 576],
    ['ipv6', 1500],
    ['ipv6', 1280],
  ] as const)('%s, out by a link of %d bytes', ([family, mtu]) =>
    withNamespaces(['r'], ({ r }) => {
      const input = Tap.open(r, 'in0', '192.0.2.1/24', '2001:db8::1/64');
      const output = Tap.open(r, 'out0', '198.51.100.1/24', '2001:db8:1::1/64');
      r.sysctl('net/ipv4/ip_forward', 1);
      r.sysctl('net/ipv6/conf/all/forwarding', 1);
      r.sysctl('net/ipv4/icmp_ratelimit', 0);
      r.sysctl('net/ipv6/icmp/ratelimit', 0);
      r.exec('ip', ['link', 'set', 'out0', 'mtu', String(mtu)]);
      using _link = r.run(() =>
        attachNetfilter(accept.program, {
          family,
          hook: NetfilterHook.PRE_ROUTING,
          priority: 1,
          defragment: true,
        }),
      );
      const { net, device } = defragNamespace();
      net.defrag.enable(family);
      let id = 0;
      let seen = 0;
      fc.assert(
        fc.property(trains, ([length, pieces]) => {
          id++;
          const payload = Uint8Array.from({ length }, (_, at) => (at * 31 + id) & 0xff);
          const expected: string[] = [];
          for (const { start, end, df } of pieces) {
            const packet =
              family === 'ipv4' ? ipv4Piece(payload, start, end, id, df) : ipv6Piece(payload, start, end, id);
            input.inject(packet);
            const skb = new SkBuff(packet.slice(), {
              protocol: family === 'ipv4' ? ETH_P_IP : ETH_P_IPV6,
              dev: device,
            });
            const pf = family === 'ipv4' ? NFPROTO_IPV4 : NFPROTO_IPV6;
            net.netfilter.pass(pf, NF_INET_PRE_ROUTING, skb, { in: device }, (whole) => {
              for (const out of family === 'ipv4' ? forwardIpv4(whole) : forwardIpv6(whole))
                expected.push(text(out));
            });
          }
          const sent = output
            .take()
            .map((frame) => frame.subarray(14))
            .filter(
              (packet) =>
                packet[family === 'ipv4' ? 9 : 6] === (family === 'ipv4' ? 253 : 44) || packet[6] === 253,
            );
          expect(sent.map(text)).toEqual(expected);
          seen += sent.length;
        }),
        { numRuns: RUNS },
      );
      expect(seen).toBeGreaterThan(RUNS);

      function forwardIpv4(skb: SkBuff): readonly Uint8Array[] {
        if (ipv4ExceedsMtu(skb, mtu)) return [];
        skb.data[8]!--;
        new DataView(skb.data.buffer).setUint16(10, 0);
        new DataView(skb.data.buffer).setUint16(10, internetChecksum(skb.data, 0, 20));
        if (!ipv4NeedsFragmentation(skb, mtu)) return [skb.data];
        const result = fragmentIpv4(skb, mtu, net.counters);
        return result.kind === 'fragments' ? result.packets : [];
      }

      function forwardIpv6(skb: SkBuff): readonly Uint8Array[] {
        if (ipv6ExceedsMtu(skb, mtu)) return [];
        skb.data[7]!--;
        if (!ipv6NeedsFragmentation(skb, mtu)) return [skb.data];
        const result = fragmentIpv6(skb, mtu, 0, net.counters);
        return result.kind === 'fragments' ? result.packets : [];
      }
    }),
  );
});

function ipv4Piece(payload: Uint8Array, start: number, end: number, id: number, df: boolean): Uint8Array {
  const packet = pieceIpv4(payload, start, end, id);
  packet.set([198, 51, 100, 2], 16);
  if (df) packet[6]! |= 0x40;
  packet.set([0, 0], 10);
  new DataView(packet.buffer).setUint16(10, internetChecksum(packet, 0, 20));
  return packet;
}

function ipv6Piece(payload: Uint8Array, start: number, end: number, id: number): Uint8Array {
  const packet = pieceIpv6(payload, start, end, id);
  packet.set([...SOURCE_IPV6, ...TARGET_IPV6], 8);
  return packet;
}

/** The identification of IPv6 fragments is drawn by chance. */
function text(packet: Uint8Array): string {
  const hex = Buffer.from(packet).toString('hex');
  return packet[0]! >> 4 === 6 && packet[6] === 44 ? `${hex.slice(0, 88)}........${hex.slice(96)}` : hex;
}
