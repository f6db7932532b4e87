/** `-m bpf`: net/netfilter/xt_bpf.c, revision 1. Whether a pinned program exists is for the host to say. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { type ClassicInstruction, formatClassicBpf, parseClassicBpf } from '../../text/classic-bpf.ts';
import { requireOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** XT_BPF_PATH_MAX - 1 */
const PATH_BYTES = 511;

interface BpfState {
  bytecode: readonly ClassicInstruction[] | undefined;
  pinned: string | undefined;
}

export const bpf: MatchExtension = defineMatch<BpfState>({
  name: 'bpf',
  families: ['ipv4', 'ipv6'],
  summary: 'A socket filter returns something other than 0',
  options: [
    {
      name: 'bytecode',
      arguments: 1,
      syntax: '"count,code jt jf k[,…]"',
      summary: 'The classic BPF program in decimal, as nfbpf_compile writes it',
      apply(state, [value]) {
        state.bytecode = parseClassicBpf(value!);
      },
    },
    {
      name: 'object-pinned',
      arguments: 1,
      syntax: 'path',
      summary: 'An eBPF program pinned in a bpf file system',
      apply(state, [value]) {
        state.pinned = cutToBytes(value!, PATH_BYTES);
      },
    },
  ],
  initial: () => ({ bytecode: undefined, pinned: undefined }),
  finish({ bytecode, pinned }) {
    requireOne('bpf', { bytecode: bytecode !== undefined, 'object-pinned': pinned !== undefined });
  },
  print: ({ bytecode, pinned }) =>
    bytecode === undefined ? ` --object-pinned ${pinned}` : ` --bytecode "${formatClassicBpf(bytecode)}"`,
});
