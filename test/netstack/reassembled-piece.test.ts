/** What a datagram has from which of its fragments (skb_morph in net/ipv4/inet_fragment.c). */
import { expect, test } from 'vitest';
import { namespaceReassembler } from '../../src/host/replay/host.ts';
import { emitIpv4, emitIpv6, fragmentIpv4, fragmentIpv6 } from '../../src/wire/index.ts';

const payload = Uint8Array.from({ length: 64 }, (_, index) => index);
const whole = {
  ipv4: emitIpv4(
    {
      tos: 0,
      id: 7,
      reservedFlag: false,
      dontFragment: false,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 64,
      protocol: 253,
      source: Uint8Array.of(192, 0, 2, 1),
      destination: Uint8Array.of(192, 0, 2, 2),
      options: new Uint8Array(0),
    },
    payload,
  ),
  ipv6: emitIpv6(
    {
      trafficClass: 0,
      flowLabel: 0,
      nextHeader: 253,
      hopLimit: 64,
      source: Uint8Array.from({ length: 16 }, () => 1),
      destination: Uint8Array.from({ length: 16 }, () => 2),
    },
    payload,
  ),
};

test.each([
  ['ipv4', [0, 1, 2]],
  ['ipv4', [2, 1, 0]],
  ['ipv6', [0, 1, 2]],
  ['ipv6', [2, 0, 1]],
] as const)(
  '%s, in the order %j: packet type, mark and link header are the first piece’s',
  (family, order) => {
    const pieces = family === 'ipv4' ? fragmentIpv4(whole.ipv4, 44) : fragmentIpv6(whole.ipv6, 72, 7);
    expect(pieces.length).toBe(3);
    const reassembler = namespaceReassembler({ nowMs: () => 0 });
    const results = order.map((index) =>
      reassembler.reassemble(
        {
          bytes: pieces[index]!,
          ethernet: Uint8Array.of(index),
          packetType: index,
          mark: 100 + index,
        },
        family,
        'before-conntrack',
        'eth0',
      ),
    );
    expect(results.slice(0, 2)).toEqual([undefined, undefined]);
    expect(results[2]).toMatchObject({ ethernet: Uint8Array.of(0), packetType: 0, mark: 100 });
    expect(results[2]!.bytes.length).toBe(whole[family].length);
  },
);
