/** `-m comment`: text for people; always matches (net/netfilter/xt_comment.c). */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { quoted } from '../../text/quote.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** XT_MAX_COMMENT_LEN less the terminator. */
const MAXIMUM_BYTES = 255;

export const comment: MatchExtension = defineMatch<{ text: string | undefined }>({
  name: 'comment',
  families: ['ipv4', 'ipv6'],
  summary: 'A remark; matches every packet',
  options: [
    {
      name: 'comment',
      arguments: 1,
      syntax: 'text',
      summary: `The remark; of longer ones only the first ${MAXIMUM_BYTES} bytes are kept`,
      apply(state, [value]) {
        state.text = cutToBytes(value!, MAXIMUM_BYTES);
      },
    },
  ],
  initial: () => ({ text: undefined }),
  finish: (state) => requireAll('comment', { comment: state.text !== undefined }),
  list: (state) => ` /* ${state.text} */`,
  print: (state) => ` --comment${quoted(state.text!)}`,
  // struct xt_comment_info
  abi: [
    {
      name: 'comment',
      revision: 0,
      everyFamily: true,
      size: 256,
      decode: (view) => ({ text: readText(view, 0, MAXIMUM_BYTES + 1) }),
      encode: (state, view) => writeText(view, 0, MAXIMUM_BYTES + 1, state.text!),
    },
  ],
  semantics: {
    evaluate: () => true,
    lower: () => [],
  },
});
