/** `-m tos`: net/netfilter/xt_dscp.c tos_mt, revision 1. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { formatTos, formatTosByte, type MaskedTos, parseTos } from '../../text/tos.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { fieldIs, tosOf } from '../header.ts';

interface TosState {
  tos: MaskedTos | undefined;
  negate: boolean;
}

export const tos: MatchExtension = defineMatch<TosState>({
  name: 'tos',
  families: ['ipv4', 'ipv6'],
  summary: 'TOS byte of IPv4, traffic class of IPv6',
  options: [
    {
      name: 'tos',
      arguments: 1,
      negatable: true,
      syntax: 'value[/mask]|name',
      summary: 'The byte under the mask equals the value',
      apply(state, [value], negated) {
        state.tos = parseTos(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ tos: undefined, negate: false }),
  finish: (state) => requireAll('tos', { tos: state.tos !== undefined }),
  list: (state) => ` tos match${state.negate ? '!' : ''}${formatTos(state.tos!)}`,
  print: (state) => `${state.negate ? ' !' : ''} --tos ${formatTos(state.tos!)}`,
  // struct xt_tos_match_info
  abi: [
    {
      name: 'tos',
      revision: 1,
      size: 3,
      decode: (view) => ({
        tos: { mask: view.getUint8(0), value: view.getUint8(1) },
        negate: readBoolean(view, 2),
      }),
      encode(state, view) {
        view.setUint8(0, state.tos!.mask);
        view.setUint8(1, state.tos!.value);
        view.setUint8(2, state.negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => ((tosOf(packet) & state.tos!.mask) === state.tos!.value) !== state.negate,
    lower: (state) => [fieldIs('ip.tos', state.tos!.value, state.negate, state.tos!.mask)],
    explain: (state, packet) =>
      `TOS ${formatTosByte(tosOf(packet))} is ${state.negate ? '' : 'not '}${formatTos(state.tos!)}`,
  },
});
