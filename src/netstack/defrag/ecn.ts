/**
 * Explicit Congestion Notification of a reassembled datagram: RFC 3168 §5.3.
 * Source: net/ipv4/inet_fragment.c, ip_frag_ecn_table.
 */

/** Bit of one fragment in the set that a queue collects: not-ECT 1, ECT(1) 2, ECT(0) 4, CE 8. */
export function ecnBit(dsField: number): number {
  return 1 << (dsField & 3);
}

const NOT_ECT = 1;
const CE = 8;
const INET_ECN_CE = 3;

/**
 * What to OR into the datagram's traffic class: 0, or 3 when congestion was met on the way. `undefined` when the set
 * is impossible from one sender (not-ECT together with anything else) and the datagram is to be dropped.
 */
export function reassembledEcn(set: number): number | undefined {
  if ((set & NOT_ECT) !== 0 && set !== NOT_ECT) return undefined;
  // A datagram whose every fragment carries CE has it in its own header already.
  return (set & CE) !== 0 && set !== CE ? INET_ECN_CE : 0;
}
