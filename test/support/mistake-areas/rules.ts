/** Rules as code at netfilter, the facts that they ask about, and what they do. */
import { caseSubject, connectionSubject, unreadSubject } from '../case-subjects.ts';
import { machineCases } from '../machine-cases.ts';
import { effectCases, focusedCases, longChainCase, sample, truncatedCases } from '../mistake-cases.ts';
import type { Subject } from '../mistakes.ts';
import type { MistakeArea } from './area.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
const RULESETS = 4;
const PACKETS = 40;

/** The machine always names the namespace. */
const TEST_RUN = "packets of the kernel's test run: test/kernel/classifier.test.ts";

function ruleSubjects(): Subject[] {
  const cases = FAMILIES.flatMap((family) => [
    ...focusedCases(family),
    ...truncatedCases(family),
    ...(family === 'ipv6' ? [longChainCase()] : []),
    ...effectCases(family),
    ...sample(machineCases(family, PACKETS), RULESETS).flat(),
  ]);
  return [
    ...FAMILIES.flatMap((family) => [connectionSubject(family), unreadSubject(family)]),
    ...cases.flatMap((given) => caseSubject(given)),
  ];
}

export const RULES: MistakeArea = {
  name: 'rules at netfilter',
  emitters:
    /^(predicates|prologue\/(ipv4|ipv6|transport)|hooks\/(netfilter|conntrack|device|hook)\.|actions\/(mark|handed|verdict)|emit\/(?!blur)|strategies\/inline)/,
  subjects: ruleSubjects,
  share: 10,
  equivalent: {
    'hooks/conntrack.ts emitConnection and 1':
      'connections lie at multiples of 16 bytes, so that bit 3 is none of the address',
    'hooks/conntrack.ts emitConntrackFacts and 2': 'as above',
    'hooks/conntrack.ts emitConntrackFacts store 1':
      'without a connection no status, direction or mark is asked for: a condition on the state stands before',
    'hooks/netfilter.ts copy add 2': 'one byte more only takes the other way to the same bytes',
    'hooks/netfilter.ts #slice add 2':
      'bytes that do not lie together come by way of a buffer, wherever that is',
    'hooks/netfilter.ts #macSource mov 1': 'the byte behind the address is there, and nobody reads it',
    'hooks/netfilter.ts #macSource store 1':
      'without an address nobody reads it; the verifier wants it written',
    'hooks/netfilter.ts #macSource store 3': 'any number but 0 says that there is an address',
    'predicates/limit.ts emitBucket mov 2': 'any number but 0 says that the packet has its credit',
    'predicates/tcpoption.ts emitOptionWalk store 1':
      'bytes behind the options are read as a length at most, which then ends the walk; the verifier wants them written',
    'prologue/ipv6.ts emitExtensionWalk store 5':
      'a hidden protocol is any number that is neither 0 nor CHAIN_CUT_SHORT',
    'prologue/transport.ts emitTransportFacts mov 1':
      'one byte is as little as none: every header wants more',
    'prologue/transport.ts emitTransportFacts store 1':
      'nobody reads fields of a header that is not there; the verifier wants them written',
  },
  unseen: {
    'hooks/netfilter.ts cookie jump 1': TEST_RUN,
    'hooks/netfilter.ts cookie jump 2': TEST_RUN,
  },
};
