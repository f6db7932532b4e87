/**
 * Facts: what the prologue finds out about a packet before the first rule, and leaves on the stack.
 *
 * A program's prologue is made for the facts that its rules ask about; a predicate says which in its `needs`.
 * A fact of several words has its words in the packet's order; each is loaded as the packet has it (network order),
 * facts of one word are numbers in host order.
 */
import type { ScalarField } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { Frame } from './frame.ts';

export type Fact =
  /** 1 word (IPv4) or 4, network order. */
  | 'source'
  | 'destination'
  /** IPv4 protocol; IPv6: at the end of the extension chain. */
  | 'protocol'
  /** IPv6: not 0 when the chain has no end that ipv6_find_hdr would find; see prologue/ipv6.ts. */
  | 'protocolMissing'
  /** In units of 8 bytes. */
  | 'fragmentOffset'
  /** 1 when MF is set or the offset is not 0. */
  | 'isFragment'
  /** Bytes from the network header: what counters count. */
  | 'length'
  /** As the header says: IPv4 total length, IPv6 payload length + 40. */
  | 'ipLength'
  | 'tos'
  | 'ttl'
  /** Bytes from the network header to the transport header, and from there to the packet's end. */
  | 'transportOffset'
  | 'transportLength'
  /** 0 where there is no transport header. ICMP: type and code. */
  | 'sourcePort'
  | 'destinationPort'
  | 'icmpType'
  | 'icmpCode'
  /** Protocol << 16 | port as IP sets have them; see prologue/setport.ts. */
  | 'sourceSetPort'
  | 'destinationSetPort'
  | 'tcpFlags'
  /** 4 words: 16 bytes as the kernel has them, zero when there is none. */
  | 'inDevice'
  | 'outDevice'
  | 'inIfindex'
  | 'outIfindex'
  | 'mark'
  | 'packetType'
  /** CtStateBit of the packet, IPS_* bits, direction, mark; 0 each where there is no entry. */
  | 'ctState'
  | 'ctStatus'
  | 'ctDirection'
  | 'ctMark'
  /** 2 words: source address of the Ethernet header; and 1 where there is such a header. */
  | 'macSource'
  | 'hasMac'
  /** IPv6: offsets of these extension headers, 0 where they are not in the chain. */
  | 'fragmentHeader'
  | 'authHeader';

/** Words that a fact takes. */
export function factWords(fact: Fact, family: Family): number {
  switch (fact) {
    case 'source':
    case 'destination':
      return family === 'ipv4' ? 1 : 4;
    case 'inDevice':
    case 'outDevice':
      return 4;
    case 'macSource':
      return 2;
    default:
      return 1;
  }
}

/** The fact that a scalar field is; fields that are read from headers at the rule have none. */
export const FIELD_FACTS: Partial<Record<ScalarField, Fact>> = {
  'ip.protocol': 'protocol',
  'ip.fragmentOffset': 'fragmentOffset',
  'ip.length': 'ipLength',
  'ip.tos': 'tos',
  'ip.ttl': 'ttl',
  'l4.sourcePort': 'sourcePort',
  'l4.destinationPort': 'destinationPort',
  'tcp.flags': 'tcpFlags',
  'icmp.type': 'icmpType',
  'icmp.code': 'icmpCode',
  'meta.mark': 'mark',
  'meta.packetType': 'packetType',
  'ct.state': 'ctState',
  'ct.status': 'ctStatus',
  'ct.direction': 'ctDirection',
  'ct.mark': 'ctMark',
};

/** Facts that come from the hook, not from the packet's bytes. The netfilter hooks provide them all. */
export const HOOK_FACTS: ReadonlySet<Fact> = new Set<Fact>([
  'inDevice',
  'outDevice',
  'inIfindex',
  'outIfindex',
  'mark',
  'packetType',
  'ctState',
  'ctStatus',
  'ctDirection',
  'ctMark',
  'macSource',
  'hasMac',
]);

/** Where facts lie in a frame: one instance per family section of a program. */
export class Facts {
  readonly family: Family;
  readonly #needed: ReadonlySet<Fact>;
  readonly #frame: Frame;

  constructor(family: Family, needed: ReadonlySet<Fact>, frame: Frame) {
    this.family = family;
    this.#needed = needed;
    this.#frame = frame;
  }

  has(fact: Fact): boolean {
    return this.#needed.has(fact);
  }

  /** Offset from r10 of a fact's word. @throws RangeError for a fact that nobody said was needed: its word would be rubbish */
  offset(fact: Fact, word = 0): number {
    if (!this.#needed.has(fact)) throw new RangeError(`fact ${fact} was not asked for`);
    return this.#frame.word(`${fact}.${word}`);
  }
}

/** Facts that others are made from. */
const IMPLIED: Partial<Record<Fact, readonly Fact[]>> = {
  sourcePort: ['transportLength', 'fragmentOffset', 'protocol'],
  destinationPort: ['transportLength', 'fragmentOffset', 'protocol'],
  icmpType: ['transportLength', 'fragmentOffset', 'protocol'],
  icmpCode: ['transportLength', 'fragmentOffset', 'protocol'],
  tcpFlags: ['transportLength', 'fragmentOffset', 'protocol'],
  sourceSetPort: ['sourcePort'],
  destinationSetPort: ['sourcePort', 'destinationPort'],
  transportLength: ['transportOffset', 'length'],
  ctStatus: ['ctState'],
  ctDirection: ['ctState'],
  ctMark: ['ctState'],
  macSource: ['hasMac'],
};
const IMPLIED6: Partial<Record<Fact, readonly Fact[]>> = {
  protocolMissing: ['protocol'],
  protocol: ['protocolMissing', 'transportOffset', 'fragmentOffset'],
  fragmentOffset: ['protocol'],
  isFragment: ['protocol'],
  transportOffset: ['protocol'],
  fragmentHeader: ['protocol'],
  authHeader: ['protocol'],
};

/** The facts asked for, and all that they are made from. Every program needs the length, for its counters. */
export function closeFacts(wanted: Iterable<Fact>, family: Family): Set<Fact> {
  const all = new Set<Fact>();
  const add = (fact: Fact): void => {
    if (all.has(fact)) return;
    all.add(fact);
    for (const other of IMPLIED[fact] ?? []) add(other);
    if (family === 'ipv6') for (const other of IMPLIED6[fact] ?? []) add(other);
  };
  add('length');
  for (const fact of wanted) add(fact);
  return all;
}
