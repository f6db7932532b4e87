/** `-m ipv6header`: net/ipv6/netfilter/ip6t_ipv6header.c. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { parseProtocol } from '../../names/protocols.ts';
import { requireAll } from '../../text/requirement.ts';
import { unwritten } from '../../uapi/errno.ts';
import { readBoolean } from '../../uapi/payload.ts';

/** In the order of printing, with the name printed. 255 stands for any upper-layer protocol. */
const HEADERS: readonly (readonly [number: number, name: string, others: readonly string[]])[] = [
  [0, 'hop-by-hop', ['hop', '0']],
  [60, 'ipv6-opts', ['dst', '60']],
  [43, 'ipv6-route', ['route', '43']],
  [44, 'ipv6-frag', ['frag', '44']],
  [51, 'ah', ['auth', '51']],
  [50, 'esp', ['50']],
  [59, 'ipv6-nonxt', ['none', '59']],
  [255, 'protocol', ['prot', '255']],
];

/** MASK_*, in the order of {@link HEADERS}. */
const BITS = [0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01] as const;

interface Ipv6HeaderState {
  /** Numbers of the headers. */
  headers: ReadonlySet<number> | undefined;
  negate: boolean;
  soft: boolean;
}

function parseHeader(word: string): number {
  const written = HEADERS.find(([, name, others]) => word === name || others.includes(word));
  const number = written?.[0] ?? (/^[0-9]/.test(word) || word === 'all' ? undefined : parseProtocol(word));
  if (number === undefined || !HEADERS.some(([known]) => known === number))
    throw new OptionError(`unknown header "${word}"`, {
      hint: `headers are ${HEADERS.map(([, name]) => name).join(', ')}`,
    });
  return number;
}

export const ipv6header: MatchExtension = defineMatch<Ipv6HeaderState>({
  name: 'ipv6header',
  families: ['ipv6'],
  summary: 'Which extension headers and upper-layer protocol the packet has',
  options: [
    {
      name: 'header',
      arguments: 1,
      negatable: true,
      syntax: 'header[,…]',
      summary: 'The packet has exactly these headers',
      apply(state, [value], negated) {
        state.headers = new Set(
          value!
            .split(',')
            .filter((word) => word !== '')
            .map(parseHeader),
        );
        if (state.headers.size === 0) throw new OptionError('no header is named');
        state.negate = negated;
      },
    },
    {
      name: 'soft',
      arguments: 0,
      summary: 'It may have others too',
      apply(state) {
        state.soft = true;
      },
    },
  ],
  initial: () => ({ headers: undefined, negate: false, soft: false }),
  finish: (state) => requireAll('ipv6header', { header: state.headers !== undefined }),
  admit({ negate, soft }) {
    if (negate && soft) throw new OptionError('"!" and --soft do not go together', { argument: -1 });
  },
  print({ headers, negate, soft }) {
    const names = HEADERS.filter(([number]) => headers!.has(number)).map(([, name]) => name);
    return `${negate ? ' !' : ''} --header ${names.join(',')}${soft ? ' --soft' : ''}`;
  },
  // struct ip6t_ipv6header_info
  abi: [
    {
      name: 'ipv6header',
      revision: 0,
      size: 3,
      decode(view) {
        const [flags, invert] = [view.getUint8(0), view.getUint8(1)];
        // Only all headers are negated, or none (checked in admit for --soft).
        if (invert !== 0 && invert !== 0xff) unwritten('ipv6header negates single headers');
        return {
          headers: new Set(HEADERS.map(([number]) => number).filter((_, index) => flags & BITS[index]!)),
          negate: invert !== 0,
          soft: readBoolean(view, 2),
        };
      },
      encode({ headers, negate, soft }, view) {
        let flags = 0;
        for (const [index, [number]] of HEADERS.entries()) if (headers!.has(number)) flags |= BITS[index]!;
        view.setUint8(0, flags);
        view.setUint8(1, negate ? 0xff : 0);
        view.setUint8(2, soft ? 0xff : 0);
      },
    },
  ],
});
