/**
 * Refusals: what `-j REJECT` answers. Sources: net/ipv4/netfilter/nf_reject_ipv4.c, net/ipv6/netfilter/nf_reject_ipv6.c;
 * RFC 9293 §3.10.7.1 (the reset of a segment that belongs to no connection).
 */
import {
  addToSum,
  finishSum,
  IpProtocol,
  internetChecksum,
  pseudoHeaderSum,
  read16,
} from '../../wire/index.ts';
import { checksumIsRight } from '../conntrack/checksum.ts';
import { type Located, locate } from '../conntrack/packet.ts';
import { Tracking } from '../conntrack/tracking.ts';
import { ICMP_DEST_UNREACH, ICMPV6_DEST_UNREACH, icmpErrorAbout } from '../icmp-error.ts';
import { ETH_P_IP, SkBuff } from '../skb.ts';
import { RouteTypeNumber } from './fib.ts';
import type { NetworkStack } from './stack.ts';

/** ICMP codes by the numbers of enum ipt_reject_with and ip6t_reject_with; the others are no ICMP answers. */
const IPV4_CODES: ReadonlyMap<number, number> = new Map([
  [0, 0],
  [1, 1],
  [2, 2],
  [3, 3],
  [5, 9],
  [6, 10],
  [8, 13],
]);
const IPV6_CODES: ReadonlyMap<number, number> = new Map([
  [0, 0],
  [1, 1],
  [2, 2],
  [3, 3],
  [4, 4],
  [7, 5],
  [8, 6],
]);
const IPT_TCP_RESET = 7;
const IP6T_TCP_RESET = 6;

const TCP_HEADER_BYTES = 20;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 0x10;

/** Answers a packet that a rule refuses; the packet itself is the caller's to drop. */
export function rejectPacket(stack: NetworkStack, skb: SkBuff, kind: number): void {
  const ipv4 = skb.protocol === ETH_P_IP;
  const located = locate(ipv4 ? 'ipv4' : 'ipv6', skb.data);
  if (located !== undefined && !soundOrUnverified(located)) return;
  if (kind === (ipv4 ? IPT_TCP_RESET : IP6T_TCP_RESET)) {
    if (located !== undefined) sendReset(stack, skb, located);
    return;
  }
  const code = (ipv4 ? IPV4_CODES : IPV6_CODES).get(kind);
  if (code === undefined) return;
  stack.net.sendIcmpError(icmpErrorAbout(skb, ipv4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH, code));
}

/** Broken packets are not answered; what has no checksum is. */
function soundOrUnverified(located: Located): boolean {
  const { protocol, bytes, offset, family } = located;
  // reject6_csum_ok() wants something behind the headers.
  if (family === 'ipv6' && offset >= bytes.length) return false;
  switch (protocol) {
    case IpProtocol.UDP:
      if (bytes.length < offset + 8) return true;
      return (read16(bytes, offset + 6) === 0 && family === 'ipv4') || checksumIsRight(located);
    case IpProtocol.TCP:
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6:
      return checksumIsRight(located);
    default:
      return true;
  }
}

function sendReset(stack: NetworkStack, skb: SkBuff, located: Located): void {
  const { bytes, offset, protocol, family } = located;
  if (protocol !== IpProtocol.TCP || bytes.length < offset + TCP_HEADER_BYTES) return;
  if ((bytes[offset + 13]! & RST) !== 0) return;
  if (!isBetweenHosts(stack, located)) return;
  const answer = buildReset(located, stack.settings.defaultTtl);
  const reset = new SkBuff(answer, { protocol: family === 'ipv4' ? ETH_P_IP : skb.protocol });
  if (skb.nfct instanceof Tracking) reset.nfct = stack.conntrack?.related(skb.nfct);
  stack.sendSkb(reset);
}

/** No reset for what was sent to many, nor to one that is none. */
function isBetweenHosts(stack: NetworkStack, { family, bytes }: Located): boolean {
  const [from, length] = family === 'ipv4' ? [12, 4] : [8, 16];
  const ends = [
    bytes.subarray(from, from + length),
    bytes.subarray(from + length, from + 2 * length),
  ] as const;
  if (family === 'ipv6') return ends.every((end) => end[0] !== 0xff && end.some((byte) => byte !== 0));
  const type = stack.fib(family)?.addressType(ends[1]);
  return type !== RouteTypeNumber.BROADCAST && type !== RouteTypeNumber.MULTICAST;
}

function buildReset({ family, bytes, offset }: Located, hopLimit: number): Uint8Array {
  const ipv4 = family === 'ipv4';
  const start = ipv4 ? 20 : 40;
  const [from, length] = ipv4 ? [12, 4] : [8, 16];
  const answer = new Uint8Array(start + TCP_HEADER_BYTES);
  const view = new DataView(answer.buffer);
  if (ipv4) {
    answer[0] = 0x45;
    view.setUint16(2, answer.length);
    view.setUint16(6, 0x4000);
    answer[8] = hopLimit;
    answer[9] = IpProtocol.TCP;
  } else {
    answer[0] = 0x60;
    view.setUint16(4, TCP_HEADER_BYTES);
    answer[6] = IpProtocol.TCP;
    answer[7] = hopLimit;
  }
  answer.set(bytes.subarray(from + length, from + 2 * length), from);
  answer.set(bytes.subarray(from, from + length), from + length);
  if (ipv4) view.setUint16(10, internetChecksum(answer.subarray(0, 20)));
  const old = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint16(start, old.getUint16(offset + 2));
  view.setUint16(start + 2, old.getUint16(offset));
  const flags = bytes[offset + 13]!;
  if ((flags & ACK) !== 0) view.setUint32(start + 4, old.getUint32(offset + 8));
  else {
    const payload = bytes.length - offset - (bytes[offset + 12]! >> 4) * 4;
    const taken = payload + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
    view.setUint32(start + 8, (old.getUint32(offset + 4) + taken) >>> 0);
  }
  answer[start + 12] = (TCP_HEADER_BYTES / 4) << 4;
  answer[start + 13] = RST | ((flags & ACK) !== 0 ? 0 : ACK);
  const pseudo = pseudoHeaderSum(answer, from, from + length, length, IpProtocol.TCP, TCP_HEADER_BYTES);
  view.setUint16(start + 16, finishSum(addToSum(pseudo, answer, start, answer.length)));
  return answer;
}
