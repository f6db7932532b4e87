/**
 * The SNMP counters of a namespace under their names in /proc/net/snmp, snmp6 and netstat (prefix and field joined,
 * as nstat(8) prints them). Source: net/ipv4/proc.c, net/ipv6/proc.c.
 */
export const COUNTER_NAMES = [
  'IpInReceives',
  'IpInHdrErrors',
  'IpInAddrErrors',
  'IpForwDatagrams',
  'IpInUnknownProtos',
  'IpInDiscards',
  'IpInDelivers',
  'IpOutRequests',
  'IpOutDiscards',
  'IpOutNoRoutes',
  'IpReasmTimeout',
  'IpReasmReqds',
  'IpReasmOKs',
  'IpReasmFails',
  'IpFragOKs',
  'IpFragFails',
  'IpFragCreates',
  'IpExtInTruncatedPkts',
  'IpExtInCsumErrors',
  'IpExtReasmOverlaps',
  'Ip6InReceives',
  'Ip6InHdrErrors',
  'Ip6InTooBigErrors',
  'Ip6InNoRoutes',
  'Ip6InAddrErrors',
  'Ip6InUnknownProtos',
  'Ip6InTruncatedPkts',
  'Ip6InDiscards',
  'Ip6InDelivers',
  'Ip6OutForwDatagrams',
  'Ip6OutRequests',
  'Ip6OutDiscards',
  'Ip6OutNoRoutes',
  'Ip6ReasmTimeout',
  'Ip6ReasmReqds',
  'Ip6ReasmOKs',
  'Ip6ReasmFails',
  'Ip6FragOKs',
  'Ip6FragFails',
  'Ip6FragCreates',
] as const;
export type CounterName = (typeof COUNTER_NAMES)[number];
export type Counters = Record<CounterName, number>;

/** A fresh set, all zero. */
export function createCounters(): Counters {
  return Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0])) as Counters;
}

/** The counters that are not zero, in /proc order: what a report prints. */
export function nonZeroCounters(counters: Counters): Partial<Counters> {
  return Object.fromEntries(
    COUNTER_NAMES.filter((name) => counters[name] !== 0).map((name) => [name, counters[name]]),
  );
}
