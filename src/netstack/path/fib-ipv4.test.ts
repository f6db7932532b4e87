import { expect, test } from 'vitest';
import { type Family, parsePrefix } from '../../net/index.ts';
import type { Fib } from './fib.ts';
import { RouteTypeNumber } from './fib.ts';
import { createFib } from './routing.ts';

function fib(family: Family, own: string): Fib {
  const addresses = [{ device: 'eth0', prefix: prefix(own) }];
  return createFib({ family, addresses, routes: [], forwarding: true, rpFilter: 0 });
}

function prefix(text: string) {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}

const bytes = (text: string): Uint8Array => prefix(text).address.bytes;

// As `ip route show table local` has it for a host with 192.0.2.1/24 on eth0 and lo up.
test.each([
  ['192.0.2.1', 'LOCAL', 'lo'],
  ['192.0.2.255', 'BROADCAST', 'eth0'],
  ['192.0.2.0', 'UNICAST', 'eth0'],
  ['127.0.0.1', 'LOCAL', 'lo'],
  ['127.255.255.254', 'LOCAL', 'lo'],
  ['127.255.255.255', 'BROADCAST', 'lo'],
  ['255.255.255.255', 'BROADCAST', undefined],
  ['224.0.0.1', 'MULTICAST', undefined],
  ['198.51.100.1', 'UNICAST', undefined],
] as const)('%s is %s and leaves by %s', (address, type, device) => {
  const routing = fib('ipv4', '192.0.2.1/24');
  expect(routing.addressType(bytes(address))).toBe(RouteTypeNumber[type]);
  expect(routing.output(bytes(address))).toBe(device);
});

test('an address of another device has the type of a stranger where the device is asked for', () => {
  const routing = fib('ipv4', '192.0.2.1/24');
  expect(routing.addressType(bytes('127.255.255.255'), 'eth0')).toBe(RouteTypeNumber.UNICAST);
  expect(routing.addressType(bytes('127.255.255.255'), 'lo')).toBe(RouteTypeNumber.BROADCAST);
});

test.each([
  ['127.0.0.1', 'drop'],
  ['127.0.0.2', 'local'],
  ['192.0.2.1', 'drop'],
  ['192.0.2.2', 'local'],
])('a broadcast of %s from outside is for %s', (source, kind) => {
  const routing = fib('ipv4', '192.0.2.1/24');
  expect(routing.input(bytes(source), bytes('255.255.255.255'), 'eth0').kind).toBe(kind);
});
