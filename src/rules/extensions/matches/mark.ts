/** `-m mark`: net/netfilter/xt_mark.c mark_mt, revision 1. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { formatMaskedMark, type MaskedMark, parseMaskedMark } from '../../text/mark.ts';
import { hex } from '../../text/number.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBoolean, readMaskedMark, writeMaskedMark } from '../../uapi/payload.ts';
import { fieldIs } from '../header.ts';

interface MarkState {
  mark: MaskedMark | undefined;
  negate: boolean;
}

export const mark: MatchExtension = defineMatch<MarkState>({
  name: 'mark',
  families: ['ipv4', 'ipv6'],
  summary: "The packet's mark, as MARK or a socket set it",
  options: [
    {
      name: 'mark',
      arguments: 1,
      negatable: true,
      syntax: 'value[/mask]',
      summary: 'The mark under the mask equals the value',
      apply(state, [value], negated) {
        state.mark = parseMaskedMark(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ mark: undefined, negate: false }),
  finish: (state) => requireAll('mark', { mark: state.mark !== undefined }),
  list: (state) => ` mark match${state.negate ? ' !' : ''} ${formatMaskedMark(state.mark!)}`,
  print: (state) => `${state.negate ? ' !' : ''} --mark ${formatMaskedMark(state.mark!)}`,
  // struct xt_mark_mtinfo1
  abi: [
    {
      name: 'mark',
      revision: 1,
      everyFamily: true,
      size: 12,
      decode: (view) => ({
        mark: readMaskedMark(view, 0),
        negate: readBoolean(view, 8),
      }),
      encode(state, view) {
        writeMaskedMark(view, 0, state.mark!);
        view.setUint8(8, state.negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) =>
      (packet.mark & state.mark!.mask) >>> 0 === state.mark!.value ? !state.negate : state.negate,
    lower: (state) => [fieldIs('meta.mark', state.mark!.value, state.negate, state.mark!.mask)],
    explain: (state, packet) =>
      `mark ${hex(packet.mark)} is ${state.negate ? '' : 'not '}${formatMaskedMark(state.mark!)}`,
  },
});
