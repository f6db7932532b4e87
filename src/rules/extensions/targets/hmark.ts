/** `-j HMARK`: net/netfilter/xt_HMARK.c. */
import { addressLength, type Family, lengthOfMask, maskOfLength } from '../../../net/index.ts';
import { defineTarget, OptionError, type OptionSpec, type TargetExtension } from '../../extension.ts';
import { boundedNumber, UINT32_MAX } from '../../text/bounded.ts';
import { parsePrefixMask } from '../../text/host.ts';
import { allowOne, requireAll } from '../../text/requirement.ts';

interface HmarkState {
  sourceMask: Uint8Array | undefined;
  destinationMask: Uint8Array | undefined;
  sourcePortMask: number | undefined;
  destinationPortMask: number | undefined;
  spiMask: number | undefined;
  /** Set in ports and SPI before hashing. */
  sourcePort: number | undefined;
  destinationPort: number | undefined;
  spi: number | undefined;
  protocolMask: number | undefined;
  seed: number | undefined;
  modulus: number | undefined;
  offset: number | undefined;
  /** Addresses and ports are those of the connection, before translation. */
  connection: boolean;
}

type NumberKey = Exclude<keyof HmarkState, 'sourceMask' | 'destinationMask' | 'connection'>;

function hex(digits: number): (value: number) => string {
  return (value) => `0x${value.toString(16).padStart(digits, '0')}`;
}

/** In the order of printing. */
const NUMBERS: readonly (readonly [
  option: string,
  key: NumberKey,
  min: number,
  max: number,
  format: (value: number) => string,
  summary: string,
])[] = [
  ['hmark-sport-mask', 'sourcePortMask', 0, 0xffff, hex(4), 'Bits of the source port that count'],
  ['hmark-dport-mask', 'destinationPortMask', 0, 0xffff, hex(4), 'Bits of the destination port that count'],
  ['hmark-spi-mask', 'spiMask', 0, UINT32_MAX, hex(8), 'Bits of the SPI of AH and ESP that count'],
  ['hmark-sport', 'sourcePort', 0, 0xffff, hex(4), 'Bits that are set in the source port'],
  ['hmark-dport', 'destinationPort', 0, 0xffff, hex(4), 'Bits that are set in the destination port'],
  ['hmark-spi', 'spi', 0, UINT32_MAX, hex(8), 'Bits that are set in the SPI'],
  ['hmark-proto-mask', 'protocolMask', 0, 0xffff, hex(2), 'Bits of the protocol that count'],
  ['hmark-rnd', 'seed', 0, UINT32_MAX, hex(8), 'Seed of the hash'],
  ['hmark-mod', 'modulus', 1, UINT32_MAX, String, 'How many marks there are'],
  ['hmark-offset', 'offset', 0, UINT32_MAX, String, 'The first mark'],
];

function refuseTwice(option: string, given: boolean): void {
  if (given) throw new OptionError(`--hmark-tuple and --${option} say the same twice`, { argument: -1 });
}

function prefix(
  name: string,
  key: 'sourceMask' | 'destinationMask',
  summary: string,
): OptionSpec<HmarkState> {
  return {
    name,
    arguments: 1,
    syntax: 'prefix length',
    summary,
    apply(state, [value], _negated, { family }) {
      refuseTwice(name, state[key] !== undefined);
      state[key] = parsePrefixMask(value!, family);
    },
  };
}

/** What each word of `--hmark-tuple` makes count in full; words may be cut short. */
const TUPLE: readonly (readonly [word: string, counted: (family: Family) => Partial<HmarkState>])[] = [
  ['ct', () => ({ connection: true })],
  ['src', (family) => ({ sourceMask: allBits(family) })],
  ['dst', (family) => ({ destinationMask: allBits(family) })],
  ['sport', () => ({ sourcePortMask: 0xffff })],
  ['dport', () => ({ destinationPortMask: 0xffff })],
  ['proto', () => ({ protocolMask: 0xffff })],
  ['spi', () => ({ spiMask: UINT32_MAX })],
];

function allBits(family: Family): Uint8Array {
  return maskOfLength(family, addressLength(family) * 8);
}

export const hmark: TargetExtension = defineTarget<HmarkState>({
  name: 'HMARK',
  families: ['ipv4', 'ipv6'],
  summary: 'Sets the mark to a hash of addresses and ports, and goes on',
  options: [
    {
      name: 'hmark-tuple',
      arguments: 1,
      syntax: 'src|dst|sport|dport|spi|proto|ct[,…]',
      summary: 'What the hash is made of; ct for the addresses of the connection',
      apply(state, [value], _negated, { family }) {
        for (const word of value!.split(',')) {
          const entry = TUPLE.find(([name]) => word !== '' && name.startsWith(word.toLowerCase()));
          if (entry === undefined)
            throw new OptionError(`"${word}" cannot be hashed`, {
              hint: `write some of ${TUPLE.map(([name]) => name).join(', ')}`,
            });
          Object.assign(state, entry[1](family));
        }
      },
    },
    prefix('hmark-src-prefix', 'sourceMask', 'How much of the source address counts'),
    prefix('hmark-dst-prefix', 'destinationMask', 'How much of the destination address counts'),
    ...NUMBERS.map(
      ([name, key, min, max, , summary]): OptionSpec<HmarkState> => ({
        name,
        arguments: 1,
        syntax: 'number',
        summary,
        apply(state, [value]) {
          refuseTwice(name, state[key] !== undefined);
          state[key] = boundedNumber(value!, min, max);
        },
      }),
    ),
  ],
  initial: () => ({
    sourceMask: undefined,
    destinationMask: undefined,
    sourcePortMask: undefined,
    destinationPortMask: undefined,
    spiMask: undefined,
    sourcePort: undefined,
    destinationPort: undefined,
    spi: undefined,
    protocolMask: undefined,
    seed: undefined,
    modulus: undefined,
    offset: undefined,
    connection: false,
  }),
  finish(state) {
    const { sourcePortMask, destinationPortMask, spiMask } = state;
    requireAll('HMARK', { 'hmark-mod': state.modulus !== undefined, 'hmark-rnd': state.seed !== undefined });
    allowOne({ 'hmark-spi-mask': spiMask !== undefined, 'hmark-sport-mask': sourcePortMask !== undefined });
    allowOne({
      'hmark-spi-mask': spiMask !== undefined,
      'hmark-dport-mask': destinationPortMask !== undefined,
    });
    const { modulus, seed, offset, connection, ...fields } = state;
    if (!connection && Object.values(fields).every((given) => given === undefined))
      throw new OptionError('nothing is hashed', { hint: 'add --hmark-tuple', argument: -1 });
  },
  admit({ spi, sourcePort, destinationPort }) {
    if (spi !== undefined && (sourcePort !== undefined || destinationPort !== undefined))
      throw new OptionError('--hmark-spi cannot be used together with --hmark-sport or --hmark-dport', {
        argument: -1,
      });
  },
  print(state) {
    let text = '';
    if (state.sourceMask) text += ` --hmark-src-prefix ${lengthOfMask(state.sourceMask)}`;
    if (state.destinationMask) text += ` --hmark-dst-prefix ${lengthOfMask(state.destinationMask)}`;
    for (const [option, key, , , format] of NUMBERS) {
      const value = state[key];
      if (value !== undefined) text += ` --${option} ${format(value)}`;
    }
    return state.connection ? `${text} --hmark-tuple ct` : text;
  },
});
