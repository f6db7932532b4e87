/** `-j LOG`: net/netfilter/xt_LOG.c; levels of syslog(3). */
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { didYouMean } from '../../suggestion.ts';
import { parseUnsigned } from '../../text/number.ts';
import { quoted } from '../../text/quote.ts';
import { cutToBytes } from '../../text/utf8.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readText, writeText } from '../../uapi/payload.ts';

interface LogState {
  level: number;
  flags: number;
  prefix: string;
}

const DEFAULT_LEVEL = 4;
/** sizeof(prefix) of struct xt_log_info less the terminator. */
const PREFIX_BYTES = 29;
const LEVELS: ReadonlyMap<string, number> = new Map([
  ['emerg', 0],
  ['panic', 0],
  ['alert', 1],
  ['crit', 2],
  ['error', 3],
  ['warning', 4],
  ['notice', 5],
  ['info', 6],
  ['debug', 7],
]);
/** XT_LOG_* in the order they are printed. */
const FLAGS = [
  ['log-tcp-sequence', 0x01, 'TCP sequence and acknowledgement numbers'],
  ['log-tcp-options', 0x02, 'TCP options'],
  ['log-ip-options', 0x04, 'IP options'],
  ['log-uid', 0x08, 'The user that owns the socket'],
  ['log-macdecode', 0x20, 'MAC addresses and protocol, decoded'],
] as const;
const KNOWN_FLAGS = FLAGS.reduce((bits, [, flag]) => bits | flag, 0);

export const log: TargetExtension = defineTarget<LogState>({
  name: 'LOG',
  families: ['ipv4', 'ipv6'],
  summary: 'Writes the packet to the log and goes on',
  options: [
    {
      name: 'log-level',
      arguments: 1,
      syntax: 'level',
      summary: 'Level by number or name; warning when not given',
      apply(state, [value]) {
        const level = parseUnsigned(value!, 0, 7) ?? LEVELS.get(value!);
        if (level === undefined)
          throw new OptionError(`unknown log level "${value}"`, {
            hint: didYouMean(value!, LEVELS.keys()) ?? `0 to 7, or ${[...LEVELS.keys()].join(', ')}`,
          });
        state.level = level;
      },
    },
    {
      name: 'log-prefix',
      arguments: 1,
      syntax: 'text',
      summary: `Text before the message; of longer ones only the first ${PREFIX_BYTES} bytes are kept`,
      apply(state, [value]) {
        if (value === '') throw new OptionError('the prefix is empty', { hint: 'leave the option out' });
        state.prefix = cutToBytes(value!, PREFIX_BYTES);
      },
    },
    ...FLAGS.map(
      ([name, flag, summary]): OptionSpec<LogState> => ({
        name,
        arguments: 0,
        summary,
        apply(state) {
          state.flags |= flag;
        },
      }),
    ),
  ],
  initial: () => ({ level: DEFAULT_LEVEL, flags: 0, prefix: '' }),
  list: ({ level, flags, prefix }) =>
    ` LOG flags ${flags} level ${level}${prefix === '' ? '' : ` prefix "${prefix}"`}`,
  print(state) {
    let text = state.prefix === '' ? '' : ` --log-prefix${quoted(state.prefix)}`;
    if (state.level !== DEFAULT_LEVEL) text += ` --log-level ${state.level}`;
    for (const [name, flag] of FLAGS) if ((state.flags & flag) !== 0) text += ` --${name}`;
    return text;
  },
  // struct xt_log_info
  abi: [
    {
      name: 'LOG',
      revision: 0,
      size: 32,
      decode(view) {
        const level = view.getUint8(0);
        if (level > 7) refuse(`LOG has the unknown level ${level}`);
        const flags = view.getUint8(1);
        if ((flags & ~KNOWN_FLAGS) !== 0) unwritten('LOG has unknown flags');
        if (view.getUint8(31) !== 0) refuse('LOG: the prefix is not terminated');
        return { level, flags, prefix: readText(view, 2, PREFIX_BYTES + 1) };
      },
      encode(state, view) {
        view.setUint8(0, state.level);
        view.setUint8(1, state.flags);
        writeText(view, 2, PREFIX_BYTES + 1, state.prefix);
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      packet.log({
        level: state.level,
        flags: state.flags,
        prefix: state.prefix,
        hook: packet.hook,
        inDevice: packet.inDevice,
        outDevice: packet.outDevice,
        bytes: packet.bytes,
        mark: packet.mark,
      });
      return 'continue';
    },
    lower: (state) => ({ kind: 'log', level: state.level, flags: state.flags, prefix: state.prefix }),
  },
});
