/**
 * Who asked for a reassembly: part of the key, so that hooks, local delivery and conntrack zones never share a queue.
 * Source: include/net/ip.h (enum ip_defrag_users), include/net/ipv6_frag.h (enum ip6_defrag_users).
 */

/** Highest zone id: users that have zones take a range this long. */
const ZONES = 0xffff;

export const IpDefragUser = {
  LOCAL_DELIVER: 0,
  CALL_RA_CHAIN: 1,
  CONNTRACK_IN: 2,
  CONNTRACK_OUT: 0x10002,
  CONNTRACK_BRIDGE_IN: 0x20002,
  VS_IN: 0x30002,
  VS_OUT: 0x30003,
  VS_FWD: 0x30004,
  AF_PACKET: 0x30005,
  MACVLAN: 0x30006,
  /** The user that the kfunc form of 2023 added. */
  BPF: 0x30007,
} as const;

export const Ip6DefragUser = {
  LOCAL_DELIVER: 0,
  CONNTRACK_IN: 1,
  CONNTRACK_OUT: 0x10001,
  CONNTRACK_BRIDGE_IN: 0x20001,
  BPF: 0x30001,
} as const;

/** Users whose timeouts stay silent unless the datagram was for this host (ip_fragment.c, frag_expire_skip_icmp). */
export function expiresSilently(user: number): boolean {
  return (
    user === IpDefragUser.AF_PACKET ||
    (user >= IpDefragUser.CONNTRACK_IN && user <= IpDefragUser.CONNTRACK_IN + ZONES) ||
    (user >= IpDefragUser.CONNTRACK_BRIDGE_IN && user <= IpDefragUser.CONNTRACK_BRIDGE_IN + ZONES)
  );
}
