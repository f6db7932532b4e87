import type { Family } from '../../net/index.ts';
import { IpProtocol, read16 } from '../../wire/index.ts';
import type { Located } from './packet.ts';

/**
 * One direction of a connection (struct nf_conntrack_tuple). Ports are in host order. Other protocols keep in their
 * place what tells exchanges apart: ICMP and ICMPv6 the identifier as source and `type << 8 | code` as destination, GRE
 * the PPTP call id as destination; the rest 0.
 */
export interface Tuple {
  readonly family: Family;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
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

const NO_PORTS = { sourcePort: 0, destinationPort: 0 } as const;

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
        sourcePort: read16(bytes, offset),
        destinationPort: read16(bytes, offset + 2),
      };
    case IpProtocol.ICMP:
    case IpProtocol.ICMPV6:
      if (left < 8) return undefined;
      return { sourcePort: read16(bytes, offset + 4), destinationPort: read16(bytes, offset) };
    case IpProtocol.GRE:
      // Only version 1 (PPTP) has a call id; everything else is tracked by addresses alone.
      if (left < 8 || (read16(bytes, offset) & 0x7) !== 1) return NO_PORTS;
      if (read16(bytes, offset + 2) !== 0x880b) return undefined;
      return { sourcePort: 0, destinationPort: read16(bytes, offset + 6) };
    default:
      return NO_PORTS;
  }
}

/** nf_ct_invert_tuple(): the tuple of the answer; `undefined` for ICMP types that have none. */
export function invert(tuple: Tuple): Tuple | undefined {
  const swapped = { ...tuple, source: tuple.destination, destination: tuple.source };
  if (tuple.protocol === IpProtocol.ICMP || tuple.protocol === IpProtocol.ICMPV6) {
    const answers = tuple.protocol === IpProtocol.ICMP ? ICMP_ANSWER : ICMPV6_ANSWER;
    const answer = answers.get(tuple.destinationPort >> 8);
    if (answer === undefined) return undefined;
    return { ...swapped, destinationPort: (answer << 8) | (tuple.destinationPort & 0xff) };
  }
  return { ...swapped, sourcePort: tuple.destinationPort, destinationPort: tuple.sourcePort };
}

/** An address as 32-bit words: every packet asks for it, and printing its bytes takes three times as long. */
function addressKey(address: Uint8Array): string {
  let key = '';
  for (let at = 0; at < address.length; at += 4) {
    const word = (address[at]! << 24) | (address[at + 1]! << 16) | (address[at + 2]! << 8) | address[at + 3]!;
    key += at === 0 ? word : `.${word}`;
  }
  return key;
}

/** A string that two tuples share exactly when they are equal in the same zone. */
export function tupleKey(tuple: Omit<Tuple, 'family'>, zone: number): string {
  const { protocol, source, destination, sourcePort, destinationPort } = tuple;
  const ports = sourcePort * 0x1_0000 + destinationPort;
  return `${zone * 0x100 + protocol} ${ports} ${addressKey(source)} ${addressKey(destination)}`;
}
