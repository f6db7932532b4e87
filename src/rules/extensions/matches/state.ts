/** `-m state`: the state condition of conntrack alone (libxt_conntrack keeps the name in saved rules). */
import { CtStateBit } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatStates, parseNames, stateBits, stateIs } from '../ct-state.ts';

interface StateState {
  bits: number;
  negate: boolean;
}

const NAMES = [
  ['INVALID', CtStateBit.INVALID],
  ['NEW', CtStateBit.NEW],
  ['ESTABLISHED', CtStateBit.ESTABLISHED],
  ['RELATED', CtStateBit.RELATED],
  ['UNTRACKED', CtStateBit.UNTRACKED],
] as const;

export const state: MatchExtension = defineMatch<StateState>({
  name: 'state',
  families: ['ipv4', 'ipv6'],
  summary: 'State of the connection a packet belongs to',
  options: [
    {
      name: 'state',
      arguments: 1,
      negatable: true,
      syntax: 'state[,…]',
      summary: 'One of INVALID, NEW, ESTABLISHED, RELATED, UNTRACKED',
      apply(use, [value], negated) {
        use.bits = parseNames(value!, NAMES);
        use.negate = negated;
      },
    },
  ],
  initial: () => ({ bits: 0, negate: false }),
  finish: (use) => requireAll('state', { state: use.bits !== 0 }),
  print: (use) => `${use.negate ? ' !' : ''} --state ${formatStates(use.bits)}`,
  semantics: {
    evaluate: (use, packet) => ((stateBits(packet) & use.bits) !== 0) !== use.negate,
    lower: (use) => [stateIs(use.bits, use.negate)],
    explain: (use, packet) =>
      `state ${formatStates(stateBits(packet))} is ${use.negate ? '' : 'not '}${formatStates(use.bits)}`,
  },
});
