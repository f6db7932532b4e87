/** The generated world's addresses as a generation's table of address types has them. */
import type { AddressType } from '../../src/compile/index.ts';
import type { Family } from '../../src/net/index.ts';
import { RTN } from '../../src/rules/index.ts';
import { ADDRESSES, prefix } from './generate/world.ts';

export function worldAddressTypes(family: Family): AddressType[] {
  const entry = (text: string, type: number): AddressType => {
    const { address, length } = prefix(text);
    return { value: address.bytes, prefixLength: length, type, device: 0 };
  };
  const bits = family === 'ipv4' ? 32 : 128;
  const own = ADDRESSES[family].flatMap(({ address }) => {
    const { address: host, length } = prefix(address);
    // The last address of an IPv4 network is its broadcast address, the first of an IPv6 one its routers' anycast.
    const edge = host.bytes.map((byte, index) => {
      const mask = (0xff00 >> Math.min(8, Math.max(0, length - index * 8))) & 0xff;
      return family === 'ipv4' ? (byte & mask) | (~mask & 0xff) : byte & mask;
    });
    return [
      { value: host.bytes, prefixLength: bits, type: RTN.LOCAL, device: 0 },
      { value: edge, prefixLength: bits, type: family === 'ipv4' ? RTN.BROADCAST : RTN.ANYCAST, device: 0 },
    ];
  });
  if (family === 'ipv6') {
    // The world's default route has no gateway, so its network's own address is anycast like that of any other.
    const special = [
      entry('::1/128', RTN.LOCAL),
      entry('::/128', RTN.ANYCAST),
      entry('ff00::/8', RTN.MULTICAST),
    ];
    return [...own, ...special];
  }
  return [
    ...own,
    entry('127.255.255.255/32', RTN.BROADCAST),
    entry('127.0.0.0/8', RTN.LOCAL),
    entry('0.0.0.0/32', RTN.BROADCAST),
    entry('255.255.255.255/32', RTN.BROADCAST),
    entry('224.0.0.0/4', RTN.MULTICAST),
  ];
}
