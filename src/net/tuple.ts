/** Five-tuples: what tells one flow of packets from another. */
import { type Address, compareAddressBytes, formatAddress, sameAddress } from './address.ts';

/** Ports in host order; protocols without ports have 0 in both. Both addresses are of one family. */
export interface FiveTuple {
  readonly protocol: number;
  readonly source: Address;
  readonly destination: Address;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** The tuple of the packets that answer. */
export function reverseTuple(tuple: FiveTuple): FiveTuple {
  return {
    protocol: tuple.protocol,
    source: tuple.destination,
    destination: tuple.source,
    sourcePort: tuple.destinationPort,
    destinationPort: tuple.sourcePort,
  };
}

/** True when all five agree. */
export function sameTuple(a: FiveTuple, b: FiveTuple): boolean {
  return (
    a.protocol === b.protocol &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort &&
    sameAddress(a.source, b.source) &&
    sameAddress(a.destination, b.destination)
  );
}

/** A total order: protocol, source, source port, destination, destination port. */
export function compareTuples(a: FiveTuple, b: FiveTuple): number {
  return (
    a.protocol - b.protocol ||
    compareAddressBytes(a.source.bytes, b.source.bytes) ||
    a.sourcePort - b.sourcePort ||
    compareAddressBytes(a.destination.bytes, b.destination.bytes) ||
    a.destinationPort - b.destinationPort
  );
}

/** Prints `protocol source:port > destination:port`, IPv6 addresses in brackets. Different tuples print differently. */
export function formatTuple(tuple: FiveTuple): string {
  return `${tuple.protocol} ${endpoint(tuple.source, tuple.sourcePort)} > ${endpoint(tuple.destination, tuple.destinationPort)}`;
}

function endpoint(address: Address, port: number): string {
  const text = formatAddress(address);
  return address.family === 'ipv6' ? `[${text}]:${port}` : `${text}:${port}`;
}
