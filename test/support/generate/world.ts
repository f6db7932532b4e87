/** The little network that generated rulesets and packets live in; the live suite builds it in a namespace. */
import type { Family } from '../../../src/net/index.ts';
import { addressLength, type Prefix, parsePrefix } from '../../../src/net/index.ts';
import { createFib, type Fib } from '../../../src/netstack/index.ts';

export const DEVICES = ['eth0', 'eth1'] as const;

/** The host's own addresses by family and device; its neighbours share the prefix. */
export const ADDRESSES: Readonly<
  Record<Family, readonly { readonly device: string; readonly address: string }[]>
> = {
  ipv4: [
    { device: 'eth0', address: '10.7.0.1/24' },
    { device: 'eth1', address: '172.16.9.1/28' },
  ],
  ipv6: [
    { device: 'eth0', address: 'fd07::1/64' },
    { device: 'eth1', address: 'fd09:0:0:9::1/96' },
  ],
};

/** Everything else is behind this device. */
export const DEFAULT_DEVICE = 'eth0';

export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(`not a prefix: ${text}`);
  return parsed;
}

/** Routing as the namespace has it. */
export function worldRouting(family: Family): Fib {
  return createFib({
    family,
    addresses: ADDRESSES[family].map(({ device, address }) => ({ device, prefix: prefix(address) })),
    routes: [{ prefix: prefix(family === 'ipv4' ? '0.0.0.0/0' : '::/0'), device: DEFAULT_DEVICE }],
    forwarding: true,
    rpFilter: 0,
  });
}

/** Addresses worth using: of the host, of neighbours, of strangers, and special ones. */
export const INTERESTING: Readonly<Record<Family, readonly Uint8Array[]>> = {
  ipv4: [
    '10.7.0.1',
    '10.7.0.2',
    '10.7.0.255',
    '10.7.1.0',
    '172.16.9.1',
    '172.16.9.14',
    '172.16.9.15',
    '192.0.2.1',
    '203.0.113.200',
    '198.51.100.7',
    '127.0.0.1',
    '127.255.255.255',
    '224.0.0.1',
    '255.255.255.255',
  ].map((text) => prefix(text).address.bytes),
  ipv6: [
    'fd07::1',
    'fd07::2',
    'fd07::',
    'fd09:0:0:9::1',
    'fd09:0:0:9::ffff:1',
    '2001:db8::1',
    '2001:db8:ffff:ffff::2',
    '2002:c000:204::1',
    'ff02::1',
  ].map((text) => prefix(text).address.bytes),
};

export function zeroAddress(family: Family): Uint8Array {
  return new Uint8Array(addressLength(family));
}
