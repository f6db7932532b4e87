/** Facts as an array in the frame: tables name them by their place, so that one program can look at any. */
import type { Fact } from '../../emit/fact.ts';

/** Facts of several words first: code that looks at four words never looks behind the array. */
const WIDE_FACTS: readonly Fact[] = ['source', 'destination', 'inDevice', 'outDevice'];
const NARROW_FACTS: readonly Fact[] = [
  'protocol',
  'protocolMissing',
  'fragmentOffset',
  'isFragment',
  'length',
  'ipLength',
  'tos',
  'ttl',
  'transportOffset',
  'transportLength',
  'sourcePort',
  'destinationPort',
  'sourceSetPort',
  'destinationSetPort',
  'icmpType',
  'icmpCode',
  'tcpFlags',
  'inIfindex',
  'outIfindex',
  'mark',
  'packetType',
  'ctState',
  'ctStatus',
  'ctDirection',
  'ctMark',
  'hasMac',
  'fragmentHeader',
  'authHeader',
];
const WIDE_WORDS = 4;

/** Names of the array's words, as {@link Frame} knows them. */
export const FACT_WORDS: readonly string[] = [
  ...WIDE_FACTS.flatMap((fact) => Array.from({ length: WIDE_WORDS }, (_, word) => `${fact}.${word}`)),
  'macSource.0',
  'macSource.1',
  ...NARROW_FACTS.map((fact) => `${fact}.0`),
];

/** All facts there are. */
export const ALL_FACTS: readonly Fact[] = [...WIDE_FACTS, 'macSource', ...NARROW_FACTS];

/** Place of a fact's first word in the array. */
export function factPlace(fact: Fact): number {
  return PLACES.get(fact)!;
}

const PLACES: ReadonlyMap<Fact, number> = new Map(
  ALL_FACTS.map((fact) => [fact, FACT_WORDS.indexOf(`${fact}.0`)]),
);
