/** `-m state`: the state condition of conntrack alone (libxt_conntrack keeps the name in saved rules). */
import { CtStateBit } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { CONNTRACK_BYTES, decodeStateAlias, encodeStateAlias } from '../conntrack-info.ts';
import { formatStates, parseNames, stateBits, stateIs } from '../ct-state.ts';

interface StateState {
  bits: number;
  negate: boolean;
}

/** XT_STATE_UNTRACKED, and the bits that conntrack has at the same places. */
const STATE_UNTRACKED = 0x40;
const STATE_TRACKED = 0x0f;

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
  list: (use) => `${use.negate ? ' !' : ''} state ${formatStates(use.bits)}`,
  print: (use) => `${use.negate ? ' !' : ''} --state ${formatStates(use.bits)}`,
  // "-m state" is conntrack with a flag that only names it; struct xt_state_info is the older form.
  abi: [
    {
      name: 'conntrack',
      revision: 3,
      everyFamily: true,
      size: CONNTRACK_BYTES,
      decode: (view) => decodeStateAlias(view),
      encode: (use, view) => encodeStateAlias(view, use.bits, use.negate),
    },
    {
      name: 'state',
      revision: 0,
      everyFamily: true,
      size: 4,
      decode(view) {
        const mask = view.getUint32(0, true);
        const untracked = (mask & STATE_UNTRACKED) !== 0 ? CtStateBit.UNTRACKED : 0;
        return { bits: (mask & STATE_TRACKED) | untracked, negate: false };
      },
      encode(use, view) {
        const untracked = (use.bits & CtStateBit.UNTRACKED) !== 0 ? STATE_UNTRACKED : 0;
        view.setUint32(0, (use.bits & STATE_TRACKED) | untracked, true);
      },
    },
  ],
  semantics: {
    evaluate: (use, packet) => ((stateBits(packet) & use.bits) !== 0) !== use.negate,
    lower: (use) => [stateIs(use.bits, use.negate)],
    explain: (use, packet) =>
      `state ${formatStates(stateBits(packet))} is ${use.negate ? '' : 'not '}${formatStates(use.bits)}`,
  },
});
