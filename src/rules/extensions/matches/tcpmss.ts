/** `-m tcpmss`: net/netfilter/xt_tcpmss.c. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatNumberRange, numberRange } from '../../text/bounded.ts';
import { requireAll } from '../../text/requirement.ts';

interface TcpmssState {
  mss?: { readonly min: number; readonly max: number };
  negate: boolean;
}

export const tcpmss: MatchExtension = defineMatch<TcpmssState>({
  name: 'tcpmss',
  families: ['ipv4', 'ipv6'],
  summary: 'The TCP maximum segment size option',
  where: { protocols: [Protocol.TCP] },
  options: [
    {
      name: 'mss',
      arguments: 1,
      negatable: true,
      syntax: 'value[:value]',
      summary: 'The size, or a range of sizes',
      apply(state, [value], negated) {
        state.mss = numberRange(value!, 0xffff);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('tcpmss', { mss: state.mss !== undefined });
  },
  admit({ mss }) {
    if (mss!.min > mss!.max)
      throw new OptionError(`the range ${mss!.min}:${mss!.max} is backwards`, { argument: -1 });
  },
  print: (state) => `${state.negate ? ' !' : ''} --mss ${formatNumberRange(state.mss!)}`,
});
