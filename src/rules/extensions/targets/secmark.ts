/** `-j SECMARK`: net/netfilter/xt_SECMARK.c. Whether the context exists is for the host to say. */
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { type AbiForm, readText, writeText } from '../../uapi/payload.ts';

/** SECMARK_SECCTX_MAX - 1 */
const CONTEXT_BYTES = 255;
/** SECMARK_MODE_SEL */
const SELINUX = 1;

interface SecmarkState {
  context: string | undefined;
}

/** struct xt_secmark_target_info and xt_secmark_target_info_v1, where the context stands before its number. */
function form(revision: number, contextAt: number, userSize: number): AbiForm<SecmarkState> {
  return {
    name: 'SECMARK',
    revision,
    size: 264,
    userSize,
    decode(view) {
      if (view.getUint8(0) !== SELINUX) refuse('SECMARK has an unknown mode');
      return { context: readText(view, contextAt, CONTEXT_BYTES + 1) };
    },
    encode({ context }, view) {
      view.setUint8(0, SELINUX);
      writeText(view, contextAt, CONTEXT_BYTES + 1, context!);
    },
  };
}

export const secmark: TargetExtension = defineTarget<SecmarkState>({
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
  abi: [form(1, 1, 260), form(0, 8, 264)],
});
