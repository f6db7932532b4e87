/**
 * What each kind of REJECT answers: ICMP and ICMPv6 codes of "destination unreachable" by enum ipt_reject_with and
 * ip6t_reject_with (include/uapi/linux/netfilter_ipv4/ipt_REJECT.h, netfilter_ipv6/ip6t_REJECT.h; RFC 1122, RFC 4443).
 */
import type { Family } from '../../../net/index.ts';

/** enum value of the TCP reset. */
export const TCP_RESET: Readonly<Record<Family, number>> = { ipv4: 7, ipv6: 6 };

/** [enum value, code]: ICMP type 3, ICMPv6 type 1. */
export const UNREACHABLE_CODES: Readonly<Record<Family, readonly (readonly [number, number])[]>> = {
  ipv4: [
    [0, 0],
    [1, 1],
    [2, 2],
    [3, 3],
    [5, 9],
    [6, 10],
    [8, 13],
  ],
  ipv6: [
    [0, 0],
    [1, 1],
    [3, 3],
    [4, 4],
    [7, 5],
    [8, 6],
  ],
};
