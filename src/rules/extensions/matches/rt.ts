/** `-m rt`: net/ipv6/netfilter/ip6t_rt.c. */
import { formatAddressBytes, parseAddress } from '../../../net/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { boundedNumber, formatNumberRange, numberRange, UINT32_MAX } from '../../text/bounded.ts';

/** IP6T_RT_HOPS */
const MAXIMUM_ADDRESSES = 16;

interface Condition {
  readonly value: number;
  readonly negate: boolean;
}

interface RtState {
  type: Condition | undefined;
  segmentsLeft: { readonly min: number; readonly max: number };
  segmentsLeftNegated: boolean;
  length: Condition | undefined;
  reserved: boolean;
  addresses: readonly Uint8Array[] | undefined;
  notStrict: boolean;
}

function number(name: string, key: 'type' | 'length', summary: string): OptionSpec<RtState> {
  return {
    name,
    arguments: 1,
    negatable: true,
    syntax: 'number',
    summary,
    apply(state, [value], negate) {
      state[key] = { value: boundedNumber(value!, 0, UINT32_MAX), negate };
    },
  };
}

/** Only type 0 has what these options ask for, and they stand after it. */
function needType0(state: RtState): void {
  if (state.type?.value !== 0 || state.type.negate)
    throw new OptionError('--rt-type 0 has to stand before', { argument: -1 });
}

function parseAddresses(text: string): Uint8Array[] {
  const words = text.split(',');
  if (words.length > MAXIMUM_ADDRESSES)
    throw new OptionError(`at most ${MAXIMUM_ADDRESSES} addresses fit in one rule`);
  return words.map((word) => {
    const address = parseAddress(word);
    if (address?.family !== 'ipv6') throw new OptionError(`"${word}" is not an IPv6 address`);
    return address.bytes;
  });
}

export const rt: MatchExtension = defineMatch<RtState>({
  name: 'rt',
  families: ['ipv6'],
  summary: 'Fields of the routing header',
  options: [
    number('rt-type', 'type', 'Type of the header'),
    {
      name: 'rt-segsleft',
      arguments: 1,
      negatable: true,
      syntax: 'number[:number]',
      summary: 'Segments left, or a range of them',
      apply(state, [value], negated) {
        state.segmentsLeft = numberRange(value!, UINT32_MAX);
        state.segmentsLeftNegated = negated;
      },
    },
    number('rt-len', 'length', 'Length of the header in bytes'),
    {
      name: 'rt-0-res',
      arguments: 0,
      summary: 'The reserved field is 0 (after --rt-type 0)',
      apply(state) {
        needType0(state);
        state.reserved = true;
      },
    },
    {
      name: 'rt-0-addrs',
      arguments: 1,
      syntax: 'address[,…]',
      summary: 'The addresses of the header (after --rt-type 0)',
      apply(state, [value]) {
        needType0(state);
        state.addresses = parseAddresses(value!);
      },
    },
    {
      name: 'rt-0-not-strict',
      arguments: 0,
      summary: 'Other addresses may stand between them (after --rt-0-addrs)',
      apply(state) {
        if (state.addresses === undefined)
          throw new OptionError('--rt-0-addrs has to stand before', { argument: -1 });
        state.notStrict = true;
      },
    },
  ],
  initial: () => ({
    type: undefined,
    segmentsLeft: { min: 0, max: UINT32_MAX },
    segmentsLeftNegated: false,
    length: undefined,
    reserved: false,
    addresses: undefined,
    notStrict: false,
  }),
  print(state) {
    const { type, segmentsLeft, length, addresses } = state;
    let text = type === undefined ? '' : `${type.negate ? ' !' : ''} --rt-type ${type.value}`;
    if (segmentsLeft.min !== 0 || segmentsLeft.max !== UINT32_MAX)
      text += `${state.segmentsLeftNegated ? ' !' : ''} --rt-segsleft ${formatNumberRange(segmentsLeft)}`;
    if (length !== undefined) text += `${length.negate ? ' !' : ''} --rt-len ${length.value}`;
    if (state.reserved) text += ' --rt-0-res';
    if (addresses !== undefined) text += ` --rt-0-addrs ${addresses.map(formatAddressBytes).join(',')}`;
    return state.notStrict ? `${text} --rt-0-not-strict` : text;
  },
});
