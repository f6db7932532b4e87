/**
 * IPv6 from device to socket or to another device.
 * Source: net/ipv6/ip6_input.c (ipv6_rcv, ip6_input), net/ipv6/ip6_output.c (ip6_forward), net/ipv6/route.c (ip6_pkt_drop).
 */
import { ipv6ExceedsMtu } from '../defrag/fragment-ipv6.ts';
import { NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, NFPROTO_IPV6 } from '../hooks/family.ts';
import {
  ICMPV6_ADM_PROHIBITED,
  ICMPV6_DEST_UNREACH,
  ICMPV6_EXC_HOPLIMIT,
  ICMPV6_NOROUTE,
  ICMPV6_NOT_NEIGHBOUR,
  ICMPV6_PARAMPROB,
  ICMPV6_PKT_TOOBIG,
  ICMPV6_PORT_UNREACH,
  ICMPV6_TIME_EXCEED,
  ICMPV6_UNK_NEXTHDR,
  icmpErrorAbout,
} from '../icmp-error.ts';
import { deliverIpv6, receiveIpv6 } from '../input/ipv6.ts';
import { NEXTHDR_ICMP, NEXTHDR_NONE } from '../ipv6-header.ts';
import { PacketType, type SkBuff } from '../skb.ts';
import { answerIcmpv6 } from './echo.ts';
import type { FibFault } from './fib.ts';
import { output } from './output.ts';
import type { NetworkStack } from './stack.ts';

const HOP_LIMIT_AT = 7;

/** ipv6_rcv. */
export function receiveIpv6Packet(stack: NetworkStack, skb: SkBuff): void {
  const { net } = stack;
  const refused = receiveIpv6(net, skb);
  if (refused !== undefined) {
    stack.drop(refused);
    return;
  }
  net.netfilter.pass(NFPROTO_IPV6, NF_INET_PRE_ROUTING, skb, { in: skb.dev }, (routed) =>
    route(stack, routed),
  );
}

/** ip6_rcv_finish. */
function route(stack: NetworkStack, skb: SkBuff): void {
  const fib = stack.fib('ipv6');
  const device = skb.dev;
  if (fib === undefined || device === undefined) return;
  const decision = fib.input(skb.data.subarray(8, 24), skb.data.subarray(24, 40), device.name);
  if (decision.kind === 'drop') unroutable(stack, skb, decision.fault);
  else if (decision.kind === 'local') deliver(stack, skb);
  else forward(stack, skb, decision.outDevice);
}

/** ip6_pkt_discard, ip6_pkt_prohibit: told whether this host forwards or not. */
function unroutable(stack: NetworkStack, skb: SkBuff, fault: FibFault): void {
  const { counters } = stack.net;
  stack.drop(fault);
  switch (fault) {
    case 'no-route':
    case 'unreachable':
      counters.Ip6InNoRoutes++;
      answer(stack, skb, ICMPV6_NOROUTE);
      break;
    case 'prohibited':
      counters.Ip6InNoRoutes++;
      answer(stack, skb, ICMPV6_ADM_PROHIBITED);
      break;
    case 'not-joined':
    case 'not-forwarding':
      counters.Ip6InAddrErrors++;
      break;
  }
}

function answer(stack: NetworkStack, skb: SkBuff, code: number): void {
  stack.net.sendIcmpError(icmpErrorAbout(skb, ICMPV6_DEST_UNREACH, code));
}

/** ip6_input: extension headers, reassembly among them, come after the hook. */
function deliver(stack: NetworkStack, skb: SkBuff): void {
  stack.trace?.({ kind: 'routed', to: 'local', outDevice: '' });
  const { net } = stack;
  net.netfilter.pass(NFPROTO_IPV6, NF_INET_LOCAL_IN, skb, { in: skb.dev }, (accepted) => {
    const protocol = deliverIpv6(net, accepted);
    if (protocol === undefined) {
      stack.dropUnlessHeld('extension-headers');
      return;
    }
    net.counters.Ip6InDelivers++;
    if (protocol === NEXTHDR_NONE) return;
    if (protocol === NEXTHDR_ICMP) answerIcmpv6(stack, accepted);
    const result = stack.deliver(accepted, protocol);
    if (result === 'accepted') return;
    if (result === 'no-port') {
      answer(stack, accepted, ICMPV6_PORT_UNREACH);
      return;
    }
    net.counters.Ip6InUnknownProtos++;
    net.sendIcmpError(icmpErrorAbout(accepted, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, accepted.nhoff));
  });
}

/** ip6_forward. */
function forward(stack: NetworkStack, skb: SkBuff, outDevice: string): void {
  const { net } = stack;
  const { counters } = net;
  const out = stack.deviceByName(outDevice);
  if (skb.pktType !== PacketType.HOST || out === undefined) {
    counters.Ip6InDiscards++;
    stack.drop('not-forwarded');
    return;
  }
  if (skb.data[HOP_LIMIT_AT]! <= 1) {
    counters.Ip6InHdrErrors++;
    stack.drop('hop-limit');
    net.sendIcmpError(icmpErrorAbout(skb, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT));
    return;
  }
  if (out !== skb.dev && !sourceMayLeave(stack, skb)) {
    counters.Ip6InAddrErrors++;
    stack.drop('martian-source');
    return;
  }
  stack.trace?.({ kind: 'routed', to: 'forward', outDevice });
  if (ipv6ExceedsMtu(skb, out.mtu)) {
    counters.Ip6InTooBigErrors++;
    counters.Ip6FragFails++;
    stack.drop('too-big');
    net.sendIcmpError(icmpErrorAbout(skb, ICMPV6_PKT_TOOBIG, 0, out.mtu));
    return;
  }
  skb.outDevice = out;
  skb.data = skb.data.slice();
  skb.data[HOP_LIMIT_AT]!--;
  net.netfilter.pass(NFPROTO_IPV6, NF_INET_FORWARD, skb, { in: skb.dev, out }, (accepted) => {
    counters.Ip6OutForwDatagrams++;
    output(stack, accepted);
  });
}

/** Sources without business on another link; asked only when the packet changes links. */
function sourceMayLeave(stack: NetworkStack, skb: SkBuff): boolean {
  const source = skb.data.subarray(8, 24);
  if (source[0] === 0xff || source.subarray(0, 15).every((byte) => byte === 0 && source[15]! <= 1))
    return false;
  if (source[0] !== 0xfe || (source[1]! & 0xc0) !== 0x80) return true;
  answer(stack, skb, ICMPV6_NOT_NEIGHBOUR);
  return false;
}
