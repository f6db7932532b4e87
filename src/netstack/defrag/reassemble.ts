/**
 * Reassembles the fragments of a capture as a Linux host would that every packet is for, and tells what became of each datagram.
 * Time is that of the capture: datagrams whose rest comes too late time out.
 */
import { ManualClock } from '../clock.ts';
import { type Counters, nonZeroCounters } from '../counters.ts';
import { NF_INET_PRE_ROUTING, NFPROTO_IPV4, NFPROTO_IPV6 } from '../hooks/family.ts';
import { gatherLocalIpv4, receiveIpv4 } from '../input/ipv4.ts';
import { deliverIpv6, receiveIpv6 } from '../input/ipv6.ts';
import { isMartian } from '../input/martian.ts';
import { FRAGMENT_HEADER_BYTES, findFragmentHeader } from '../ipv6-header.ts';
import { NetworkNamespace } from '../netns.ts';
import { ETH_P_IP, ETH_P_IPV6, type NetDevice, SkBuff } from '../skb.ts';
import type { FragmentDirectories } from './context.ts';
import { isIpv4Fragment } from './ipv4.ts';
import type { FragmentLimits } from './queue.ts';
import type { DefragEvent, DiscardReason } from './trace.ts';

/** `host`: reassembly on delivery. `netfilter`: nf_defrag before it, as for conntrack or a link with the defrag flag. */
export type ReassemblyModel = 'host' | 'netfilter';

/** A packet of the capture. */
export interface CapturedIp {
  /** What results call it by. */
  readonly index: number;
  /** From the network header on; what follows the packet is trimmed. */
  readonly bytes: Uint8Array;
  /** ETH_P_IP or ETH_P_IPV6; others are passed over. */
  readonly etherType: number;
  /** Since 1970; `undefined` when the capture has no time: then no time passes. */
  readonly timestampNs: bigint | undefined;
}

export interface ReassembleOptions {
  readonly model: ReassemblyModel;
  /** Sysctls that differ from the kernel's defaults, for all directories alike. */
  readonly limits?: Partial<FragmentLimits>;
  /** net.ipv4.conf.all.route_localnet: loopback addresses may come from outside. Default: no. */
  readonly routeLocalnet?: boolean;
  /** The host is a member of every multicast group. Default: yes. */
  readonly joinsMulticast?: boolean;
  /** Give packets that are no fragments too, as they are. */
  readonly wholePackets?: boolean;
}

/** What became of a datagram, or of a fragment that belonged to none. */
export type ReassembleResult =
  | {
      readonly kind: 'delivered';
      /** The packet that completed it. */
      readonly index: number;
      readonly family: 'ipv4' | 'ipv6';
      /** Upper protocol, behind all extension headers. */
      readonly protocol: number;
      /** Of the IP packet. */
      readonly length: number;
      /** The IP packet. */
      readonly bytes: Uint8Array;
      /** Where the upper protocol begins in it. */
      readonly payloadOffset: number;
      /** 0 for a packet that came whole. */
      readonly fragments: number;
    }
  | {
      readonly kind: 'dropped';
      /** The packet that brought it about; `undefined` for timeouts and for what is incomplete at the end. */
      readonly index: number | undefined;
      readonly reason: DiscardReason | 'input' | 'martian' | 'not-joined' | 'incomplete';
      /** Fragments lost, that one included. 0 when a datagram lives on without its duplicate. */
      readonly fragments: number;
    };

/** After the last packet. */
export interface ReassembleSummary {
  readonly packets: number;
  readonly fragments: number;
  readonly delivered: number;
  readonly dropped: number;
  /** Counters that moved, under their /proc names. */
  readonly counters: Partial<Counters>;
}

/** Results in the order in which they come about; the generator's return value is the summary. */
export function* reassemble(
  packets: Iterable<CapturedIp>,
  options: ReassembleOptions,
): Generator<ReassembleResult, ReassembleSummary> {
  const host = new CaptureHost(options);
  let count = 0;
  for (const packet of packets) {
    count++;
    host.receive(packet);
    yield* host.take();
  }
  host.finish();
  yield* host.take();
  return { packets: count, ...host.totals, counters: nonZeroCounters(host.net.counters) };
}

class CaptureHost {
  readonly clock: ManualClock = new ManualClock();
  readonly net: NetworkNamespace;
  readonly totals: { fragments: number; delivered: number; dropped: number } = {
    fragments: 0,
    delivered: 0,
    dropped: 0,
  };
  readonly #device: NetDevice = {
    ifindex: 1,
    name: 'capture',
    loopback: false,
    l3mdevIfindex: 0,
    mtu: 65535,
  };
  readonly #results: ReassembleResult[] = [];
  readonly #options: ReassembleOptions;
  #index: number | undefined;
  #completedFrom = 0;
  #explained = false;

  constructor(options: ReassembleOptions) {
    this.#options = options;
    this.net = new NetworkNamespace(1n, this.clock, { traceDefrag: (event) => this.#trace(event) });
    this.net.addDevice(this.#device);
    for (const directory of directoriesOf(this.net.fragments)) directory.configure(options.limits ?? {});
    if (options.model === 'netfilter') {
      this.net.defrag.enable('ipv4');
      this.net.defrag.enable('ipv6');
    }
  }

  *take(): Generator<ReassembleResult> {
    for (const result of this.#results) {
      if (result.kind === 'delivered') this.totals.delivered++;
      else this.totals.dropped++;
      yield result;
    }
    this.#results.length = 0;
  }

  receive({ index, bytes, etherType, timestampNs }: CapturedIp): void {
    if (timestampNs !== undefined) this.clock.moveTo(Number(timestampNs / 1000n) / 1000);
    this.#index = undefined;
    this.net.runTimers();
    if (etherType !== ETH_P_IP && etherType !== ETH_P_IPV6) return;
    const fragment = etherType === ETH_P_IP ? looksCutIpv4(bytes) : looksCutIpv6(bytes);
    if (!fragment && this.#options.wholePackets !== true) return;
    if (fragment) this.totals.fragments++;
    this.#index = index;
    this.#completedFrom = 0;
    this.#explained = false;
    const skb = new SkBuff(bytes, { protocol: etherType, dev: this.#device, timestampNs: timestampNs ?? 0n });
    if (etherType === ETH_P_IP) this.#receiveIpv4(skb);
    else this.#receiveIpv6(skb);
  }

  /** What waits now waits in vain. */
  finish(): void {
    for (const directory of directoriesOf(this.net.fragments))
      for (const queue of directory.queues())
        this.#results.push({
          kind: 'dropped',
          index: undefined,
          reason: 'incomplete',
          fragments: queue.runs.count,
        });
    this.net.destroy();
  }

  #receiveIpv4(skb: SkBuff): void {
    if (receiveIpv4(this.net, skb) !== undefined) {
      this.#dropInput('input');
      return;
    }
    const place = { in: this.#device };
    this.net.netfilter.pass(NFPROTO_IPV4, NF_INET_PRE_ROUTING, skb, place, (routed) => {
      const destination = routed.data.subarray(16, 20);
      if (isMartian(routed.data.subarray(12, 16), destination, this.#options.routeLocalnet)) {
        this.#dropInput('martian');
        return;
      }
      if ((destination[0]! & 0xf0) === 0xe0 && this.#options.joinsMulticast === false) {
        this.#dropInput('not-joined');
        return;
      }
      if (!gatherLocalIpv4(this.net, routed)) return;
      this.#deliver(routed, 'ipv4', routed.data[9]!, (routed.data[0]! & 15) * 4);
    });
  }

  #receiveIpv6(skb: SkBuff): void {
    if (receiveIpv6(this.net, skb) !== undefined) {
      this.#dropInput('input');
      return;
    }
    const place = { in: this.#device };
    this.net.netfilter.pass(NFPROTO_IPV6, NF_INET_PRE_ROUTING, skb, place, (routed) => {
      const protocol = deliverIpv6(this.net, routed);
      if (protocol !== undefined) this.#deliver(routed, 'ipv6', protocol, routed.transportOffset);
      else if (this.#completedFrom > 0) this.#dropInput('input');
    });
  }

  #deliver({ data }: SkBuff, family: 'ipv4' | 'ipv6', protocol: number, payloadOffset: number): void {
    if (this.#completedFrom === 0 && this.#options.wholePackets !== true) return;
    this.#results.push({
      kind: 'delivered',
      index: this.#index!,
      family,
      protocol,
      length: data.length,
      bytes: data,
      payloadOffset,
      fragments: this.#completedFrom,
    });
  }

  /** Dropped by header checks or routing, before or behind reassembly, unless reassembly has said why itself. */
  #dropInput(reason: 'input' | 'martian' | 'not-joined'): void {
    if (this.#explained) return;
    this.#results.push({
      kind: 'dropped',
      index: this.#index,
      reason,
      fragments: Math.max(1, this.#completedFrom),
    });
  }

  #trace(event: DefragEvent): void {
    if (event.kind === 'completed') this.#completedFrom = event.fragments;
    if (event.kind !== 'discarded') return;
    this.#explained = true;
    const { reason, stored, queueKept } = event;
    const own = this.#index === undefined ? 0 : 1;
    this.#results.push({
      kind: 'dropped',
      index: this.#index,
      reason,
      fragments: reason === 'duplicate' ? 0 : reason === 'timeout' ? stored : queueKept ? own : stored + own,
    });
  }
}

function directoriesOf(
  fragments: FragmentDirectories,
): readonly FragmentDirectories[keyof FragmentDirectories][] {
  return [fragments.ipv4, fragments.ipv6, fragments.netfilter6];
}

function looksCutIpv4(bytes: Uint8Array): boolean {
  return bytes.length >= 20 && isIpv4Fragment(bytes);
}

function looksCutIpv6(bytes: Uint8Array): boolean {
  const position = bytes.length >= 40 ? findFragmentHeader(bytes) : undefined;
  return position !== undefined && position.offset + FRAGMENT_HEADER_BYTES <= bytes.length;
}
