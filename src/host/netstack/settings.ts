/** What a netstack is made of when it is to stand for a host: devices, addresses, routes, sysctls. */
import type { ListedConnection } from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import type {
  ConntrackSettings,
  DeviceAddress,
  DeviceConfig,
  DeviceInput,
  PathSettings,
  StaticRoute,
} from '../../netstack/index.ts';

export interface HostSettings {
  readonly devices: readonly DeviceConfig[];
  readonly addresses: readonly DeviceAddress[];
  readonly routes: readonly StaticRoute[];
  readonly path: Partial<PathSettings>;
  readonly conntrack: Partial<ConntrackSettings>;
  /** Open when the host was looked at. */
  readonly connections: readonly ListedConnection[];
}

/** Thrown for a configuration that cannot be used; `where` is the place in it: "devices[0].addresses[1]". */
export class HostSettingsError extends Error {
  readonly code = 'HOST_SETTINGS';
  readonly where: string;
  readonly hint: string;
  constructor(where: string, reason: string, hint: string) {
    super(where === '' ? reason : `${where}: ${reason}`);
    this.name = 'HostSettingsError';
    this.where = where;
    this.hint = hint;
  }
}

/** Sysctls that the netstack obeys, by name; `undefined` where one is not given. */
export type SysctlReader = (name: string) => number | undefined;

/** What each device has a switch of its own for, under `net.ipv4.conf.DEVICE.`. */
export const DEVICE_SYSCTLS = ['rp_filter', 'route_localnet', 'forwarding', 'send_redirects'] as const;

/** The name of a device's sysctl, or of `default`, which devices have that are given no own. */
export function deviceSysctl(device: string, name: (typeof DEVICE_SYSCTLS)[number]): string {
  // Slashes, as sysctl(8) takes them too: a VLAN device has a dot in its name.
  return device.includes('.') ? `net/ipv4/conf/${device}/${name}` : `net.ipv4.conf.${device}.${name}`;
}

/** Names that {@link settingsOfSysctls} asks for. */
export const KNOWN_SYSCTLS: readonly string[] = [
  'net.ipv4.ip_forward',
  'net.ipv6.conf.all.forwarding',
  'net.ipv4.conf.all.rp_filter',
  'net.ipv4.conf.all.route_localnet',
  'net.ipv4.conf.all.send_redirects',
  'net.ipv4.ip_default_ttl',
  'net.ipv4.icmp_echo_ignore_all',
  'net.ipv4.icmp_echo_ignore_broadcasts',
  'net.ipv6.icmp.echo_ignore_all',
  'net.ipv4.icmp_ratelimit',
  'net.ipv4.icmp_ratemask',
  'net.ipv4.icmp_msgs_per_sec',
  'net.ipv4.icmp_msgs_burst',
  'net.ipv6.icmp.ratelimit',
  'net.netfilter.nf_conntrack_max',
  'net.netfilter.nf_conntrack_checksum',
  'net.netfilter.nf_conntrack_tcp_loose',
  'net.netfilter.nf_conntrack_tcp_be_liberal',
  'net.netfilter.nf_conntrack_tcp_ignore_invalid_rst',
];

/** The settings that sysctls make; what is not given keeps the kernel's default. */
export function settingsOfSysctls(read: SysctlReader): Pick<HostSettings, 'path' | 'conntrack'> {
  const flag = (name: string): boolean | undefined => {
    const value = read(name);
    return value === undefined ? undefined : value !== 0;
  };
  const forwards = (family: Family): boolean =>
    flag(family === 'ipv4' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding') ?? false;
  return {
    path: {
      forwarding: { ipv4: forwards('ipv4'), ipv6: forwards('ipv6') },
      rpFilter: reversePathFilter(read('net.ipv4.conf.all.rp_filter') ?? 0),
      routeLocalnet: flag('net.ipv4.conf.all.route_localnet') ?? false,
      ...given('sendRedirects', flag('net.ipv4.conf.all.send_redirects')),
      ignoreEcho: {
        ipv4: flag('net.ipv4.icmp_echo_ignore_all') ?? false,
        ipv6: flag('net.ipv6.icmp.echo_ignore_all') ?? false,
      },
      ...given('ignoreEchoToMany', flag('net.ipv4.icmp_echo_ignore_broadcasts')),
      ...given('defaultTtl', read('net.ipv4.ip_default_ttl')),
      ...given('icmpRateLimitMs', read('net.ipv4.icmp_ratelimit')),
      ...given('icmpRateMask', read('net.ipv4.icmp_ratemask')),
      ...given('icmpMessagesPerSec', read('net.ipv4.icmp_msgs_per_sec')),
      ...given('icmpMessagesBurst', read('net.ipv4.icmp_msgs_burst')),
      ...given('icmpv6RateLimitMs', read('net.ipv6.icmp.ratelimit')),
    },
    conntrack: {
      ...given('maximumEntries', read('net.netfilter.nf_conntrack_max')),
      ...given('checksum', flag('net.netfilter.nf_conntrack_checksum')),
      ...given('tcpLoose', flag('net.netfilter.nf_conntrack_tcp_loose')),
      ...given('tcpBeLiberal', flag('net.netfilter.nf_conntrack_tcp_be_liberal')),
      ...given('tcpIgnoreInvalidRst', flag('net.netfilter.nf_conntrack_tcp_ignore_invalid_rst')),
    },
  };
}

/** The switches of one device; without own ones, those of `default`. */
export function inputOfSysctls(device: string, read: SysctlReader): DeviceInput {
  const value = (name: (typeof DEVICE_SYSCTLS)[number]): number | undefined =>
    read(deviceSysctl(device, name)) ?? read(deviceSysctl('default', name));
  const localnet = value('route_localnet');
  const forwarding = value('forwarding');
  const filter = value('rp_filter');
  const redirects = value('send_redirects');
  return {
    ...given('rpFilter', filter === undefined ? undefined : reversePathFilter(filter)),
    ...given('routeLocalnet', localnet === undefined ? undefined : localnet !== 0),
    ...given('forwarding', forwarding === undefined ? undefined : forwarding !== 0),
    ...given('sendRedirects', redirects === undefined ? undefined : redirects !== 0),
  };
}

function reversePathFilter(value: number): 0 | 1 | 2 {
  return Math.min(2, value) as 0 | 1 | 2;
}

function given<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}
