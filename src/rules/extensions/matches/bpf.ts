/** `-m bpf`: net/netfilter/xt_bpf.c, revision 1. Whether a pinned program exists is for the host to say. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { type ClassicInstruction, formatClassicBpf, parseClassicBpf } from '../../text/classic-bpf.ts';
import { requireOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** XT_BPF_PATH_MAX - 1 */
const PATH_BYTES = 511;

/** XT_BPF_MODE_BYTECODE, XT_BPF_MODE_PATH_PINNED. */
const MODE_BYTECODE = 0;
const MODE_PATH = 1;
/** XT_BPF_MAX_NUM_INSTR, and struct sock_filter. */
const MAXIMUM_INSTRUCTIONS = 64;
const INSTRUCTION_BYTES = 8;

function readProgram(view: DataView, count: number, at: number): readonly ClassicInstruction[] {
  if (count === 0 || count > MAXIMUM_INSTRUCTIONS) refuse(`a program has no ${count} instructions`);
  return Array.from({ length: count }, (_, index) => {
    const offset = at + index * INSTRUCTION_BYTES;
    return {
      code: view.getUint16(offset, true),
      jumpTrue: view.getUint8(offset + 2),
      jumpFalse: view.getUint8(offset + 3),
      k: view.getUint32(offset + 4, true),
    };
  });
}

function writeProgram(view: DataView, at: number, program: readonly ClassicInstruction[]): void {
  for (const [index, { code, jumpTrue, jumpFalse, k }] of program.entries()) {
    const offset = at + index * INSTRUCTION_BYTES;
    view.setUint16(offset, code, true);
    view.setUint8(offset + 2, jumpTrue);
    view.setUint8(offset + 3, jumpFalse);
    view.setUint32(offset + 4, k, true);
  }
}

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
  // struct xt_bpf_info_v1 and xt_bpf_info: revision 0 has no mode, and only programs of its own
  abi: [
    {
      name: 'bpf',
      revision: 1,
      everyFamily: true,
      size: 528,
      userSize: 520,
      decode(view) {
        const mode = view.getUint16(0, true);
        if (mode === MODE_PATH) return { bytecode: undefined, pinned: readText(view, 8, PATH_BYTES + 1) };
        if (mode !== MODE_BYTECODE) unwritten(`a program of mode ${mode} is a descriptor of the caller`);
        return { bytecode: readProgram(view, view.getUint16(2, true), 8), pinned: undefined };
      },
      encode({ bytecode, pinned }, view) {
        view.setUint16(0, pinned === undefined ? MODE_BYTECODE : MODE_PATH, true);
        if (pinned !== undefined) writeText(view, 8, PATH_BYTES + 1, pinned);
        if (bytecode === undefined) return;
        view.setUint16(2, bytecode.length, true);
        writeProgram(view, 8, bytecode);
      },
    },
    {
      name: 'bpf',
      revision: 0,
      everyFamily: true,
      size: 528,
      userSize: 520,
      decode: (view) => ({ bytecode: readProgram(view, view.getUint16(0, true), 4), pinned: undefined }),
      encode({ bytecode = [] }, view) {
        view.setUint16(0, bytecode.length, true);
        writeProgram(view, 4, bytecode);
      },
    },
  ],
});
