/**
 * Address translation against the running kernel: random conversations go through a namespace that forwards and translates,
 * and through a netstack made from that very namespace. What leaves must be the same, byte for byte, by the same device,
 * as long as the kernel has not drawn a port by chance.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readLiveHost, StackTables } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { NetworkStack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { conversation } from '../support/generate/conversations.ts';
import { buildPacket } from '../support/generate/shape.ts';
import { ADDRESSES, DEFAULT_DEVICE, DEVICES } from '../support/generate/world.ts';
import { describeKernel } from '../support/kernel.ts';
import { type Host, withNamespaces } from '../support/netns.ts';
import { ETH_P_IP, ETH_P_IPV6, Tap } from '../support/tap.ts';

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

function openTaps(fw: Host): ReadonlyMap<string, Tap> {
  fw.sysctl('net/ipv4/ip_forward', 1);
  fw.sysctl('net/ipv6/conf/all/forwarding', 1);
  const taps = DEVICES.map((device) => {
    const own = [...ADDRESSES.ipv4, ...ADDRESSES.ipv6].filter((address) => address.device === device);
    return [device, Tap.open(fw, device, ...own.map(({ address }) => address))] as const;
  });
  for (const name of ['all', 'default', ...DEVICES]) fw.sysctl(`net/ipv4/conf/${name}/rp_filter`, 0);
  fw.exec('ip', ['route', 'add', 'default', 'dev', DEFAULT_DEVICE]);
  fw.exec('ip', ['-6', 'route', 'add', 'default', 'dev', DEFAULT_DEVICE]);
  return new Map(taps);
}

/** What the kernel has sent, without what it says on its own account. */
function sentByKernel(taps: ReadonlyMap<string, Tap>, family: Family): string[] {
  const wanted = family === 'ipv4' ? ETH_P_IP : ETH_P_IPV6;
  return [...taps].flatMap(([device, tap]) =>
    tap
      .take()
      .filter((frame) => ((frame[12]! << 8) | frame[13]!) === wanted)
      .map((frame) => `${device} ${Buffer.from(frame.subarray(14)).toString('hex')}`)
      .filter((line) => !isOwnTalk(line, family)),
  );
}

/** Listener and router discovery: to groups of the link, or from link-local addresses. */
function isOwnTalk(line: string, family: Family): boolean {
  if (family === 'ipv4') return false;
  const bytes = Buffer.from(line.split(' ')[1]!, 'hex');
  return bytes[24] === 0xff || bytes[8] === 0xfe;
}

/** A netstack like the namespace; `draws` counts what it left to chance. */
function stackOf(fw: Host, family: Family, rules: string) {
  const host = readLiveHost(fw.netnsName);
  const sent: string[] = [];
  const chance = { draws: 0 };
  const stack = new NetworkStack({
    clock: { nowMs: () => performance.now() },
    random32: () => {
      chance.draws++;
      return 0;
    },
    devices: host.devices,
    addresses: host.addresses,
    routes: host.routes,
    settings: host.path,
    conntrack: host.conntrack,
    transmit: (device, packet) => sent.push(`${device.name} ${Buffer.from(packet).toString('hex')}`),
    trace: (event) => {
      if (event.kind === 'icmp-error' && event.sent) chance.draws--;
    },
  });
  const { ruleset, diagnostics } = parseRuleset(rules, { file: 'nat', family });
  expect(diagnostics).toEqual([]);
  new StackTables(stack, ruleset);
  return { stack, sent, chance };
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
