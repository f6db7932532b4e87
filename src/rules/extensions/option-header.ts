/** The body of `dst` and `hbh`: net/ipv6/netfilter/ip6t_hbh.c, struct ip6t_opts. */
import { defineMatch, type MatchExtension, OptionError } from '../extension.ts';
import { boundedNumber, UINT32_MAX } from '../text/bounded.ts';
import { parseUnsigned } from '../text/number.ts';
import { refuse, unwritten } from '../uapi/errno.ts';
import { readFlags } from '../uapi/payload.ts';

/** IP6T_OPTS_OPTSNR */
const MAXIMUM_OPTIONS = 16;
/** In struct ip6t_opts this length stands for any. */
const ANY_LENGTH = 0xff;

/** IP6T_OPTS_* */
const Flag = { LENGTH: 0x1, OPTIONS: 0x2, NOT_STRICT: 0x4 } as const;

interface HeaderOption {
  readonly type: number;
  /** Bytes of data, 255 for any number. */
  readonly length: number;
}

interface OptionHeaderState {
  length: { readonly value: number; readonly negate: boolean } | undefined;
  options: readonly HeaderOption[];
}

/** Larger numbers lose their upper bits, as in iptables. */
function parseByte(text: string): number {
  const value = parseUnsigned(text, 0, Number.MAX_SAFE_INTEGER);
  if (value === undefined) throw new OptionError(`"${text}" is not a number`);
  return value % 256;
}

function parseHeaderOptions(text: string): HeaderOption[] {
  const words = text.split(',');
  if (words.length > MAXIMUM_OPTIONS)
    throw new OptionError(`at most ${MAXIMUM_OPTIONS} options fit in one rule`);
  return words.map((word, index) => {
    const colon = word.indexOf(':');
    const type = parseByte(colon < 0 ? word : word.slice(0, colon));
    if (colon < 0) return { type, length: ANY_LENGTH };
    if (index === MAXIMUM_OPTIONS - 1)
      throw new OptionError(`option ${MAXIMUM_OPTIONS} can stand without a length only`);
    if (type === 0) throw new OptionError('Pad1 (type 0) has no length');
    return { type, length: parseByte(word.slice(colon + 1)) };
  });
}

/** The match for one of the two headers: its name is the beginning of its options. */
export function defineOptionHeader(name: 'dst' | 'hbh', header: string): MatchExtension {
  return defineMatch<OptionHeaderState>({
    name,
    families: ['ipv6'],
    summary: `Length and options of the ${header} header`,
    options: [
      {
        name: `${name}-len`,
        arguments: 1,
        negatable: true,
        syntax: 'length',
        summary: 'Length of the header in bytes',
        apply(state, [value], negate) {
          state.length = { value: boundedNumber(value!, 0, UINT32_MAX), negate };
        },
      },
      {
        name: `${name}-opts`,
        arguments: 1,
        syntax: 'type[:length][,…]',
        summary: 'The first options of the header, in order, with the length of their data',
        apply(state, [value]) {
          state.options = parseHeaderOptions(value!);
        },
      },
    ],
    initial: () => ({ length: undefined, options: [] }),
    print({ length, options }) {
      const words = options.map((one) =>
        one.length === ANY_LENGTH ? `${one.type}` : `${one.type}:${one.length}`,
      );
      const lengthText =
        length === undefined ? '' : `${length.negate ? ' !' : ''} --${name}-len ${length.value}`;
      return words.length === 0 ? lengthText : `${lengthText} --${name}-opts ${words.join(',')}`;
    },
    // struct ip6t_opts
    abi: [
      {
        name,
        revision: 0,
        size: 40,
        decode(view) {
          const negate = readFlags(view, 5, 0x1, name) !== 0;
          const flags = view.getUint8(4);
          if ((flags & Flag.NOT_STRICT) !== 0) refuse(`${name}: there is no other order of options`);
          const count = view.getUint8(38);
          if (count > MAXIMUM_OPTIONS) unwritten(`${name}: there are too many options`);
          const options = Array.from({ length: count }, (_, index) => {
            const one = view.getUint16(6 + 2 * index, true);
            return { type: one >> 8, length: one & 0xff };
          });
          return {
            length: (flags & Flag.LENGTH) === 0 ? undefined : { value: view.getUint32(0, true), negate },
            options,
          };
        },
        encode({ length, options }, view) {
          view.setUint32(0, length?.value ?? 0, true);
          view.setUint8(
            4,
            (length === undefined ? 0 : Flag.LENGTH) | (options.length === 0 ? 0 : Flag.OPTIONS),
          );
          view.setUint8(5, length?.negate === true ? 0x1 : 0);
          for (const [index, one] of options.entries())
            view.setUint16(6 + 2 * index, (one.type << 8) | one.length, true);
          view.setUint8(38, options.length);
        },
      },
    ],
  });
}
