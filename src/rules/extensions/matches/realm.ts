/** `-m realm`: net/netfilter/xt_realm.c. */
import { Hook } from '../../../ir/index.ts';
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { formatGroup, parseGroup } from '../../text/group.ts';
import type { MaskedMark } from '../../text/mark.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBoolean, readMaskedMark, writeMaskedMark } from '../../uapi/payload.ts';

/** The name of realm 0 in iproute2's file. */
const UNKNOWN_REALM = 'cosmos';

interface RealmState {
  realm: MaskedMark | undefined;
  negate: boolean;
}

export const realm: MatchExtension = defineMatch<RealmState>({
  name: 'realm',
  families: ['ipv4'],
  summary: 'The realm of the route',
  where: { hooks: [Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT, Hook.POST_ROUTING] },
  options: [
    {
      name: 'realm',
      arguments: 1,
      negatable: true,
      syntax: 'value[/mask]',
      summary: 'The realm, of which only the bits of the mask count',
      apply(state, [value], negated) {
        state.realm = parseGroup(value!, UNKNOWN_REALM);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ realm: undefined, negate: false }),
  finish: (state) => requireAll('realm', { realm: state.realm !== undefined }),
  list: (state) => `${state.negate ? ' !' : ''} realm ${formatGroup(state.realm!, UNKNOWN_REALM)}`,
  print: (state) => `${state.negate ? ' !' : ''} --realm ${formatGroup(state.realm!, UNKNOWN_REALM)}`,
  // struct xt_realm_info
  abi: [
    {
      name: 'realm',
      revision: 0,
      size: 12,
      decode: (view) => ({ realm: readMaskedMark(view, 0), negate: readBoolean(view, 8) }),
      encode(state, view) {
        writeMaskedMark(view, 0, state.realm!);
        view.setUint8(8, state.negate ? 1 : 0);
      },
    },
  ],
  // Routes of the netstack have no realms, which is realm 0.
  semantics: {
    evaluate: ({ realm: wanted, negate }) => (wanted!.value === 0) !== negate,
    explain: ({ negate }) => `the realm of the route is ${negate ? '' : 'not that one but '}0`,
  },
});
