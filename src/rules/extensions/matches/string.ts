/** `-m string`: net/netfilter/xt_string.c, revision 1. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { parseHexString } from '../../text/hex-string.ts';
import { allowOne, requireAll, requireAny } from '../../text/requirement.ts';
import { cutToBytes, utf8Bytes } from '../../text/utf8.ts';
import { refuse } from '../../uapi/errno.ts';
import { readBytes, readFlags, readText, writeBytes, writeText } from '../../uapi/payload.ts';

/** XT_STRING_MAX_PATTERN_SIZE */
const PATTERN_BYTES = 128;
/** XT_STRING_MAX_ALGO_NAME_SIZE, its final zero byte taken off. */
const ALGORITHM_BYTES = 15;
/** What lib/ts_*.c of the kernel offers to xt_string: fsm patterns have a form of their own. */
const ALGORITHMS = ['bm', 'kmp'];

/** XT_STRING_FLAG_* */
const INVERT = 0x1;
const IGNORE_CASE = 0x2;

interface StringState {
  text: boolean;
  hex: boolean;
  pattern: Uint8Array;
  negate: boolean;
  algorithm: string | undefined;
  ignoreCase: boolean;
  /** Offsets from the network header where a match may begin. */
  from: number;
  to: number;
}

function printable(byte: number): boolean {
  return byte >= 0x20 && byte < 0x7f;
}

/** As text where that can be read back, else between bars in hexadecimal. */
function formatPattern(pattern: Uint8Array): { readonly option: string; readonly text: string } {
  if (pattern.every(printable) && pattern.at(-1) !== 0x5c) {
    const text = String.fromCharCode(...pattern);
    return { option: '--string', text: `"${text.replace(/["\\]/g, '\\$&')}"` };
  }
  const digits = Array.from(pattern, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return { option: '--hex-string', text: `"|${digits}|"` };
}

function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

/** skb_find_text(): the whole string lies between the offsets, and in the packet. */
function found({ pattern, ignoreCase, from, to }: StringState, bytes: Uint8Array): boolean {
  const same = (a: number, b: number): boolean => a === b || (ignoreCase && lowerCase(a) === lowerCase(b));
  const last = Math.min(to, bytes.length) - pattern.length;
  for (let start = from; start <= last; start++)
    if (pattern.every((byte, index) => same(byte, bytes[start + index]!))) return true;
  return false;
}

export const string: MatchExtension = defineMatch<StringState>({
  name: 'string',
  families: ['ipv4', 'ipv6'],
  summary: 'A string in the packet',
  options: [
    {
      name: 'from',
      arguments: 1,
      syntax: 'offset',
      summary: 'Where the search begins (default 0)',
      apply(state, [value]) {
        state.from = boundedNumber(value!, 0, 0xffff);
      },
    },
    {
      name: 'to',
      arguments: 1,
      syntax: 'offset',
      summary: 'Where the search ends (default 65535)',
      apply(state, [value]) {
        state.to = boundedNumber(value!, 0, 0xffff);
      },
    },
    {
      name: 'algo',
      arguments: 1,
      syntax: 'bm|kmp',
      summary: 'Boyer-Moore or Knuth-Morris-Pratt',
      apply(state, [value]) {
        state.algorithm = cutToBytes(value!, ALGORITHM_BYTES);
      },
    },
    {
      name: 'string',
      arguments: 1,
      negatable: true,
      syntax: 'text',
      summary: 'The string itself',
      apply(state, [value], negated) {
        state.text = true;
        state.pattern = utf8Bytes(value!);
        if (state.pattern.length > PATTERN_BYTES)
          throw new OptionError(`the string has ${state.pattern.length} bytes, at most ${PATTERN_BYTES} fit`);
        state.negate ||= negated;
      },
    },
    {
      name: 'hex-string',
      arguments: 1,
      negatable: true,
      syntax: '"text|hex bytes|text"',
      summary: 'The string, with bytes in hexadecimal between bars',
      apply(state, [value], negated) {
        state.hex = true;
        state.pattern = parseHexString(value!, PATTERN_BYTES);
        state.negate ||= negated;
      },
    },
    {
      name: 'icase',
      arguments: 0,
      summary: 'Ignores the case of ASCII letters',
      apply(state) {
        state.ignoreCase = true;
      },
    },
  ],
  initial: () => ({
    text: false,
    hex: false,
    pattern: new Uint8Array(0),
    negate: false,
    algorithm: undefined,
    ignoreCase: false,
    from: 0,
    to: 0xffff,
  }),
  finish(state) {
    requireAny('string', { string: state.text, 'hex-string': state.hex });
    requireAll('string', { algo: state.algorithm !== undefined });
    allowOne({ string: state.text, 'hex-string': state.hex });
  },
  admit(state) {
    if (!ALGORITHMS.includes(state.algorithm!))
      throw new OptionError(`unknown search algorithm "${state.algorithm}"`, {
        hint: 'write --algo bm or --algo kmp',
        argument: -1,
      });
    if (state.pattern.length === 0) throw new OptionError('the string is empty', { argument: -1 });
    if (state.from > state.to)
      throw new OptionError(`the search begins at ${state.from}, after its end ${state.to}`, {
        argument: -1,
      });
  },
  list(state) {
    let text = ` STRING match ${state.negate ? '!' : ''} ${formatPattern(state.pattern).text} ALGO name ${state.algorithm}`;
    if (state.from !== 0) text += ` FROM ${state.from}`;
    if (state.to !== 0xffff) text += ` TO ${state.to}`;
    return state.ignoreCase ? `${text} ICASE` : text;
  },
  print(state) {
    const { option, text: pattern } = formatPattern(state.pattern);
    let text = `${state.negate ? ' !' : ''} ${option} ${pattern} --algo ${state.algorithm}`;
    if (state.from !== 0) text += ` --from ${state.from}`;
    if (state.to !== 0xffff) text += ` --to ${state.to}`;
    return state.ignoreCase ? `${text} --icase` : text;
  },
  // struct xt_string_info
  abi: [
    {
      name: 'string',
      revision: 1,
      everyFamily: true,
      size: 160,
      userSize: 152,
      decode(view) {
        const flags = readFlags(view, 149, INVERT | IGNORE_CASE, 'string');
        const length = view.getUint8(148);
        if (length > PATTERN_BYTES) refuse(`a string has no ${length} bytes`);
        return {
          text: true,
          hex: false,
          from: view.getUint16(0, true),
          to: view.getUint16(2, true),
          algorithm: readText(view, 4, ALGORITHM_BYTES + 1),
          pattern: readBytes(view, 20, length),
          negate: (flags & INVERT) !== 0,
          ignoreCase: (flags & IGNORE_CASE) !== 0,
        };
      },
      encode(state, view) {
        view.setUint16(0, state.from, true);
        view.setUint16(2, state.to, true);
        writeText(view, 4, ALGORITHM_BYTES + 1, state.algorithm!);
        writeBytes(view, 20, state.pattern);
        view.setUint8(148, state.pattern.length);
        view.setUint8(149, (state.negate ? INVERT : 0) | (state.ignoreCase ? IGNORE_CASE : 0));
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => found(state, packet.bytes) !== state.negate,
    explain: (state) =>
      `the packet ${state.negate ? 'contains' : 'does not contain'} ${formatPattern(state.pattern).text}`,
  },
});
