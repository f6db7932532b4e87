/** What is different at xdp, tcx and cgroup: frames, routes, fragments, answers, records of the log. */
import { hookSubject, PLACES } from '../hook-cases.ts';
import { hookCases } from '../hook-rules.ts';
import type { MistakeArea } from './area.ts';

export const HOOKS: MistakeArea = {
  name: 'xdp, tcx and cgroup',
  emitters:
    /^(hooks\/(skb|xdp|route|xdpanswer|tcxanswer|linkheader)\.|actions\/(reply|log)|fragments|compile\.|section\.)/,
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
    'hooks/tcxanswer.ts write mov 3': 'what the kernel knows of a checksum: test/kernel/reject-live.test.ts',
    'hooks/linkheader.ts emitSkbOwner jump 2': 'packets that have sockets: test/kernel/policy-log.test.ts',
    'hooks/linkheader.ts emitSkbOwner jump 3': 'packets that have sockets: test/kernel/policy-log.test.ts',
    'hooks/linkheader.ts emitSkbOwner jump 4': 'packets that have sockets: test/kernel/policy-log.test.ts',
    'hooks/linkheader.ts emitSkbOwner jump 5': 'packets that have sockets: test/kernel/policy-log.test.ts',
    'hooks/linkheader.ts emitSkbOwner jump 6': 'packets that have sockets: test/kernel/policy-log.test.ts',
    'hooks/linkheader.ts emitSkbOwner store 1': 'packets that have sockets: test/kernel/policy-log.test.ts',
  },
};
