/**
 * A network namespace: clock, counters, sysctls, devices, hooks and incomplete datagrams of one host. The stations of the packet
 * path work on it; routes, sockets and conntrack attach to it. What lies outside is injected.
 */
import { type Clock, TimerQueue } from './clock.ts';
import { type Counters, createCounters } from './counters.ts';
import type { DefragContext, FragmentDirectories, RouteType } from './defrag/context.ts';
import { DefragSwitch } from './defrag/hook.ts';
import { IPQ_BYTES, IPV4_FRAGMENT_LIMITS, Ipv4Peers } from './defrag/ipv4-queue.ts';
import { FRAG_QUEUE_BYTES, IPV6_FRAGMENT_LIMITS } from './defrag/ipv6-queue.ts';
import { FragmentDirectory } from './defrag/queue.ts';
import type { DefragTrace } from './defrag/trace.ts';
import { Netfilter } from './hooks/netfilter.ts';
import type { HookNamespace, NfHookState } from './hooks/state.ts';
import type { IcmpError } from './icmp-error.ts';
import type { NetDevice, SkBuff } from './skb.ts';

/** What a namespace asks of its surroundings. Everything has a default that suits a host that only listens. */
export interface NamespaceWorld {
  /** See DefragContext. Default: every destination is local. */
  routeInput?(source: Uint8Array, destination: Uint8Array, dev: NetDevice): RouteType | undefined;
  /** Default: nobody is told. */
  sendIcmpError?(error: IcmpError): void;
  /** See NetfilterWorld. Default: the route stays good. */
  reroute?(skb: SkBuff, state: NfHookState): number;
  packetFreed?(skb: SkBuff, state: NfHookState): void;
  warnVerdict?(verdict: number, state: NfHookState): void;
  traceDefrag?: DefragTrace;
}

/** One namespace. Two of them share nothing. */
export class NetworkNamespace implements DefragContext, HookNamespace {
  /** Never reused, never 0 (SO_NETNS_COOKIE). */
  readonly cookie: bigint;
  readonly clock: Clock;
  readonly timers: TimerQueue = new TimerQueue();
  readonly counters: Counters = createCounters();
  readonly fragments: FragmentDirectories;
  readonly peers: Ipv4Peers = new Ipv4Peers();
  readonly netfilter: Netfilter;
  readonly defrag: DefragSwitch;
  readonly traceDefrag: DefragTrace | undefined;
  readonly #world: NamespaceWorld;
  readonly #devices = new Map<number, NetDevice>();
  #dying = false;

  constructor(cookie: bigint, clock: Clock, world: NamespaceWorld = {}) {
    this.cookie = cookie;
    this.clock = clock;
    this.#world = world;
    this.traceDefrag = world.traceDefrag;
    const { timers } = this;
    this.fragments = {
      ipv4: new FragmentDirectory(IPQ_BYTES, IPV4_FRAGMENT_LIMITS, clock, timers),
      ipv6: new FragmentDirectory(FRAG_QUEUE_BYTES, IPV6_FRAGMENT_LIMITS, clock, timers),
      netfilter6: new FragmentDirectory(FRAG_QUEUE_BYTES, IPV6_FRAGMENT_LIMITS, clock, timers),
    };
    this.netfilter = new Netfilter(this, {
      owns: (dev) => this.#devices.get(dev.ifindex) === dev,
      freed: (skb, state) => world.packetFreed?.(skb, state),
      reroute: (skb, state) => world.reroute?.(skb, state) ?? 0,
      warnVerdict: (verdict, state) => world.warnVerdict?.(verdict, state),
    });
    this.defrag = new DefragSwitch(this, this.netfilter.registry);
  }

  get dying(): boolean {
    return this.#dying;
  }

  /** Adds a device. @throws RangeError when its index is taken */
  addDevice(dev: NetDevice): void {
    if (this.#devices.has(dev.ifindex)) throw new RangeError(`ifindex ${dev.ifindex} is taken`);
    this.#devices.set(dev.ifindex, dev);
  }

  /** Removes a device and the hooks on it. */
  removeDevice(dev: NetDevice): void {
    this.netfilter.registry.forgetDevice(dev);
    this.#devices.delete(dev.ifindex);
  }

  deviceByIndex(ifindex: number): NetDevice | undefined {
    return this.#devices.get(ifindex);
  }

  routeInput(source: Uint8Array, destination: Uint8Array, dev: NetDevice): RouteType | undefined {
    return this.#world.routeInput === undefined ? 'local' : this.#world.routeInput(source, destination, dev);
  }

  sendIcmpError(error: IcmpError): void {
    this.#world.sendIcmpError?.(error);
  }

  /** Fires what is due by now: call it whenever the clock has moved. */
  runTimers(): void {
    this.timers.runDue(this.clock.nowMs());
  }

  /** The end: incomplete datagrams are freed without a word, and no fragment is taken in any more. */
  destroy(): void {
    this.#dying = true;
    this.fragments.ipv4.destroy();
    this.fragments.ipv6.destroy();
    this.fragments.netfilter6.destroy();
  }
}
