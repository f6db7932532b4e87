/** `-j NFLOG`: net/netfilter/xt_NFLOG.c. */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { quoted } from '../../text/quote.ts';
import { allowOne } from '../../text/requirement.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

/** sizeof(prefix) of struct xt_nflog_info less the terminator. */
const PREFIX_BYTES = 63;

/** XT_NFLOG_F_COPY_LEN */
const COPY_LENGTH = 0x1;

interface NflogState {
  group: number;
  prefix: string;
  /** Kept as it was written; the kernel passes it by. */
  range: number | undefined;
  sizeBytes: number | undefined;
  threshold: number;
}

function number<K extends 'group' | 'range' | 'sizeBytes' | 'threshold'>(
  name: string,
  key: K,
  max: number,
  summary: string,
): OptionSpec<NflogState> {
  return {
    name,
    arguments: 1,
    syntax: 'number',
    summary,
    apply(state, [value]) {
      (state as Record<K, number | undefined>)[key] = boundedNumber(value!, 0, max);
    },
  };
}

export const nflog: TargetExtension = defineTarget<NflogState>({
  name: 'NFLOG',
  families: ['ipv4', 'ipv6'],
  summary: 'Hands the packet to a logging program and goes on',
  options: [
    number('nflog-group', 'group', 0xffff, 'The netlink group the program listens to'),
    {
      name: 'nflog-prefix',
      arguments: 1,
      syntax: 'text',
      summary: `Text before the message; of longer ones only the first ${PREFIX_BYTES} bytes are kept`,
      apply(state, [value]) {
        if (value === '') throw new OptionError('the prefix is empty', { hint: 'leave the option out' });
        state.prefix = cutToBytes(value!, PREFIX_BYTES);
      },
    },
    number('nflog-range', 'range', UINT32_MAX, 'Has no effect: --nflog-size is its replacement'),
    number('nflog-size', 'sizeBytes', UINT32_MAX, 'How many bytes of the packet are handed over'),
    number('nflog-threshold', 'threshold', 0xffff, 'How many packets are handed over at once'),
  ],
  initial: () => ({ group: 0, prefix: '', range: undefined, sizeBytes: undefined, threshold: 0 }),
  finish({ range, sizeBytes }) {
    allowOne({ 'nflog-range': range !== undefined, 'nflog-size': sizeBytes !== undefined });
  },
  print({ group, prefix, range, sizeBytes, threshold }) {
    let text = prefix === '' ? '' : ` --nflog-prefix${quoted(prefix)}`;
    if (group !== 0) text += ` --nflog-group ${group}`;
    if (sizeBytes !== undefined) text += ` --nflog-size ${sizeBytes}`;
    else if (range) text += ` --nflog-range ${range}`;
    return threshold === 0 ? text : `${text} --nflog-threshold ${threshold}`;
  },
  // struct xt_nflog_info
  abi: [
    {
      name: 'NFLOG',
      revision: 0,
      size: 76,
      decode(view) {
        const flags = view.getUint16(8, true);
        if ((flags & ~COPY_LENGTH) !== 0) refuse(`NFLOG has unknown flags 0x${flags.toString(16)}`);
        const length = view.getUint32(0, true);
        const sized = (flags & COPY_LENGTH) !== 0;
        return {
          group: view.getUint16(4, true),
          prefix: readText(view, 12, PREFIX_BYTES + 1),
          range: sized || length === 0 ? undefined : length,
          sizeBytes: sized ? length : undefined,
          threshold: view.getUint16(6, true),
        };
      },
      encode({ group, prefix, range, sizeBytes, threshold }, view) {
        view.setUint32(0, sizeBytes ?? range ?? 0, true);
        view.setUint16(4, group, true);
        view.setUint16(6, threshold, true);
        view.setUint16(8, sizeBytes === undefined ? 0 : COPY_LENGTH, true);
        writeText(view, 12, PREFIX_BYTES + 1, prefix);
      },
    },
  ],
  // Nobody listens to netlink groups here; the packet goes on as it does without a listener.
  effect: () => 'continue',
});
