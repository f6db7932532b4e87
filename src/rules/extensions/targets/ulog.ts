/** `-j ULOG`: net/ipv4/netfilter/ipt_ULOG.c, which left the kernel with 3.17. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { quoted } from '../../text/quote.ts';
import { cutToBytes } from '../../text/utf8.ts';

/** ULOG_PREFIX_LEN - 1 */
const PREFIX_BYTES = 31;
/** ULOG_MAX_QLEN */
const MAXIMUM_QUEUE = 50;

interface UlogState {
  /** From 1; one of 32 bits in the kernel. */
  group: number;
  prefix: string;
  copyBytes: number;
  queueThreshold: number;
}

function number(
  name: string,
  key: 'group' | 'copyBytes' | 'queueThreshold',
  min: number,
  max: number,
  summary: string,
): OptionSpec<UlogState> {
  return {
    name,
    arguments: 1,
    syntax: 'number',
    summary,
    apply(state, [value]) {
      state[key] = boundedNumber(value!, min, max);
    },
  };
}

export const ulog: TargetExtension = defineTarget<UlogState>({
  name: 'ULOG',
  families: ['ipv4'],
  summary: 'Handed packets to a logging program, in kernels of old; NFLOG has taken its place',
  options: [
    number('ulog-nlgroup', 'group', 1, 32, 'The netlink group'),
    {
      name: 'ulog-prefix',
      arguments: 1,
      syntax: 'text',
      summary: `Text before the message, at most ${PREFIX_BYTES} bytes`,
      apply(state, [value]) {
        state.prefix = cutToBytes(value!, PREFIX_BYTES);
      },
    },
    number('ulog-cprange', 'copyBytes', 0, UINT32_MAX, 'How many bytes of the packet, 0 for all'),
    number('ulog-qthreshold', 'queueThreshold', 1, MAXIMUM_QUEUE, 'How many packets at once'),
  ],
  initial: () => ({ group: 1, prefix: '', copyBytes: 0, queueThreshold: 1 }),
  admit() {
    throw new OptionError('kernels since 3.17 do not have it', { hint: 'use -j NFLOG', argument: -1 });
  },
  print({ group, prefix, copyBytes, queueThreshold }) {
    let text = prefix === '' ? '' : ` --ulog-prefix${quoted(prefix)}`;
    if (group !== 1) text += ` --ulog-nlgroup ${group}`;
    if (copyBytes !== 0) text += ` --ulog-cprange ${copyBytes}`;
    return queueThreshold === 1 ? text : `${text} --ulog-qthreshold ${queueThreshold}`;
  },
});
