/** `-m mh`: net/ipv6/netfilter/ip6t_mh.c; message types of RFC 6275 section 6.1. */
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatNumberRange } from '../../text/bounded.ts';
import { parseUnsigned } from '../../text/number.ts';
import { readFlags } from '../../uapi/payload.ts';

const TYPES: readonly (readonly [name: string, number: number])[] = [
  ['binding-refresh-request', 0],
  ['brr', 0],
  ['home-test-init', 1],
  ['hoti', 1],
  ['careof-test-init', 2],
  ['coti', 2],
  ['home-test', 3],
  ['hot', 3],
  ['careof-test', 4],
  ['cot', 4],
  ['binding-update', 5],
  ['bu', 5],
  ['binding-acknowledgement', 6],
  ['ba', 6],
  ['binding-error', 7],
  ['be', 7],
];

interface MhState {
  types: { readonly min: number; readonly max: number };
  negate: boolean;
}

/** A name, the beginning of one (the first that fits), or a number. */
function parseType(text: string): number {
  const lower = text.toLowerCase();
  const exact = TYPES.findLast(([name]) => name === lower) ?? TYPES.find(([name]) => name.startsWith(lower));
  const type = exact?.[1] ?? parseUnsigned(text, 0, 255);
  if (type === undefined)
    throw new OptionError(`unknown mobility header type "${text}"`, {
      hint: `a number, or one of ${TYPES.map(([name]) => name).join(', ')}`,
    });
  return type;
}

function parseTypes(text: string): { min: number; max: number } {
  const colon = text.indexOf(':');
  if (colon < 0) {
    const type = parseType(text);
    return { min: type, max: type };
  }
  const min = colon === 0 ? 0 : parseType(text.slice(0, colon));
  const max = colon === text.length - 1 ? 255 : parseType(text.slice(colon + 1));
  if (min > max) throw new OptionError(`the range ${text} is backwards`);
  return { min, max };
}

export const mh: MatchExtension = defineMatch<MhState>({
  name: 'mh',
  families: ['ipv6'],
  summary: 'Type of the mobility header',
  where: { protocols: [Protocol.MOBILITY] },
  options: [
    {
      name: 'mh-type',
      arguments: 1,
      negatable: true,
      syntax: 'type[:type]',
      summary: 'The type by name or number, or a range of types',
      apply(state, [value], negated) {
        state.types = parseTypes(value!);
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ types: { min: 0, max: 255 }, negate: false }),
  list({ types, negate }) {
    const all = types.min === 0 && types.max === 255 && !negate;
    return ` mh${all ? '' : ` ${negate ? '!' : ''}${formatNumberRange(types)}`}`;
  },
  print({ types, negate }) {
    if (types.min === 0 && types.max === 255 && !negate) return '';
    return `${negate ? ' !' : ''} --mh-type ${formatNumberRange(types)}`;
  },
  // struct ip6t_mh
  abi: [
    {
      name: 'mh',
      revision: 0,
      size: 3,
      decode(view) {
        const negate = readFlags(view, 2, 0x1, 'mh') !== 0;
        return { types: { min: view.getUint8(0), max: view.getUint8(1) }, negate };
      },
      encode({ types, negate }, view) {
        view.setUint8(0, types.min);
        view.setUint8(1, types.max);
        view.setUint8(2, negate ? 0x1 : 0);
      },
    },
  ],
});
