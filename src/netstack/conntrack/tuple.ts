import type { Family } from '../../net/index.ts';
import { IpProtocol, read16 } from '../../wire/index.ts';
import type { Located } from './packet.ts';

/**
 * One direction of a connection (struct nf_conntrack_tuple). Ports are in host order; for ICMP and ICMPv6 both
 * hold the identifier and `icmpType`/`icmpCode` say which exchange it is; for GRE the PPTP call id is the destination.
 */
export interface Tuple {
  readonly family: Family;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType: number;
  readonly icmpCode: number;
}

/** ICMP types that may open an exchange, with the type of the answer, and the same the other way (invmap). */
const ICMP_ANSWER: ReadonlyMap<number, number> = new Map([
  [8, 0],
  [0, 8],
  [13, 14],
  [14, 13],
  [15, 16],
  [16, 15],
  [17, 18],
  [18, 17],
]);
const ICMPV6_ANSWER: ReadonlyMap<number, number> = new Map([
  [128, 129],
  [129, 128],
  [139, 140],
  [140, 139],
]);

const NO_PORTS = { sourcePort: 0, destinationPort: 0, icmpType: 0, icmpCode: 0 } as const;

/** nf_ct_get_tuple(): `undefined` when the bytes that hold ports or identifier are not there. */
export function tupleOf(located: Located, start = 0): Tuple | undefined {
  const { family, bytes, protocol, offset } = located;
  const ports = portsOf(bytes, protocol, offset);
  if (ports === undefined) return undefined;
  const [from, length] = family === 'ipv4' ? [start + 12, 4] : [start + 8, 16];
  return {
    family,
    protocol,
    source: bytes.slice(from, from + length),
    destination: bytes.slice(from + length, from + 2 * length),
    ...ports,
  };
}

function portsOf(
  bytes: Uint8Array,
  protocol: number,
  offset: number,
): Omit<Tuple, 'family' | 'protocol' | 'source' | 'destination'> | undefined {
  const left = bytes.length - offset;
  switch (protocol) {
    case IpProtocol.TCP:
    case IpProtocol.UDP:
    case IpProtocol.UDPLITE:
    case IpProtocol.SCTP:
      if (left < 4) return undefined;
      return {
        ...NO_PORTS,
        sourcePort: read16(bytes, offset),
        destinationPort: read16(bytes, offset + 2),
      };
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6: {
      if (left < 8) return undefined;
      const identifier = read16(bytes, offset + 4);
      return {
        sourcePort: identifier,
        destinationPort: identifier,
        icmpType: bytes[offset]!,
        icmpCode: bytes[offset + 1]!,
      };
    }
    case IpProtocol.GRE:
      // Only version 1 (PPTP) has a call id; everything else is tracked by addresses alone.
      if (left < 4 || (read16(bytes, offset) & 0x7) !== 1) return NO_PORTS;
      if (left < 8 || read16(bytes, offset + 2) !== 0x880b) return undefined;
      return { ...NO_PORTS, destinationPort: read16(bytes, offset + 6) };
    default:
      return NO_PORTS;
  }
}

/** nf_ct_invert_tuple(): the tuple of the answer; `undefined` for ICMP types that have none. */
export function invert(tuple: Tuple): Tuple | undefined {
  const swapped = { ...tuple, source: tuple.destination, destination: tuple.source };
  if (tuple.protocol === IpProtocol.ICMP || tuple.protocol === IpProtocol.ICMPV6) {
    const answers = tuple.protocol === IpProtocol.ICMP ? ICMP_ANSWER : ICMPV6_ANSWER;
    const icmpType = answers.get(tuple.icmpType);
    return icmpType === undefined ? undefined : { ...swapped, icmpType };
  }
  return { ...swapped, sourcePort: tuple.destinationPort, destinationPort: tuple.sourcePort };
}

/** A string that two tuples share exactly when they are equal in the same zone. */
export function tupleKey(tuple: Tuple, zone: number): string {
  const { protocol, source, destination, sourcePort, destinationPort, icmpType, icmpCode } = tuple;
  return `${zone} ${protocol} ${source} ${destination} ${sourcePort} ${destinationPort} ${icmpType} ${icmpCode}`;
}
