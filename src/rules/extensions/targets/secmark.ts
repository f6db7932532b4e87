/** `-j SECMARK`: net/netfilter/xt_SECMARK.c. Whether the context exists is for the host to say. */
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** SECMARK_SECCTX_MAX - 1 */
const CONTEXT_BYTES = 255;

export const secmark: TargetExtension = defineTarget<{ context: string | undefined }>({
  name: 'SECMARK',
  families: ['ipv4', 'ipv6'],
  summary: 'Sets the security mark of the packet and goes on',
  where: { tables: ['mangle', 'security'] },
  options: [
    {
      name: 'selctx',
      arguments: 1,
      syntax: 'context',
      summary: 'The SELinux context',
      apply(state, [value]) {
        state.context = cutToBytes(value!, CONTEXT_BYTES);
      },
    },
  ],
  initial: () => ({ context: undefined }),
  finish: (state) => requireAll('SECMARK', { selctx: state.context !== undefined }),
  print: (state) => ` --selctx ${state.context}`,
});
