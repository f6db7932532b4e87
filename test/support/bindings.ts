/** Random bindings and look-ups: few prefixes, ports and devices, so that they meet, nest and conflict. */
import fc from 'fast-check';
import { networkOf, type PortRange, parsePrefix } from '../../src/net/index.ts';
import { type Binding, findConflicts, type LookupTuple } from '../../src/sklookup/index.ts';

export const LABELS = ['a', 'b', 'c', 'd'] as const;
export const DEVICES: Readonly<Record<string, number>> = { lo: 1, eth0: 2, eth1: 7 };

const prefixes: Readonly<Record<'ipv4' | 'ipv6', readonly string[]>> = {
  ipv4: [
    '0.0.0.0/0',
    '10.0.0.0/8',
    '10.1.0.0/16',
    '10.1.2.0/24',
    '10.1.2.3/32',
    '10.1.2.4/31',
    '255.255.255.255/32',
    '0.0.0.0/32',
    '192.0.2.128/25',
  ],
  ipv6: [
    '::/0',
    '2001:db8::/32',
    '2001:db8:1::/48',
    '2001:db8:1:2::/64',
    '2001:db8:1:2::/96',
    '2001:db8:1:2::5/128',
    'ffff:ffff:ffff:ffff::/64',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128',
    '::1/128',
    '2001:db8:1:3::/65',
  ],
};
const addresses: Readonly<Record<'ipv4' | 'ipv6', readonly string[]>> = {
  ipv4: [
    '0.0.0.0',
    '10.0.0.1',
    '10.1.0.1',
    '10.1.2.3',
    '10.1.2.4',
    '10.1.2.5',
    '10.1.2.255',
    '10.1.3.0',
    '192.0.2.127',
    '192.0.2.200',
    '255.255.255.255',
  ],
  ipv6: [
    '::',
    '::1',
    '2001:db8::1',
    '2001:db8:1::1',
    '2001:db8:1:2::5',
    '2001:db8:1:2::6',
    '2001:db8:1:2:1::',
    '2001:db8:1:3::1',
    '2001:db8:1:3:8000::',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    'ffff:ffff:ffff:ffff::',
  ],
};
const ports: readonly PortRange[] = [
  { min: 0, max: 65535 },
  { min: 80, max: 80 },
  { min: 81, max: 81 },
  { min: 443, max: 443 },
  { min: 65535, max: 65535 },
  { min: 1, max: 1 },
  { min: 80, max: 90 },
  { min: 85, max: 95 },
  { min: 1, max: 1023 },
  { min: 1024, max: 65535 },
  { min: 79, max: 65535 },
];
const somePorts = [1, 2, 79, 80, 81, 82, 85, 90, 91, 95, 443, 1023, 1024, 65534, 65535];

const prefixOf = (text: string) => networkOf(parsePrefix(text)!);

/** A prefix near the named ones, or one of them. */
function anyPrefix(family: 'ipv4' | 'ipv6') {
  const bits = family === 'ipv4' ? 32 : 128;
  const near = fc
    .tuple(fc.constantFrom(...addresses[family]), fc.nat(bits))
    .map(([address, length]) => prefixOf(`${address}/${length}`));
  return fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...prefixes[family]).map(prefixOf) },
    { weight: 1, arbitrary: near },
  );
}

const anyFamily = fc.constantFrom<'ipv4' | 'ipv6'>('ipv4', 'ipv6');

/** @param devices whether bindings may name a device (test runs of the kernel know none) */
export function anyBinding(devices: boolean): fc.Arbitrary<Binding> {
  return anyFamily.chain((family) =>
    fc
      .record({
        label: fc.constantFrom(...LABELS),
        protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'tcp', 'udp'),
        prefix: anyPrefix(family),
        ports: fc.constantFrom(...ports),
        source: fc.option(anyPrefix(family), { nil: undefined, freq: 1 }),
        remotePort: fc.option(fc.constantFrom(1000, 1001, 53), { nil: undefined, freq: 1 }),
        device: devices
          ? fc.option(fc.constantFrom(...Object.keys(DEVICES)), { nil: undefined, freq: 1 })
          : fc.constant(undefined),
      })
      .map(({ source, remotePort, device, ...rest }) => ({
        ...rest,
        ...(source === undefined ? {} : { source }),
        ...(remotePort === undefined ? {} : { remotePort }),
        ...(device === undefined ? {} : { device }),
      })),
  );
}

/** A set without conflicts: of two that conflict the later one is left out. */
export function anyBindingSet(devices: boolean, maxLength = 60): fc.Arbitrary<Binding[]> {
  return fc.array(anyBinding(devices), { minLength: 1, maxLength, size: 'max' }).map(withoutConflicts);
}

export function withoutConflicts(bindings: readonly Binding[]): Binding[] {
  let rest = [...bindings];
  for (;;) {
    const losers = new Set(findConflicts(rest).map(({ second }) => second));
    if (losers.size === 0) return rest;
    rest = rest.filter((_, index) => !losers.has(index));
  }
}

export function anyTuple(devices: boolean): fc.Arbitrary<LookupTuple> {
  return anyFamily.chain((family) => {
    const address = fc.constantFrom(...addresses[family]).map((text) => parsePrefix(text)!.address.bytes);
    return fc.record({
      protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'tcp', 'udp'),
      localAddress: address,
      localPort: fc.constantFrom(...somePorts),
      remoteAddress: address,
      remotePort: fc.constantFrom(1000, 1001, 53, 40000),
      device: devices ? fc.constantFrom('', ...Object.keys(DEVICES)) : fc.constant(''),
    });
  });
}
