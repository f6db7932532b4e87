/** What a namespace adds to a generation: its addresses, its devices; and the machine's clock rate. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import type { AddressType } from '../../compile/index.ts';
import { listAddresses, listDevices, readSysctl } from '../../kernel/index.ts';
import { parsePrefix } from '../../net/index.ts';
import { RTN } from '../../rules/index.ts';

const DEFAULT_HZ = 250;

/** CONFIG_HZ of the running kernel, from its configuration where that can be read. */
export function kernelHz(): number {
  for (const read of [
    () => gunzipSync(readFileSync('/proc/config.gz')).toString('latin1'),
    () => readFileSync(`/boot/config-${release()}`, 'latin1'),
  ]) {
    try {
      const found = /^CONFIG_HZ=(\d+)$/m.exec(read())?.[1];
      if (found !== undefined) return Number(found);
    } catch {
      // Not there: the next one.
    }
  }
  return DEFAULT_HZ;
}

/** Device names by ifindex, of the calling thread's namespace. */
export function deviceNames(): ReadonlyMap<number, string> {
  return new Map(listDevices().map(({ index, name }) => [index, name]));
}

/** What the local routing table of the calling thread's namespace says of addresses (fib_frontend.c, ip6_route). */
export function addressTypes(): AddressType[] {
  const fixed = (text: string, type: number): AddressType => {
    const { address, length } = parsePrefix(text)!;
    return { value: address.bytes, prefixLength: length, type, device: 0 };
  };
  const forwards6 = readSysctl('net/ipv6/conf/all/forwarding') === '1';
  const own = listAddresses().flatMap(({ address, prefixLength, index }) => {
    const bits = address.length * 8;
    const local: AddressType = { value: address, prefixLength: bits, type: RTN.LOCAL, device: index };
    if (prefixLength >= bits - 1) return [local];
    // The last address of an IPv4 network is its broadcast address, the first of an IPv6 one its routers' anycast.
    if (bits === 128 && !forwards6) return [local];
    const edge = address.map((byte, at) => {
      const mask = (0xff00 >> Math.min(8, Math.max(0, prefixLength - at * 8))) & 0xff;
      return bits === 32 ? (byte & mask) | (~mask & 0xff) : byte & mask;
    });
    const type = bits === 32 ? RTN.BROADCAST : RTN.ANYCAST;
    return [local, { value: edge, prefixLength: bits, type, device: index }];
  });
  return [
    ...own,
    fixed('127.0.0.0/8', RTN.LOCAL),
    fixed('0.0.0.0/32', RTN.BROADCAST),
    fixed('255.255.255.255/32', RTN.BROADCAST),
    fixed('224.0.0.0/4', RTN.MULTICAST),
    fixed('::1/128', RTN.LOCAL),
    fixed('ff00::/8', RTN.MULTICAST),
  ];
}
