/** A live namespace as the settings of a netstack: what rtnetlink, ctnetlink and /proc/sys say of it. Nothing in it is changed. */

import {
  type Device,
  type ListedRoute,
  listAddresses,
  listConnections,
  listDevices,
  listRoutes,
  openNetns,
  readSysctl,
  withNetns,
} from '../../kernel/index.ts';
import type { Family } from '../../net/index.ts';
import { parsePrefix } from '../../net/index.ts';
import type { StaticRoute } from '../../netstack/index.ts';
import { type HostSettings, inputOfSysctls, settingsOfSysctls } from './settings.ts';

/**
 * Copies devices that are up, their addresses, the main table's routes, sysctls, and the connections that conntrack knows.
 * @throws {KernelError} `NETNS_NOT_FOUND`; {SyscallError} EPERM without CAP_SYS_ADMIN
 */
export function readLiveHost(netnsName: string): HostSettings {
  const netns = openNetns(netnsName);
  try {
    return withNetns(netns, readHere);
  } finally {
    netns.close();
  }
}

function readHere(): HostSettings {
  const devices = listDevices().filter(({ up, name }) => up || name === 'lo');
  const names = new Map(devices.map(({ index, name }) => [index, name]));
  return {
    devices: devices.map(({ index, name, mtu }: Device) => ({
      name,
      ifindex: index,
      mtu,
      input: inputOfSysctls(name, sysctl),
    })),
    addresses: listAddresses().flatMap(({ index, address, prefixLength }) => {
      const device = names.get(index);
      // What lo has is there without saying.
      if (device === undefined || device === 'lo') return [];
      const family: Family = address.length === 4 ? 'ipv4' : 'ipv6';
      return [{ device, prefix: { address: { family, bytes: address }, length: prefixLength } }];
    }),
    routes: listRoutes().flatMap((route) => staticRoute(route, names)),
    connections: listConnections(),
    ...settingsOfSysctls(sysctl),
  };
}

function sysctl(name: string): number | undefined {
  const text = readSysctl(name);
  return text === undefined || !/^[0-9]+$/.test(text) ? undefined : Number(text);
}

function staticRoute(route: ListedRoute, names: ReadonlyMap<number, string>): StaticRoute[] {
  const { family, destination, gateway, index, type, metric } = route;
  const device = index === undefined ? undefined : names.get(index);
  if (device === undefined && type === 'unicast') return [];
  const all = parsePrefix(family === 'ipv4' ? '0.0.0.0/0' : '::/0')!;
  return [
    {
      prefix:
        destination === undefined
          ? all
          : { address: { family, bytes: destination.address }, length: destination.prefixLength },
      device: device ?? '',
      type,
      metric,
      ...(gateway === undefined ? {} : { gateway }),
    },
  ];
}
