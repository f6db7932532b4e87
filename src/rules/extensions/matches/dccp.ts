/** `-m dccp`: net/netfilter/xt_dccp.c; packet types of RFC 4340 section 5.1. */
import type { PortRange } from '../../../net/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatPortRange, parsePortRange } from '../../names/services.ts';
import { didYouMean } from '../../suggestion.ts';
import { boundedNumber } from '../../text/bounded.ts';

/** By number. */
const TYPES = [
  'REQUEST',
  'RESPONSE',
  'DATA',
  'ACK',
  'DATAACK',
  'CLOSEREQ',
  'CLOSE',
  'RESET',
  'SYNC',
  'SYNCACK',
  'INVALID',
] as const;

interface Condition<T> {
  readonly value: T;
  readonly negate: boolean;
}

interface DccpState {
  source: Condition<PortRange> | undefined;
  destination: Condition<PortRange> | undefined;
  /** Bit n for type n. */
  types: Condition<number> | undefined;
  option: Condition<number> | undefined;
}

function ports(name: string, alias: string, key: 'source' | 'destination'): OptionSpec<DccpState> {
  return {
    name,
    aliases: [alias],
    arguments: 1,
    negatable: true,
    syntax: 'port[:port]',
    summary: `${key === 'source' ? 'Source' : 'Destination'} port or range`,
    apply(state, [value], negate) {
      state[key] = { value: parsePortRange(value!, undefined, true), negate };
    },
  };
}

function parseTypes(text: string): number {
  let mask = 0;
  for (const word of text.split(',')) {
    if (word === '') continue;
    const type = TYPES.indexOf(word.toUpperCase() as (typeof TYPES)[number]);
    if (type < 0)
      throw new OptionError(`unknown DCCP packet type "${word}"`, {
        hint: didYouMean(word, TYPES) ?? `types are ${TYPES.join(', ')}`,
      });
    mask |= 1 << type;
  }
  return mask;
}

function print<T>(option: string, condition: Condition<T> | undefined, format: (value: T) => string): string {
  if (condition === undefined) return '';
  return `${condition.negate ? ' !' : ''} --${option} ${format(condition.value)}`;
}

export const dccp: MatchExtension = defineMatch<DccpState>({
  name: 'dccp',
  families: ['ipv4', 'ipv6'],
  summary: 'Ports, packet types and options of DCCP',
  where: { protocols: [Protocol.DCCP] },
  options: [
    ports('source-port', 'sport', 'source'),
    ports('destination-port', 'dport', 'destination'),
    {
      name: 'dccp-types',
      arguments: 1,
      negatable: true,
      syntax: 'type[,…]',
      summary: 'The packet has one of these types',
      apply(state, [value], negate) {
        state.types = { value: parseTypes(value!), negate };
      },
    },
    {
      name: 'dccp-option',
      arguments: 1,
      negatable: true,
      syntax: 'number',
      summary: 'The packet has this option',
      apply(state, [value], negate) {
        state.option = { value: boundedNumber(value!, 1, 255), negate };
      },
    },
  ],
  initial: () => ({ source: undefined, destination: undefined, types: undefined, option: undefined }),
  print: (state) =>
    print('sport', state.source, formatPortRange) +
    print('dport', state.destination, formatPortRange) +
    print('dccp-types', state.types, (mask) => TYPES.filter((_, type) => mask & (1 << type)).join(',')) +
    print('dccp-option', state.option, String),
});
