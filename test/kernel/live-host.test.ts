/**
 * A netstack made from a live namespace goes on where the kernel is: connections that were opened through the kernel continue
 * in it, translated as they were, and a device's own reverse path filter holds.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { conversation } from '../support/generate/conversations.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { INTERESTING } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { openTaps, sentByKernel, stackOf } from '../support/live-stack.ts';
import { withNamespaces } from '../support/netns.ts';
import { PEER_MAC } from '../support/tap.ts';

const SOAK = process.env.SLUICE_SOAK === '1' ? 20 : 1;

/** What conntrack says of a packet shows in its TOS byte. */
const RULES = {
  ipv4: [
    '-A PREROUTING -i eth0 -j DNAT --to-destination 172.16.9.2-172.16.9.13',
    '-A POSTROUTING -j MASQUERADE',
  ],
  ipv6: ['-A PREROUTING -i eth0 -j DNAT --to-destination fd09:0:0:9::2-fd09:0:0:9::ffff'],
} as const;
const MARKERS = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID'].map(
  (state, index) => `-A FORWARD -m conntrack --ctstate ${state} -j TOS --set-tos ${(index + 1) * 4}`,
);
const REPLIES = '-A FORWARD -m conntrack --ctdir REPLY -j TOS --or-tos 0x80';

function rulesOf(nat: readonly string[]): string {
  return [
    '*raw',
    ':PREROUTING ACCEPT [0:0]',
    ':OUTPUT DROP [0:0]',
    'COMMIT',
    '*mangle',
    ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`),
    ...MARKERS,
    REPLIES,
    'COMMIT',
    '*nat',
    ...['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`),
    ...nat,
    'COMMIT',
    '',
  ].join('\n');
}

const SILENT = ['*raw', ':PREROUTING ACCEPT [0:0]', ':OUTPUT DROP [0:0]', 'COMMIT', ''].join('\n');

/** UDP from this address to a neighbour on the far side. */
function udpFrom(source: Uint8Array): Uint8Array {
  return buildPacket({
    family: 'ipv4',
    source,
    destination: Uint8Array.of(172, 16, 9, 5),
    tos: 0,
    ttl: 9,
    id: 1,
    dontFragment: false,
    ipOptions: new Uint8Array(0),
    extensions: [],
    transport: { kind: 'ports', protocol: 17, sourcePort: 7, destinationPort: 53 },
    payloadBytes: 4,
    inDevice: '',
    sourceMac: PEER_MAC,
  });
}

describeKernel('a host copied from a live namespace', () => {
  test.each(['ipv4', 'ipv6'] as const)(
    '%s: connections of the kernel go on in the netstack',
    async (family) => {
      let packets = 0;
      let taken = 0;
      await withNamespaces(['fw'], ({ fw }) => {
        const taps = openTaps(fw);
        // Windows and numbers are not told: what lies outside of them is let pass on both sides.
        for (const name of ['be_liberal', 'ignore_invalid_rst'])
          fw.sysctl(`net/netfilter/nf_conntrack_tcp_${name}`, 1);
        const rules = rulesOf(RULES[family]);
        fw.exec(family === 'ipv4' ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore', ['-w'], {
          input: rules,
        });
        const property = fc.property(conversation(family), fc.nat(99), (shapes, cut) => {
          fw.exec('conntrack', ['-F'], { allowFailure: true });
          const first = 1 + (cut % shapes.length);
          for (const shape of shapes.slice(0, first)) taps.get(shape.inDevice)!.inject(buildPacket(shape));
          sentByKernel(taps, family);
          const { stack, sent, chance } = stackOf(fw, family, rules);
          taken += stack.conntrack!.size;
          for (const shape of shapes.slice(first)) {
            const bytes = buildPacket(shape);
            taps.get(shape.inDevice)!.inject(bytes);
            sent.length = 0;
            stack.receive({ family, bytes }, shape.inDevice);
            const expected = sentByKernel(taps, family);
            if (chance.draws > 0) return;
            packets++;
            expect(sent, Buffer.from(bytes).toString('hex')).toEqual(expected);
          }
        });
        fc.assert(property, { numRuns: 60 * SOAK });
      });
      console.log(`${family}: ${taken} connections copied, ${packets} packets compared after it`);
      expect(taken).toBeGreaterThan(30);
    },
  );

  test('rp_filter holds by device, the higher of its own and the one for all', async () => {
    const passed = new Set<string>();
    await withNamespaces(['fw'], ({ fw }) => {
      const taps = openTaps(fw);
      fw.exec('iptables-legacy-restore', ['-w'], { input: SILENT });
      const filter = fc.constantFrom(0, 1, 2);
      const property = fc.property(filter, filter, filter, (all, eth0, eth1) => {
        fw.sysctl('net/ipv4/conf/all/rp_filter', all);
        fw.sysctl('net/ipv4/conf/eth0/rp_filter', eth0);
        fw.sysctl('net/ipv4/conf/eth1/rp_filter', eth1);
        sentByKernel(taps, 'ipv4');
        const { stack, sent } = stackOf(fw, 'ipv4', SILENT);
        for (const source of INTERESTING.ipv4)
          for (const device of ['eth0', 'eth1']) {
            const bytes = udpFrom(source);
            taps.get(device)!.inject(bytes);
            sent.length = 0;
            stack.receive({ family: 'ipv4', bytes }, device);
            const expected = sentByKernel(taps, 'ipv4');
            expect(sent, `${all} ${eth0} ${eth1} ${device} ${source}`).toEqual(expected);
            passed.add(`${device} ${source} ${expected.length > 0}`);
          }
      });
      fc.assert(property, { numRuns: 12 * SOAK });
    });
    // The setting decides about some of them.
    expect(passed.size).toBeGreaterThan(2 * INTERESTING.ipv4.length);
  });
});
