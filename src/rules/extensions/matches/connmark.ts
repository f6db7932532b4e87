/** `-m connmark`: net/netfilter/xt_connmark.c connmark_mt, revision 1. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { formatMaskedMark, type MaskedMark, parseMaskedMark } from '../../text/mark.ts';
import { hex } from '../../text/number.ts';
import { requireAll } from '../../text/requirement.ts';
import { readBoolean, readMaskedMark, writeMaskedMark } from '../../uapi/payload.ts';
import { connectionOf, NO_CONNECTION, stateIs } from '../ct-state.ts';

interface ConnmarkState {
  mark?: MaskedMark;
  negate: boolean;
}

export const connmark: MatchExtension = defineMatch<ConnmarkState>({
  name: 'connmark',
  families: ['ipv4', 'ipv6'],
  summary: 'The mark of the connection',
  options: [
    {
      name: 'mark',
      arguments: 1,
      negatable: true,
      syntax: 'value[/mask]',
      summary: 'The mark, of which only the bits of the mask count',
      apply(state, [value], negated) {
        state.mark = parseMaskedMark(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('connmark', { mark: state.mark !== undefined });
  },
  print: (state) => `${state.negate ? ' !' : ''} --mark ${formatMaskedMark(state.mark!)}`,
  // struct xt_connmark_mtinfo1
  abi: [
    {
      name: 'connmark',
      revision: 1,
      everyFamily: true,
      size: 12,
      decode: (view) => ({ mark: readMaskedMark(view, 0), negate: readBoolean(view, 8) }),
      encode({ mark, negate }, view) {
        writeMaskedMark(view, 0, mark!);
        view.setUint8(8, negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    lower(state) {
      const { value, mask } = state.mark!;
      return [
        stateIs(NO_CONNECTION, true),
        { kind: 'scalar', field: 'ct.mark', mask, ranges: [[value, value]], negate: state.negate },
      ];
    },
    evaluate(state, packet) {
      const connection = connectionOf(packet);
      if (connection === undefined) return false;
      const { value, mask } = state.mark!;
      return ((connection.mark & mask) >>> 0 === value) !== state.negate;
    },
    explain(state, packet) {
      const connection = connectionOf(packet);
      if (connection === undefined) return 'the packet belongs to no connection';
      const is = state.negate ? '' : 'not ';
      return `connection mark ${hex(connection.mark)} is ${is}${formatMaskedMark(state.mark!)}`;
    },
  },
});
