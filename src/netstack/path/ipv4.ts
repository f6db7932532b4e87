/**
 * IPv4 from device to socket or to another device.
 * Source: net/ipv4/ip_input.c (ip_rcv, ip_rcv_finish, ip_local_deliver), net/ipv4/ip_forward.c, net/ipv4/route.c (ip_error).
 */
import { IpProtocol, TCP_HEADER_LENGTH } from '../../wire/index.ts';
import { ipv4ExceedsMtu } from '../defrag/fragment-ipv4.ts';
import { isIpv4Fragment } from '../defrag/ipv4.ts';
import { NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, NFPROTO_IPV4 } from '../hooks/family.ts';
import {
  ICMP_DEST_UNREACH,
  ICMP_EXC_TTL,
  ICMP_FRAG_NEEDED,
  ICMP_HOST_UNREACH,
  ICMP_NET_UNREACH,
  ICMP_PKT_FILTERED,
  ICMP_PORT_UNREACH,
  ICMP_PROT_UNREACH,
  ICMP_REDIR_HOST,
  ICMP_REDIRECT,
  ICMP_TIME_EXCEEDED,
  icmpErrorAbout,
} from '../icmp-error.ts';
import { gatherLocalIpv4, receiveIpv4 } from '../input/ipv4.ts';
import { PacketType, type SkBuff } from '../skb.ts';
import { answerIcmp } from './echo.ts';
import type { FibFault } from './fib.ts';
import { forwardOptions, takeOptions } from './options.ts';
import { output } from './output.ts';
import type { NetworkStack } from './stack.ts';

const MINIMUM_WORDS = 5;
const TTL_AT = 8;
const CHECKSUM_AT = 10;

const UNROUTABLE_CODES: Readonly<Partial<Record<FibFault, number>>> = {
  'no-route': ICMP_NET_UNREACH,
  unreachable: ICMP_HOST_UNREACH,
  prohibited: ICMP_PKT_FILTERED,
};

/** ip_rcv. */
export function receiveIpv4Packet(stack: NetworkStack, skb: SkBuff): void {
  const { net } = stack;
  const refused = receiveIpv4(net, skb);
  if (refused !== undefined) {
    stack.drop(refused);
    return;
  }
  net.netfilter.pass(NFPROTO_IPV4, NF_INET_PRE_ROUTING, skb, { in: skb.dev }, (routed) =>
    route(stack, routed),
  );
}

/** ip_rcv_finish. */
function route(stack: NetworkStack, skb: SkBuff): void {
  const fib = stack.fib('ipv4');
  const device = skb.dev;
  if (fib === undefined || device === undefined) return;
  pullTransportHeader(skb);
  const decision = fib.input(skb.data.subarray(12, 16), skb.data.subarray(16, 20), device.name);
  if (decision.kind === 'drop') {
    unroutable(stack, skb, decision.fault);
    return;
  }
  if ((skb.data[0]! & 15) > MINIMUM_WORDS && !takeOptions(stack, skb)) {
    stack.net.counters.IpInHdrErrors++;
    stack.drop('options');
    return;
  }
  if (decision.kind === 'local') deliver(stack, skb);
  else forward(stack, skb, decision.outDevice, decision.redirect === true);
}

/**
 * The search for a socket before routing reads the TCP header in one piece (tcp_v4_early_demux). A datagram whose first fragment
 * was shorter than that loses the borders of its fragments by it.
 */
function pullTransportHeader(skb: SkBuff): void {
  const first = skb.fragmentLengths?.[0];
  if (first === undefined || skb.pktType !== PacketType.HOST) return;
  if (skb.data[9] === IpProtocol.TCP && first < TCP_HEADER_LENGTH) skb.fragmentLengths = undefined;
}

/** ip_error: a router tells the sender, a host does not. Martians are never answered. */
function unroutable(stack: NetworkStack, skb: SkBuff, fault: FibFault): void {
  const { counters } = stack.net;
  stack.drop(fault);
  if (fault === 'no-route' || fault === 'not-forwarding' || fault === 'martian-destination') {
    counters.IpInAddrErrors++;
  }
  const code = UNROUTABLE_CODES[fault];
  if (code === undefined || !stack.settings.forwarding.ipv4) return;
  if (stack.icmp.mayTellUnroutable(skb.data.subarray(12, 16))) answer(stack, skb, code);
}

function answer(stack: NetworkStack, skb: SkBuff, code: number): void {
  stack.net.sendIcmpError(icmpErrorAbout(skb, ICMP_DEST_UNREACH, code));
}

/** ip_local_deliver. */
function deliver(stack: NetworkStack, skb: SkBuff): void {
  stack.trace?.({ kind: 'routed', to: 'local', outDevice: '' });
  const { net } = stack;
  if (isIpv4Fragment(skb.data) && !gatherLocalIpv4(net, skb)) return;
  net.netfilter.pass(NFPROTO_IPV4, NF_INET_LOCAL_IN, skb, { in: skb.dev }, (accepted) => {
    net.counters.IpInDelivers++;
    if (accepted.data[9] === IpProtocol.ICMP) answerIcmp(stack, accepted);
    const result = stack.deliver(accepted, accepted.data[9]!);
    if (result === 'accepted') return;
    if (result === 'no-protocol') net.counters.IpInUnknownProtos++;
    answer(stack, accepted, result === 'no-protocol' ? ICMP_PROT_UNREACH : ICMP_PORT_UNREACH);
  });
}

/** ip_forward. */
function forward(stack: NetworkStack, skb: SkBuff, outDevice: string, redirect: boolean): void {
  const { net } = stack;
  const out = stack.deviceByName(outDevice);
  if (skb.pktType !== PacketType.HOST || out === undefined) {
    stack.drop('not-forwarded');
    return;
  }
  if (skb.data[TTL_AT]! <= 1) {
    net.counters.IpInHdrErrors++;
    stack.drop('hop-limit');
    net.sendIcmpError(icmpErrorAbout(skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL));
    return;
  }
  stack.trace?.({ kind: 'routed', to: 'forward', outDevice });
  if (ipv4ExceedsMtu(skb, out.mtu)) {
    net.counters.IpFragFails++;
    stack.drop('too-big');
    net.sendIcmpError(icmpErrorAbout(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, out.mtu));
    return;
  }
  skb.outDevice = out;
  decreaseTtl(skb);
  if (redirect) sendRedirect(stack, skb);
  const place = { in: skb.dev, out };
  net.netfilter.pass(NFPROTO_IPV4, NF_INET_FORWARD, skb, place, (accepted) => {
    net.counters.IpForwDatagrams++;
    forwardOptions(stack, accepted);
    output(stack, accepted);
  });
}

/** Tells the sender whom it could have sent the packet to (ip_rt_send_redirect). */
function sendRedirect(stack: NetworkStack, skb: SkBuff): void {
  if (!stack.icmp.mayRedirect(skb.data.subarray(12, 16))) return;
  const next = stack.fib('ipv4')!.nextHop(skb.data.subarray(16, 20));
  const gateway = new DataView(next.buffer, next.byteOffset, 4).getUint32(0);
  stack.net.sendIcmpError(icmpErrorAbout(skb, ICMP_REDIRECT, ICMP_REDIR_HOST, gateway));
}

/** RFC 1624: the TTL goes down by one, so the checksum goes up by 0x0100 (ip_decrease_ttl). */
function decreaseTtl(skb: SkBuff): void {
  const data = skb.data.slice();
  data[TTL_AT]!--;
  const sum = ((data[CHECKSUM_AT]! << 8) | data[CHECKSUM_AT + 1]!) + 0x0100;
  const folded = sum >= 0xffff ? sum - 0xffff : sum;
  data[CHECKSUM_AT] = folded >> 8;
  data[CHECKSUM_AT + 1] = folded & 0xff;
  skb.data = data;
}
