/** Sysctls of the packet path, under names close to the kernel's, with its defaults (Documentation/networking/ip-sysctl.rst). */
export interface PathSettings {
  /** net.ipv4.ip_forward and net.ipv6.conf.all.forwarding. */
  readonly forwarding: { readonly ipv4: boolean; readonly ipv6: boolean };
  /** net.ipv4.conf.*.rp_filter: 0 off, 1 strict, 2 loose. */
  readonly rpFilter: 0 | 1 | 2;
  readonly routeLocalnet: boolean;
  /** net.ipv4.conf.all.send_redirects: a sender is told of the better next hop on its own link. */
  readonly sendRedirects: boolean;
  /** net.ipv4.icmp_echo_ignore_all, net.ipv6.icmp.echo_ignore_all. */
  readonly ignoreEcho: { readonly ipv4: boolean; readonly ipv6: boolean };
  /** net.ipv4.icmp_echo_ignore_broadcasts. */
  readonly ignoreEchoToMany: boolean;
  /** net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit. */
  readonly defaultTtl: number;
  /** net.ipv4.icmp_ratelimit: milliseconds that one error to a host costs; 0: no limit. */
  readonly icmpRateLimitMs: number;
  /** net.ipv4.icmp_ratemask: the types that are limited, one bit each. */
  readonly icmpRateMask: number;
  /** net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst: what all hosts together may be sent. */
  readonly icmpMessagesPerSec: number;
  readonly icmpMessagesBurst: number;
  /** net.ipv4.route.error_cost and error_burst, in milliseconds: telling a host that there is no route. */
  readonly routeErrorCostMs: number;
  readonly routeErrorBurstMs: number;
  /** net.ipv6.icmp.ratelimit. "Packet too big" is never limited. */
  readonly icmpv6RateLimitMs: number;
}

export const DEFAULT_PATH_SETTINGS: PathSettings = {
  forwarding: { ipv4: false, ipv6: false },
  rpFilter: 0,
  routeLocalnet: false,
  sendRedirects: true,
  ignoreEcho: { ipv4: false, ipv6: false },
  ignoreEchoToMany: true,
  defaultTtl: 64,
  icmpRateLimitMs: 1000,
  icmpRateMask: 6168,
  icmpMessagesPerSec: 1000,
  icmpMessagesBurst: 50,
  routeErrorCostMs: 1000,
  routeErrorBurstMs: 5000,
  icmpv6RateLimitMs: 100,
};
