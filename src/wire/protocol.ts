/** IP protocol and IPv6 next-header numbers (IANA "Protocol Numbers"; uapi/linux/in.h and in6.h spell them so). */
export const IpProtocol = {
  HOPOPTS: 0,
  ICMP: 1,
  IGMP: 2,
  IPIP: 4,
  TCP: 6,
  UDP: 17,
  DCCP: 33,
  IPV6: 41,
  ROUTING: 43,
  FRAGMENT: 44,
  GRE: 47,
  ESP: 50,
  AH: 51,
  ICMPV6: 58,
  NONE: 59,
  DSTOPTS: 60,
  SCTP: 132,
  MH: 135,
  UDPLITE: 136,
  HIP: 139,
  SHIM6: 140,
} as const;
export type IpProtocol = (typeof IpProtocol)[keyof typeof IpProtocol];

const NAMES: ReadonlyMap<number, string> = new Map<number, string>([
  [IpProtocol.HOPOPTS, 'HOPOPTS'],
  [IpProtocol.ICMP, 'ICMP'],
  [IpProtocol.IGMP, 'IGMP'],
  [IpProtocol.IPIP, 'IPIP'],
  [IpProtocol.TCP, 'TCP'],
  [IpProtocol.UDP, 'UDP'],
  [IpProtocol.DCCP, 'DCCP'],
  [IpProtocol.IPV6, 'IPv6'],
  [IpProtocol.ROUTING, 'ROUTING'],
  [IpProtocol.FRAGMENT, 'FRAGMENT'],
  [IpProtocol.GRE, 'GRE'],
  [IpProtocol.ESP, 'ESP'],
  [IpProtocol.AH, 'AH'],
  [IpProtocol.ICMPV6, 'ICMPv6'],
  [IpProtocol.NONE, 'NONE'],
  [IpProtocol.DSTOPTS, 'DSTOPTS'],
  [IpProtocol.SCTP, 'SCTP'],
  [IpProtocol.MH, 'MH'],
  [IpProtocol.UDPLITE, 'UDPLite'],
  [IpProtocol.HIP, 'HIP'],
  [IpProtocol.SHIM6, 'SHIM6'],
]);

/** The protocol's name, or `proto-N`. */
export function protocolName(protocol: number): string {
  return NAMES.get(protocol) ?? `proto-${protocol}`;
}
