/** What writes programs, by what its mistakes are shown to, and which mistakes are known to stay hidden. */
import { dispatcherSubjects } from './dispatcher-subjects.ts';
import { hookSubject, PLACES } from './hook-cases.ts';
import { hookCases } from './hook-rules.ts';
import { lookupSubjects } from './lookup-subjects.ts';
import { firstDifference, judgeCase, machineCases } from './machine-cases.ts';
import {
  connectionSubject,
  effectCases,
  focusedCases,
  longChainCase,
  sample,
  truncatedCases,
  unreadSubject,
} from './mistake-cases.ts';
import type { Subject } from './mistakes.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
const RULESETS = 4;
const PACKETS = 40;

export interface MistakeArea {
  readonly name: string;
  /** Files below src/compile whose mistakes are made. */
  readonly emitters: RegExp;
  subjects(): Subject[];
  /** One mistake in so many is made in a short run. */
  readonly share: number;
  /** Mistakes that change nothing, and why. */
  readonly equivalent: Readonly<Record<string, string>>;
  /** Mistakes that these cases cannot show, and what would. */
  readonly unseen: Readonly<Record<string, string>>;
}

/** Rules, the facts that they ask about, and what they do, at netfilter. */
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
    ...cases
      .flatMap((given) => judgeCase(given) ?? [])
      .map((one) => ({ difference: () => firstDifference(one) })),
  ];
}

export const MISTAKE_AREAS: readonly MistakeArea[] = [
  {
    name: 'rules at netfilter',
    emitters:
      /^(predicates|prologue\/(ipv4|ipv6|transport)|hooks\/(netfilter|conntrack|device)|actions\/(mark|handed|verdict)|emit\/(counter|copy|state)|strategies\/inline)/,
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
    unseen: {},
  },
  {
    name: 'xdp, tcx and cgroup',
    emitters: /^(hooks\/(skb|xdp|route|xdpanswer|tcxanswer|linkheader)\.|actions\/(reply|log)|fragments)/,
    subjects: () => PLACES.flatMap(hookCases).flatMap((given) => hookSubject(given) ?? []),
    share: 24,
    equivalent: {
      'hooks/route.ts emitRoute store 1':
        'what is written there is written again, or is nothing that the look-up reads',
      'hooks/route.ts emitRoute mov 1': 'the kernel takes a larger structure for the one that it knows',
      'hooks/route.ts emitAnswerSource mov 1': 'as above',
      'actions/log.ts emitLog mov 1': 'a byte more in each record, which nobody reads',
      'hooks/xdp.ts logLink mov 2': 'the record has room for more of the header than is said to be there',
      'hooks/xdp.ts logLink store 2': 'no frame comes here without its header: its type has been read',
      'fragments.ts emitKey store 1': 'keys are compared with keys that are made alike',
      'fragments.ts emitRemember mov 1': 'a first fragment has taken the entry of its datagram away before',
      'hooks/xdp.ts facts store 1':
        'rules that ask for the output device stand in FORWARD, before which the routing decision writes it',
      'hooks/xdpanswer.ts begin mov 2': 'the byte behind the addresses is there, and nobody reads it',
      'hooks/xdpanswer.ts begin mov 3': 'as above',
      'actions/reply/checksum.ts emitFrameSum mov 1': 'a pointer to no bytes',
      'actions/reply/checksum.ts emitPacketSum mov 1':
        'a byte that this round does not sum: it is behind what is cleared, and the next round reads it again',
      'hooks/skb.ts #macSource store 1': 'without an address nobody reads it; the verifier wants it written',
      'hooks/skb.ts #macSource mov 2': 'the byte behind the address is there, and nobody reads it',
      'hooks/skb.ts #macSource store 3': 'any number but 0 says that there is an address',
      'hooks/tcxanswer.ts begin mov 2': 'the byte behind the addresses is there, and nobody reads it',
    },
    unseen: {
      'actions/log.ts emitLog mov 4': 'whoever waits for records: test/kernel/policy-log.test.ts',
      'hooks/skb.ts sort mov 2': 'a frame that ends within a tag',
      'hooks/linkheader.ts emitSkbLink mov 1':
        'a device whose link header is longer than a record has room for',
      'actions/reply/reset.ts emitReset jump 4':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'actions/reply/reset.ts emitReset mov 3':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'actions/reply/unreachable.ts emitQuoteSum jump 1':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'actions/reply/unreachable.ts emitQuoteSum xor 1':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'hooks/tcxanswer.ts unfinished rsh 1':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'hooks/tcxanswer.ts unfinished and 1':
        'checksums that a device is to finish: test/kernel/reject-live.test.ts',
      'hooks/tcxanswer.ts write mov 3':
        'what the kernel knows of a checksum: test/kernel/reject-live.test.ts',
      'hooks/linkheader.ts emitSkbOwner jump 2': 'packets that have sockets: test/kernel/policy-log.test.ts',
      'hooks/linkheader.ts emitSkbOwner jump 3': 'packets that have sockets: test/kernel/policy-log.test.ts',
      'hooks/linkheader.ts emitSkbOwner jump 4': 'packets that have sockets: test/kernel/policy-log.test.ts',
      'hooks/linkheader.ts emitSkbOwner jump 5': 'packets that have sockets: test/kernel/policy-log.test.ts',
      'hooks/linkheader.ts emitSkbOwner jump 6': 'packets that have sockets: test/kernel/policy-log.test.ts',
      'hooks/linkheader.ts emitSkbOwner store 1': 'packets that have sockets: test/kernel/policy-log.test.ts',
    },
  },
  {
    name: 'connection look-up',
    emitters: /^hooks\/connectionlookup/,
    subjects: lookupSubjects,
    share: 2,
    equivalent: {},
    unseen: {},
  },
  {
    name: 'dispatchers',
    emitters: /^(dispatcher|prologue\/handover)/,
    subjects: dispatcherSubjects,
    share: 1,
    equivalent: {},
    unseen: {},
  },
];
