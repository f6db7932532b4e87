/**
 * Sending ICMP errors: whether, from which address, how often.
 * Sources: net/ipv4/icmp.c (__icmp_send), net/ipv6/icmp.c (icmp6_send); RFC 1122 §3.2.2, RFC 4443 §2.4.
 */
import { Tracking } from '../conntrack/tracking.ts';
import { buildIcmpError, ICMPV6_PKT_TOOBIG, type IcmpError, mayAnswerIpv4 } from '../icmp-error.ts';
import { skipExtensionHeaders } from '../ipv6-header.ts';
import { ETH_P_IP, ETH_P_IPV6, SkBuff } from '../skb.ts';
import { RouteTypeNumber } from './fib.ts';
import { echoedOptions } from './options.ts';
import { GlobalLimit, PeerLimit, XRLIM_BURST_FACTOR } from './rate-limit.ts';
import type { NetworkStack } from './stack.ts';

const IPPROTO_ICMPV6 = 58;
/** Below this ICMPv6 types are errors. */
const ICMPV6_INFOMSG = 128;

/** The ICMP errors of one namespace, and what it remembers to limit them. */
export class IcmpSender {
  readonly #stack: NetworkStack;
  readonly #peers = { ipv4: new PeerLimit(), ipv6: new PeerLimit() };
  readonly #global = new GlobalLimit();

  constructor(stack: NetworkStack) {
    this.#stack = stack;
  }

  /** Sends the error, unless rules of ICMP or the rate forbid it. */
  send(error: IcmpError): void {
    const skb = this.#build(error);
    this.#stack.trace?.({ kind: 'icmp-error', error, sent: skb !== undefined });
    if (skb !== undefined) this.#stack.sendSkb(skb);
  }

  /** Whether a host may be told that its packet has no route; from the same account as its ICMP errors (ip_error). */
  mayTellUnroutable(source: Uint8Array): boolean {
    const { routeErrorCostMs, routeErrorBurstMs } = this.#stack.settings;
    const nowMs = this.#stack.net.clock.nowMs();
    return this.#peers.ipv4.allow(String(source), nowMs, routeErrorCostMs, routeErrorBurstMs);
  }

  /** Whether a host may be told of a better next hop. */
  mayRedirect(source: Uint8Array): boolean {
    return this.#peers.ipv4.allowRedirect(String(source), this.#stack.net.clock.nowMs());
  }

  #build(error: IcmpError): SkBuff | undefined {
    const { family } = error;
    const fib = this.#stack.fib(family);
    if (fib === undefined) return undefined;
    const ipv4 = family === 'ipv4';
    if (ipv4 ? !mayAnswerIpv4(error.packet, error.pktType) : !mayAnswerIpv6(error)) return undefined;
    const length = ipv4 ? 4 : 16;
    const from = ipv4 ? 12 : 8;
    const source = error.packet.subarray(from, from + length);
    const destination = error.packet.subarray(from + length, from + 2 * length);
    const type = fib.addressType(destination);
    if (ipv4 && (type === RouteTypeNumber.BROADCAST || type === RouteTypeNumber.MULTICAST)) return undefined;
    const outDevice = fib.output(source);
    if (outDevice === undefined || !this.#mayBeAnswered(error, source)) return undefined;
    const own = fib.isOwn(destination) ? destination : fib.sourceAddress(outDevice, fib.nextHop(source));
    if (own === undefined || !this.#inRate(error, source, outDevice)) return undefined;
    const options = ipv4 ? echoedOptions(this.#stack, error.packet, error.options, own) : undefined;
    if (ipv4 && options === undefined) return undefined;
    const bytes = buildIcmpError(error, {
      source: own,
      ...(options === undefined ? {} : { options }),
      hopLimit: this.#stack.settings.defaultTtl,
      identOrFlow: this.#stack.random32() >>> 12,
    });
    const skb = new SkBuff(bytes, { protocol: ipv4 ? ETH_P_IP : ETH_P_IPV6 });
    if (error.nfct instanceof Tracking) skb.nfct = this.#stack.conntrack?.related(error.nfct);
    return skb;
  }

  /** Nobody can be told who has no unicast address. */
  #mayBeAnswered({ family }: IcmpError, source: Uint8Array): boolean {
    if (source.every((byte) => byte === 0)) return false;
    return family === 'ipv4' ? source[0]! < 0xe0 : source[0] !== 0xff;
  }

  #inRate(error: IcmpError, destination: Uint8Array, outDevice: string): boolean {
    const { settings } = this.#stack;
    const nowMs = this.#stack.net.clock.nowMs();
    const peer = String(destination);
    if (error.family === 'ipv6') {
      if (error.type === ICMPV6_PKT_TOOBIG || outDevice === 'lo') return true;
      const costMs = settings.icmpv6RateLimitMs;
      return this.#peers.ipv6.allow(peer, nowMs, costMs, XRLIM_BURST_FACTOR * costMs);
    }
    if (((1 << error.type) & settings.icmpRateMask) === 0) return true;
    if (!this.#global.allow(nowMs, settings.icmpMessagesPerSec, settings.icmpMessagesBurst)) return false;
    const costMs = settings.icmpRateLimitMs;
    if (outDevice === 'lo') return true;
    return this.#peers.ipv4.allow(peer, nowMs, costMs, XRLIM_BURST_FACTOR * costMs);
  }
}

/** RFC 4443 §2.4(e): not about errors; about multicast only "packet too big" and unknown options that ask for it. */
function mayAnswerIpv6({ packet, type, code, pktType }: IcmpError): boolean {
  const toMany = packet[24] === 0xff || pktType !== 0;
  const exempt = type === ICMPV6_PKT_TOOBIG || (type === 4 && code === 2);
  if (toMany && !exempt) return false;
  const end = skipExtensionHeaders(packet, 40, packet[6]!);
  if (end?.nextHeader !== IPPROTO_ICMPV6) return true;
  // A type that the packet does not reach counts as an error.
  return (packet[end.offset] ?? 0) >= ICMPV6_INFOMSG;
}
