/**
 * IP protocol names as iptables reads and prints them: getprotobyname(3) and getprotobynumber(3) over the protocols
 * file, then the table of libxtables (xtables_chain_protos).
 */
import { parseUnsigned } from '../text/number.ts';
import { PROTOCOLS } from './protocols.generated.ts';

/** Protocol numbers that rules ask for by name. */
export const Protocol = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  DCCP: 33,
  FRAGMENT: 44,
  ESP: 50,
  AH: 51,
  ICMPV6: 58,
  IPCOMP: 108,
  SCTP: 132,
  MOBILITY: 135,
  UDPLITE: 136,
} as const;

const EXTRA: readonly (readonly [name: string, number: number])[] = [
  ['icmpv6', 58],
  ['ipv6-mh', 135],
  ['mh', 135],
  ['all', 0],
];

const numbers = new Map<string, number>();
const names = new Map<number, string>();
for (const [number, spellings] of PROTOCOLS) {
  if (!names.has(number)) names.set(number, spellings[0]!);
  for (const spelling of spellings) if (!numbers.has(spelling)) numbers.set(spelling, number);
}
for (const [name, number] of EXTRA) if (!numbers.has(name)) numbers.set(name, number);

/** Names that {@link parseProtocol} knows, for suggestions. */
export function protocolNames(): Iterable<string> {
  return numbers.keys();
}

/** A number (0 to 255) or a name, in lower case as `-p` makes it; 0 is "all". */
export function parseProtocol(text: string): number | undefined {
  const lower = text.toLowerCase();
  return numbers.get(lower) ?? parseUnsigned(lower, 0, 255);
}

/** The name of a protocol, if it has one. */
export function protocolName(number: number): string | undefined {
  return number === 0 ? undefined : names.get(number);
}

/** The name, or the number in decimal. */
export function formatProtocol(number: number): string {
  return protocolName(number) ?? String(number);
}
