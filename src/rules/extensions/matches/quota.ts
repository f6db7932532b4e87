/** `-m quota`: net/netfilter/xt_quota.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { boundedNumber64 } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';
import { readFlags } from '../../uapi/payload.ts';

interface QuotaState {
  bytes?: bigint;
  negate: boolean;
}

interface Quota {
  left: bigint;
}

export const quota: MatchExtension = defineMatch<QuotaState>({
  name: 'quota',
  families: ['ipv4', 'ipv6'],
  summary: 'Matches until the quota is used up',
  options: [
    {
      name: 'quota',
      arguments: 1,
      negatable: true,
      syntax: 'bytes',
      summary: 'The quota',
      apply(state, [value], negated) {
        state.bytes = boundedNumber64(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('quota', { quota: state.bytes !== undefined });
  },
  print: (state) => `${state.negate ? ' !' : ''} --quota ${state.bytes}`,
  // struct xt_quota_info
  abi: [
    {
      name: 'quota',
      revision: 0,
      everyFamily: true,
      size: 24,
      userSize: 16,
      decode: (view) => ({
        bytes: view.getBigUint64(8, true),
        negate: readFlags(view, 0, 1, 'quota') !== 0,
      }),
      encode({ bytes, negate }, view) {
        view.setUint32(0, negate ? 1 : 0, true);
        view.setBigUint64(8, bytes!, true);
      },
    },
  ],
  // Programs have no counter that rules take from.
  semantics: {
    memory: (state): Quota => ({ left: state.bytes! }),
    evaluate(state, packet, memory) {
      const quota = memory as Quota;
      const wanted = BigInt(packet.length);
      const enough = quota.left >= wanted;
      // Once a packet did not fit, smaller ones do not get through either.
      quota.left = enough ? quota.left - wanted : 0n;
      return enough !== state.negate;
    },
    explain: (state) => `the quota of ${state.bytes} bytes is ${state.negate ? 'not ' : ''}used up`,
  },
});
