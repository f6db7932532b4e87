/**
 * A netstack host that listens on raw sockets: packets go in at its device, datagrams and ICMP errors come out. The counterpart
 * of the namespace that the recorded vectors were made in.
 */
import {
  buildIcmpError,
  type Counters,
  type DefragEvent,
  deliverIpv6,
  ETH_P_IP,
  ETH_P_IPV6,
  gatherLocalIpv4,
  ManualClock,
  mayAnswerIpv4,
  type NetDevice,
  NetworkNamespace,
  NF_INET_LOCAL_IN,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  nonZeroCounters,
  receiveIpv4,
  receiveIpv6,
  SkBuff,
} from '../../src/netstack/index.ts';

export interface Delivered {
  readonly family: 4 | 6;
  readonly protocol: number;
  /** IPv4: the whole packet. IPv6: from the upper header on. */
  readonly bytes: Uint8Array;
  /** IPv4: bytes of its header; IPv6: 0. */
  readonly headerLength: number;
}

/** A TAP device takes page fragments: NET_SKB_PAD, frame and skb_shared_info, to cache lines, and the sk_buff (tun_build_skb). */
function tapTruesize(length: number): number {
  return 256 + 320 + ((length + 64 + 14 + 63) & ~63);
}

const HOST_IPV4 = Uint8Array.of(192, 0, 2, 1);
const HOST_IPV6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

export class DefragHost {
  readonly clock: ManualClock = new ManualClock();
  readonly device: NetDevice = { ifindex: 2, name: 'tun0', loopback: false, l3mdevIfindex: 0, mtu: 1500 };
  readonly net: NetworkNamespace;
  readonly delivered: Delivered[] = [];
  readonly icmp: Uint8Array[] = [];
  readonly events: DefragEvent[] = [];

  constructor(mode: 'plain' | 'ct') {
    this.net = new NetworkNamespace(1n, this.clock, {
      sendIcmpError: (error) => {
        if (error.family === 'ipv4' && !mayAnswerIpv4(error.packet, error.pktType)) return;
        const source = error.family === 'ipv4' ? HOST_IPV4 : HOST_IPV6;
        this.icmp.push(buildIcmpError(error, { source, hopLimit: 64, identOrFlow: 0 }));
      },
      traceDefrag: (event) => this.events.push(event),
    });
    this.net.addDevice(this.device);
    if (mode === 'ct') {
      this.net.defrag.enable('ipv4');
      this.net.defrag.enable('ipv6');
    }
  }

  /** One IP packet comes in; what is left over of it is up to whoever gets it. */
  receive(bytes: Uint8Array): void {
    const ipv6 = bytes[0]! >> 4 === 6;
    const skb = new SkBuff(bytes, {
      protocol: ipv6 ? ETH_P_IPV6 : ETH_P_IP,
      dev: this.device,
      truesize: tapTruesize(bytes.length),
    });
    const { netfilter } = this.net;
    const place = { in: this.device };
    if (ipv6) {
      if (receiveIpv6(this.net, skb) !== undefined) return;
      netfilter.pass(NFPROTO_IPV6, NF_INET_PRE_ROUTING, skb, place, (routed) =>
        netfilter.pass(NFPROTO_IPV6, NF_INET_LOCAL_IN, routed, place, (local) => this.#deliverIpv6(local)),
      );
    } else {
      if (receiveIpv4(this.net, skb) !== undefined) return;
      netfilter.pass(NFPROTO_IPV4, NF_INET_PRE_ROUTING, skb, place, (routed) => {
        if (!gatherLocalIpv4(this.net, routed)) return;
        netfilter.pass(NFPROTO_IPV4, NF_INET_LOCAL_IN, routed, place, (local) => this.#deliverIpv4(local));
      });
    }
  }

  #deliverIpv4({ data }: SkBuff): void {
    this.delivered.push({ family: 4, protocol: data[9]!, bytes: data, headerLength: (data[0]! & 15) * 4 });
  }

  #deliverIpv6(skb: SkBuff): void {
    const protocol = deliverIpv6(this.net, skb);
    if (protocol === undefined) return;
    this.delivered.push({
      family: 6,
      protocol,
      bytes: skb.data.subarray(skb.transportOffset),
      headerLength: 0,
    });
  }

  /** Lets time pass and timers fire. */
  advance(ms: number): void {
    this.clock.advance(ms);
    this.net.runTimers();
  }

  /** What came out, and the counters of reassembly and header errors that moved, since the last call. */
  take(): { delivered: Delivered[]; icmp: Uint8Array[]; counters: Partial<Counters> } {
    const counters = { ...nonZeroCounters(this.net.counters) };
    for (const name of Object.keys(counters) as (keyof Counters)[]) this.net.counters[name] = 0;
    for (const name of UNRECORDED) delete counters[name];
    return { delivered: this.delivered.splice(0), icmp: this.icmp.splice(0), counters };
  }
}

/** Counters of the path itself, which the records leave out. */
const UNRECORDED = ['IpInReceives', 'Ip6InReceives', 'Ip6InDiscards'] as const;
