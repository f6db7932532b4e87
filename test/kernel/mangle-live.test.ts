/**
 * Targets that rewrite packets, against the running kernel: random conversations through rules of the mangle table in a
 * namespace and in a netstack made from it. What leaves must be the same, byte for byte.
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
const CONVERSATIONS = 20 * SOAK;

/** Each list is one chain; what the first rules mark the last ones show. */
const CHANGES: Readonly<Record<Family, readonly (readonly string[])[]>> = {
  ipv4: [
    [
      '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 500',
      '-A FORWARD -j TOS --set-tos 0x48/0xfc',
      '-A FORWARD -j TTL --ttl-dec 3',
      '-A POSTROUTING -p udp -j DSCP --set-dscp 46',
    ],
    [
      '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
      '-A PREROUTING -i eth0 -j TTL --ttl-inc 200',
      '-A PREROUTING -i eth1 -j TTL --ttl-set 2',
    ],
    [
      '-A PREROUTING -m conntrack --ctstate NEW -p tcp -j CONNMARK --set-xmark 0x5/0xff',
      '-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf',
      '-A PREROUTING -m mark --mark 0x5 -j TOS --or-tos 0x10',
      '-A FORWARD -p udp -j MARK --set-xmark 0x90/0xf0',
      '-A FORWARD -j CONNMARK --save-mark --nfmask 0xf0 --ctmask 0xf0',
      '-A POSTROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf0',
      '-A POSTROUTING -m mark --mark 0x90/0xf0 -j TOS --xor-tos 0x04',
    ],
  ],
  ipv6: [
    [
      '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 500',
      '-A FORWARD -j TOS --set-tos 0x48/0xfc',
      '-A FORWARD -j HL --hl-dec 3',
      '-A POSTROUTING -p udp -j DSCP --set-dscp 46',
    ],
    [
      '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
      '-A PREROUTING -i eth0 -j HL --hl-inc 200',
      '-A PREROUTING -i eth1 -j HL --hl-set 2',
    ],
  ],
};

/** Marks by a hash, shown in the service type: `HMARK` of what is packets' own, and of their connections. */
function hashed(options: string): readonly string[] {
  return [
    `-A PREROUTING -j HMARK ${options} --hmark-mod 8 --hmark-offset 16 --hmark-rnd 0xfeedcafe`,
    ...Array.from(
      { length: 8 },
      (_, mark) => `-A POSTROUTING -m mark --mark ${16 + mark} -j TOS --set-tos ${mark * 4}/0xfc`,
    ),
  ];
}

const HASHES: readonly (readonly string[])[] = [
  hashed('--hmark-tuple src,dst,sport,dport,proto'),
  hashed('--hmark-src-prefix 24 --hmark-sport-mask 0xff0f --hmark-dport 0x8001 --hmark-proto-mask 0x3'),
  hashed('--hmark-tuple spi,src'),
  hashed('--hmark-tuple ct,src,dst,sport,dport'),
];

const CHAINS = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];

/** The filter table has conntrack switched on; what the host itself says is not compared. */
function rulesOf(lines: readonly string[]): string {
  return [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT DROP [0:0]',
    'COMMIT',
    '*mangle',
    ...CHAINS.map((chain) => `:${chain} ACCEPT [0:0]`),
    ...lines,
    'COMMIT',
    '*filter',
    ':INPUT ACCEPT [0:0]',
    ':FORWARD ACCEPT [0:0]',
    ':OUTPUT ACCEPT [0:0]',
    '-A FORWARD -m conntrack --ctstate INVALID',
    'COMMIT',
    '',
  ].join('\n');
}

describeKernel('rewriting by the kernel and by the netstack', () => {
  test.each(['ipv4', 'ipv6'] as const)('%s: what leaves is the same, byte for byte', async (family) => {
    let left = 0;
    await withNamespaces(['fw'], ({ fw }) => {
      const taps = openTaps(fw);
      for (const lines of [...CHANGES[family], ...HASHES]) {
        const rules = rulesOf(lines);
        fw.exec(family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore', ['-w'], {
          input: rules,
        });
        const property = fc.property(conversation(family), (shapes) => {
          fw.exec('conntrack', ['-F'], { allowFailure: true });
          sentByKernel(taps, family);
          const { stack, sent } = stackOf(fw, family, rules);
          for (const shape of shapes) {
            const bytes = buildPacket(shape);
            taps.get(shape.inDevice)!.inject(bytes);
            sent.length = 0;
            stack.receive({ family, bytes }, shape.inDevice);
            const expected = sentByKernel(taps, family);
            left += expected.length;
            expect(sent, `${lines.join('\n')}\n${Buffer.from(bytes).toString('hex')}`).toEqual(expected);
          }
        });
        fc.assert(property, { numRuns: CONVERSATIONS });
      }
    });
    console.log(`${family}: ${left} rewritten packets compared`);
    expect(left).toBeGreaterThan(CONVERSATIONS);
  });
});
