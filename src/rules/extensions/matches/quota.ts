/** `-m quota`: net/netfilter/xt_quota.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { boundedNumber64 } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';

interface QuotaState {
  bytes?: bigint;
  negate: boolean;
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
});
