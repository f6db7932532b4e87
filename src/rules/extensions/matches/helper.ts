/** `-m helper`: net/netfilter/xt_helper.c. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { quoted } from '../../text/quote.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** struct xt_helper_info has 30 bytes for the name. */
const NAME_BYTES = 29;

interface HelperState {
  /** Empty: any helper. */
  helper?: string;
  negate: boolean;
}

export const helper: MatchExtension = defineMatch<HelperState>({
  name: 'helper',
  families: ['ipv4', 'ipv6'],
  summary: 'The conntrack helper that expected the connection',
  options: [
    {
      name: 'helper',
      arguments: 1,
      negatable: true,
      syntax: 'name[-port]',
      summary: 'The name of the helper, with its port where it is not the usual one',
      apply(state, [value], negated) {
        state.helper = cutToBytes(value!, NAME_BYTES);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ negate: false }),
  finish(state) {
    requireAll('helper', { helper: state.helper !== undefined });
  },
  print: (state) => `${state.negate ? ' !' : ''} --helper${quoted(state.helper!)}`,
  // struct xt_helper_info
  abi: [
    {
      name: 'helper',
      revision: 0,
      everyFamily: true,
      size: 36,
      decode: (view) => ({ negate: view.getInt32(0, true) !== 0, helper: readText(view, 4, NAME_BYTES + 1) }),
      encode({ negate, helper: name }, view) {
        view.setInt32(0, negate ? 1 : 0, true);
        writeText(view, 4, NAME_BYTES + 1, name!);
      },
    },
  ],
});
