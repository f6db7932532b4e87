/** What reassembly needs of its namespace. */
import type { Clock, TimerQueue } from '../clock.ts';
import type { Counters } from '../counters.ts';
import type { IcmpError } from '../icmp-error.ts';
import type { NetDevice } from '../skb.ts';
import type { Ipv4FragmentQueue, Ipv4Peers } from './ipv4-queue.ts';
import type { Ipv6FragmentQueue } from './ipv6-queue.ts';
import type { FragmentDirectory } from './queue.ts';
import type { DefragTrace } from './trace.ts';

/** RTN_* as far as input can meet them. */
export type RouteType = 'unicast' | 'local' | 'broadcast' | 'multicast';

/** The three directories of a namespace: each has its own sysctls and its own memory. */
export interface FragmentDirectories {
  /** net.ipv4.ipfrag_*: every user of IPv4 reassembly. */
  readonly ipv4: FragmentDirectory<Ipv4FragmentQueue>;
  /** net.ipv6.ip6frag_*: the host. */
  readonly ipv6: FragmentDirectory<Ipv6FragmentQueue>;
  /** net.netfilter.nf_conntrack_frag6_*: nf_defrag. */
  readonly netfilter6: FragmentDirectory<Ipv6FragmentQueue>;
}

/** A namespace, as reassembly sees it. */
export interface DefragContext {
  readonly clock: Clock;
  readonly timers: TimerQueue;
  readonly counters: Counters;
  readonly fragments: FragmentDirectories;
  readonly peers: Ipv4Peers;
  /** `undefined` when the device has gone. */
  deviceByIndex(ifindex: number): NetDevice | undefined;
  /** What ip_route_input says of a packet that came by `dev`; `undefined` when it would be refused. */
  routeInput(source: Uint8Array, destination: Uint8Array, dev: NetDevice): RouteType | undefined;
  /** Called for each ICMP error; whoever sends applies rate limits. */
  sendIcmpError(error: IcmpError): void;
  readonly traceDefrag?: DefragTrace | undefined;
}
