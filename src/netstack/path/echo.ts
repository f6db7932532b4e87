/**
 * What a host answers on its own: echo requests of both families, timestamp requests of IPv4.
 * Sources: net/ipv4/icmp.c (icmp_rcv, icmp_echo, icmp_timestamp, icmp_reply), net/ipv6/icmp.c (icmpv6_rcv,
 * icmpv6_echo_reply); RFC 792, RFC 1122 §3.2.2, RFC 4443 §4.2.
 */
import { addToSum, finishSum, IpProtocol, internetChecksum } from '../../wire/index.ts';
import { checksumIsRight } from '../conntrack/checksum.ts';
import { ETH_P_IP, ETH_P_IPV6, SkBuff } from '../skb.ts';
import { RouteTypeNumber } from './fib.ts';
import { currentTimestamp, echoedOptions, ownAddress } from './options.ts';
import type { NetworkStack } from './stack.ts';

const ICMP_HEADER_BYTES = 8;
const ICMP_ECHO = 8;
const ICMP_ECHOREPLY = 0;
const ICMP_TIMESTAMP = 13;
const ICMP_TIMESTAMPREPLY = 14;
const ICMPV6_ECHO_REQUEST = 128;
const ICMPV6_ECHO_REPLY = 129;
const TIMESTAMP_BYTES = 12;

/** Answers a delivered ICMP message, when it is a request. */
export function answerIcmp(stack: NetworkStack, skb: SkBuff): void {
  const { data } = skb;
  const offset = (data[0]! & 15) * 4;
  const type = data[offset];
  if (type !== ICMP_ECHO && type !== ICMP_TIMESTAMP) return;
  const located = { family: 'ipv4', bytes: data, protocol: IpProtocol.ICMP, offset } as const;
  if (data.length < offset + ICMP_HEADER_BYTES || !checksumIsRight(located)) return;
  const { settings } = stack;
  const toMany = stack.fib('ipv4')!.addressType(data.subarray(16, 20)) !== RouteTypeNumber.LOCAL;
  if (toMany && settings.ignoreEchoToMany) return;
  const message = type === ICMP_ECHO ? echoOf(stack, data, offset) : timesOf(stack, data, offset);
  if (message === undefined) return;
  const source = ownAddress(stack, data, skb.dev);
  const options = echoedOptions(stack, data, skb.options, source);
  if (options !== undefined) sendIpv4(stack, data, source, options, message);
}

function echoOf(stack: NetworkStack, data: Uint8Array, offset: number): Uint8Array | undefined {
  if (stack.settings.ignoreEcho.ipv4) return undefined;
  const message = data.slice(offset);
  message[0] = ICMP_ECHOREPLY;
  return message;
}

/** Identifier and sequence number, the sender's time, and twice the time here. */
function timesOf(stack: NetworkStack, data: Uint8Array, offset: number): Uint8Array | undefined {
  if (data.length < offset + ICMP_HEADER_BYTES + 4) return undefined;
  const message = new Uint8Array(ICMP_HEADER_BYTES + TIMESTAMP_BYTES);
  message.set(data.subarray(offset, offset + ICMP_HEADER_BYTES + 4));
  message.set([ICMP_TIMESTAMPREPLY, 0]);
  const view = new DataView(message.buffer);
  view.setUint32(12, currentTimestamp(stack));
  view.setUint32(16, currentTimestamp(stack));
  return message;
}

function sendIpv4(
  stack: NetworkStack,
  request: Uint8Array,
  source: Uint8Array,
  options: Uint8Array,
  message: Uint8Array,
): void {
  const start = 20 + options.length;
  const packet = new Uint8Array(start + message.length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x40 | (start / 4);
  packet[1] = request[1]!;
  view.setUint16(2, packet.length);
  view.setUint16(4, stack.random32() >>> 16);
  packet[8] = stack.settings.defaultTtl;
  packet[9] = IpProtocol.ICMP;
  packet.set(source, 12);
  packet.set(request.subarray(12, 16), 16);
  packet.set(options, 20);
  view.setUint16(10, internetChecksum(packet.subarray(0, start)));
  packet.set(message, start);
  view.setUint16(start + 2, 0);
  view.setUint16(start + 2, internetChecksum(packet.subarray(start)));
  stack.sendSkb(new SkBuff(packet, { protocol: ETH_P_IP }));
}

/** Answers a delivered ICMPv6 message, when it is an echo request. */
export function answerIcmpv6(stack: NetworkStack, skb: SkBuff): void {
  const { data, transportOffset: offset } = skb;
  if (stack.settings.ignoreEcho.ipv6 || data[offset] !== ICMPV6_ECHO_REQUEST) return;
  const located = { family: 'ipv6', bytes: data, protocol: IpProtocol.ICMPV6, offset } as const;
  if (data.length < offset + ICMP_HEADER_BYTES || !checksumIsRight(located)) return;
  const fib = stack.fib('ipv6')!;
  const [sender, asked] = [data.subarray(8, 24), data.subarray(24, 40)];
  const device = fib.output(sender);
  const own = fib.addressType(asked) === RouteTypeNumber.LOCAL;
  const source = own
    ? asked
    : device === undefined
      ? undefined
      : fib.sourceAddress(device, fib.nextHop(sender));
  if (source === undefined) return;
  const packet = new Uint8Array(40 + data.length - offset);
  const view = new DataView(packet.buffer);
  const trafficClass = ((data[0]! & 15) << 4) | (data[1]! >> 4);
  view.setUint32(0, 0x60000000 + trafficClass * 0x100000 + (stack.random32() >>> 12));
  view.setUint16(4, packet.length - 40);
  packet[6] = IpProtocol.ICMPV6;
  packet[7] = stack.settings.defaultTtl;
  packet.set(source, 8);
  packet.set(sender, 24);
  packet.set(data.subarray(offset), 40);
  packet[40] = ICMPV6_ECHO_REPLY;
  view.setUint16(42, 0);
  view.setUint16(42, finishSum(addToSum(packet.length - 40 + IpProtocol.ICMPV6, packet, 8, packet.length)));
  stack.sendSkb(new SkBuff(packet, { protocol: ETH_P_IPV6 }));
}
