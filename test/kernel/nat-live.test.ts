/**
 * Address translation against the running kernel: random conversations go through a namespace that forwards and translates,
 * and through a netstack made from that very namespace. What leaves must be the same, byte for byte, by the same device,
 * as long as the kernel has not drawn a port by chance.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Family } from '../../src/net/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { describeKernel } from '../support/kernel.ts';
import { openTaps, sentByKernel, stackOf } from '../support/live-stack.ts';
import { withNamespaces } from '../support/netns.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;
const CONVERSATIONS = 40 * SOAK;

/** What is made of the addresses of the world; host bits of ranges, ports kept and moved. */
const TRANSLATIONS: Readonly<Record<Family, readonly (readonly string[])[]>> = {
  ipv4: [
    ['-A POSTROUTING -o eth0 -j MASQUERADE', '-A POSTROUTING -o eth1 -j MASQUERADE'],
    [
      '-A PREROUTING -i eth0 -p tcp -j DNAT --to-destination 172.16.9.2-172.16.9.13',
      '-A PREROUTING -i eth0 -j DNAT --to-destination 172.16.9.5-172.16.9.9 --persistent',
      '-A POSTROUTING -o eth1 -j SNAT --to-source 192.0.2.16-192.0.2.99',
    ],
    [
      '-A PREROUTING -p udp -j DNAT --to-destination 172.16.9.3:53-60',
      '-A PREROUTING -p tcp -m tcp --dport 1:1023 -j DNAT --to-destination 10.7.0.9:8000-8100/1',
      '-A PREROUTING -p icmp -j REDIRECT',
      '-A POSTROUTING -j SNAT --to-source 198.51.100.1-198.51.100.200 --persistent',
    ],
    [
      '-A PREROUTING -d 10.7.1.0/24 -j NETMAP --to 172.16.9.0/28',
      '-A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.7.0.0/24',
      '-A POSTROUTING -s 10.7.0.0/24 -j NETMAP --to 203.0.113.0/24',
      '-A POSTROUTING -o eth1 -j NETMAP --to 172.16.9.0/29',
    ],
    ['-A PREROUTING -p tcp -j REDIRECT --to-ports 3128', '-A POSTROUTING -j MASQUERADE'],
  ],
  ipv6: [
    [
      '-A POSTROUTING -o eth0 -j SNAT --to-source fd07::99',
      '-A POSTROUTING -o eth1 -j SNAT --to-source fd09:0:0:9::99',
    ],
    [
      '-A PREROUTING -i eth0 -j DNAT --to-destination fd09:0:0:9::2-fd09:0:0:9::ffff',
      '-A POSTROUTING -o eth1 -j SNAT --to-source 2001:db8:1::1-2001:db8:2::7',
    ],
    [
      '-A PREROUTING -p udp -j DNAT --to-destination [fd09:0:0:9::3]:53',
      '-A POSTROUTING -s fd07::/64 -j NETMAP --to 2001:db8:7::/64',
    ],
  ],
};

/** What the host itself says is not compared here. */
function rulesOf(lines: readonly string[]): string {
  return [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT DROP [0:0]',
    'COMMIT',
    '*nat',
    ':PREROUTING ACCEPT [0:0]',
    ':INPUT ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    ':POSTROUTING ACCEPT [0:0]',
    ...lines,
    'COMMIT',
    '',
  ].join('\n');
}

describeKernel('translation by the kernel and by the netstack', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: what leaves is the same, byte for byte', async (family) => {
    let packets = 0;
    let left = 0;
    let drawn = 0;
    await withNamespaces(['fw'], ({ fw }) => {
      const taps = openTaps(fw);
      for (const lines of TRANSLATIONS[family]) {
        const rules = rulesOf(lines);
        fw.exec(family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore', ['-w'], {
          input: rules,
        });
        const property = fc.property(conversation(family), (shapes) => {
          fw.exec('conntrack', ['-F'], { allowFailure: true });
          sentByKernel(taps, family);
          const { stack, sent, chance } = stackOf(fw, family, rules);
          for (const shape of shapes) {
            const bytes = buildPacket(shape);
            taps.get(shape.inDevice)!.inject(bytes);
            sent.length = 0;
            stack.receive({ family, bytes }, shape.inDevice);
            const expected = sentByKernel(taps, family);
            if (chance.draws > 0) {
              drawn++;
              return;
            }
            packets++;
            left += expected.length;
            expect(sent, `${lines.join('\n')}\n${Buffer.from(bytes).toString('hex')}`).toEqual(expected);
          }
        });
        fc.assert(property, { numRuns: CONVERSATIONS });
      }
    });
    console.log(
      `${family}: ${packets} packets compared, ${left} left; ${drawn} conversations ended by chance`,
    );
    expect(left).toBeGreaterThan(packets / 10);
  });
});
