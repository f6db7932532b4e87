/** A router in a scratch namespace and a netstack made from it, to send the same packets through both. */
import { expect } from 'vitest';
import { readLiveHost, restoreConnections, StackTables } from '../../src/host/index.ts';
import type { Family } from '../../src/net/index.ts';
import { NetworkStack } from '../../src/netstack/index.ts';
import { parseRuleset } from '../../src/rules/index.ts';
import { ADDRESSES, DEFAULT_DEVICE, DEVICES } from './generate/world.ts';
import type { Host } from './netns.ts';
import { ETH_P_IP, ETH_P_IPV6, Tap } from './tap.ts';

/** The netstack, what it has sent as "device hex", and how often it asked for chance. */
export interface LiveTwin {
  readonly stack: NetworkStack;
  readonly sent: string[];
  readonly chance: { draws: number };
}

/** Makes a namespace a router in the generated world; its devices by name. */
export function openTaps(fw: Host): ReadonlyMap<string, Tap> {
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
export function sentByKernel(taps: ReadonlyMap<string, Tap>, family: Family): string[] {
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

/** A netstack like the namespace, with the connections that it has now; `draws` counts what it left to chance. */
export function stackOf(fw: Host, family: Family, rules: string): LiveTwin {
  const host = readLiveHost(fw.netnsName);
  const sent: string[] = [];
  const chance = { draws: 0 };
  const stack = new NetworkStack({
    clock: { nowMs: () => performance.now() },
    wallMs: Date.now,
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
  restoreConnections(stack.conntrack!, host.connections);
  const { ruleset, diagnostics } = parseRuleset(rules, { file: 'nat', family });
  expect(diagnostics).toEqual([]);
  new StackTables(stack, ruleset);
  return { stack, sent, chance };
}
