/** `-m ecn`: net/netfilter/xt_ecn.c; RFC 3168. */
import { defineMatch, type MatchExtension, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { requireAny } from '../../text/requirement.ts';

interface EcnState {
  ece: { readonly negate: boolean } | undefined;
  cwr: { readonly negate: boolean } | undefined;
  /** The two bits in the TOS byte or traffic class. */
  ect: { readonly value: number; readonly negate: boolean } | undefined;
}

function flag(name: string, key: 'ece' | 'cwr', summary: string): OptionSpec<EcnState> {
  return {
    name,
    arguments: 0,
    negatable: true,
    summary,
    apply(state, _values, negate) {
      state[key] = { negate };
    },
  };
}

export const ecn: MatchExtension = defineMatch<EcnState>({
  name: 'ecn',
  families: ['ipv4', 'ipv6'],
  summary: 'Explicit congestion notification in the IP and TCP headers',
  where: (state) => (state.ece || state.cwr ? { protocols: [Protocol.TCP] } : {}),
  options: [
    flag('ecn-tcp-cwr', 'cwr', 'The TCP flag CWR is set'),
    flag('ecn-tcp-ece', 'ece', 'The TCP flag ECE is set'),
    {
      name: 'ecn-ip-ect',
      arguments: 1,
      negatable: true,
      syntax: 'codepoint',
      summary: 'The ECN codepoint in the IP header, 0 to 3',
      apply(state, [value], negate) {
        state.ect = { value: boundedNumber(value!, 0, 3), negate };
      },
    },
  ],
  initial: () => ({ ece: undefined, cwr: undefined, ect: undefined }),
  finish(state) {
    requireAny('ecn', {
      'ecn-tcp-cwr': state.cwr !== undefined,
      'ecn-tcp-ece': state.ece !== undefined,
      'ecn-ip-ect': state.ect !== undefined,
    });
  },
  print({ ece, cwr, ect }) {
    let text = '';
    if (ece) text += `${ece.negate ? ' !' : ''} --ecn-tcp-ece`;
    if (cwr) text += `${cwr.negate ? ' !' : ''} --ecn-tcp-cwr`;
    if (ect) text += `${ect.negate ? ' !' : ''} --ecn-ip-ect ${ect.value}`;
    return text;
  },
});
