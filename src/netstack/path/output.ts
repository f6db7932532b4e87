/**
 * Out: LOCAL_OUT for packets of this host, POST_ROUTING for all, refragmentation, the device.
 * Source: net/ipv4/ip_output.c (ip_output, ip_finish_output), net/ipv6/ip6_output.c, net/ipv4/netfilter.c (ip_route_me_harder).
 */
import { type FragmentResult, fragmentIpv4, ipv4NeedsFragmentation } from '../defrag/fragment-ipv4.ts';
import { fragmentIpv6, ipv6NeedsFragmentation } from '../defrag/fragment-ipv6.ts';
import { Errno } from '../errno.ts';
import { NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, NFPROTO_IPV4, NFPROTO_IPV6 } from '../hooks/family.ts';
import { ETH_P_IP, type NetDevice, SkBuff } from '../skb.ts';
import { transmit } from './ingress.ts';
import type { NetworkStack } from './stack.ts';

function destinationOf(skb: SkBuff): Uint8Array {
  return skb.protocol === ETH_P_IP ? skb.data.subarray(16, 20) : skb.data.subarray(24, 40);
}

/** Routes a packet of this host by what it is now. @returns 0, or -errno when there is no route */
export function routeOutput(stack: NetworkStack, skb: SkBuff): number {
  const fib = stack.fib(skb.protocol === ETH_P_IP ? 'ipv4' : 'ipv6');
  const name = fib?.output(destinationOf(skb));
  const device = name === undefined ? undefined : stack.deviceByName(name);
  if (device === undefined) return -Errno.EHOSTUNREACH;
  skb.outDevice = device;
  return 0;
}

/** Sends a packet that a process or the stack itself has made (ip_local_out, ip6_local_out). */
export function sendLocal(stack: NetworkStack, skb: SkBuff): void {
  const ipv4 = skb.protocol === ETH_P_IP;
  const { counters } = stack.net;
  if (routeOutput(stack, skb) < 0) {
    counters[ipv4 ? 'IpOutNoRoutes' : 'Ip6OutNoRoutes']++;
    stack.drop('no-route');
    return;
  }
  localOut(stack, skb);
}

/** LOCAL_OUT and on, for a packet whose device has been chosen. */
export function localOut(stack: NetworkStack, skb: SkBuff): void {
  const ipv4 = skb.protocol === ETH_P_IP;
  const { counters, netfilter } = stack.net;
  counters[ipv4 ? 'IpOutRequests' : 'Ip6OutRequests']++;
  stack.trace?.({ kind: 'routed', to: 'out', outDevice: skb.outDevice?.name ?? '' });
  const pf = ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  netfilter.pass(pf, NF_INET_LOCAL_OUT, skb, { out: skb.outDevice }, (accepted) => output(stack, accepted));
}

/** ip_output, ip6_output. */
export function output(stack: NetworkStack, skb: SkBuff): void {
  const out = skb.outDevice;
  if (out === undefined) return;
  const cameBy = skb.dev;
  skb.dev = out;
  const pf = skb.protocol === ETH_P_IP ? NFPROTO_IPV4 : NFPROTO_IPV6;
  const place = { in: cameBy, out };
  stack.net.netfilter.pass(pf, NF_INET_POST_ROUTING, skb, place, (accepted) => finish(stack, accepted, out));
}

/** Cuts what the device cannot carry, or what came in pieces (ip_finish_output). */
function finish(stack: NetworkStack, skb: SkBuff, device: NetDevice): void {
  const ipv4 = skb.protocol === ETH_P_IP;
  const needed = ipv4 ? ipv4NeedsFragmentation(skb, device.mtu) : ipv6NeedsFragmentation(skb, device.mtu);
  if (!needed) {
    transmit(stack, skb, device);
    return;
  }
  const { counters } = stack.net;
  const result: FragmentResult = ipv4
    ? fragmentIpv4(skb, device.mtu, counters)
    : fragmentIpv6(skb, device.mtu, stack.random32(), counters);
  if (result.kind !== 'fragments') {
    stack.drop(result.kind);
    if (result.kind === 'too-big') stack.net.sendIcmpError({ ...result.error, nfct: skb.nfct });
    return;
  }
  stack.trace?.({ kind: 'fragmented', pieces: result.packets.length });
  for (const data of result.packets) {
    const piece = new SkBuff(data, { protocol: skb.protocol, dev: device, mark: skb.mark });
    piece.takeMetadata(skb);
    transmit(stack, piece, device);
  }
}
