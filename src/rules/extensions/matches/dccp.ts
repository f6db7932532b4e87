/** `-m dccp`: net/netfilter/xt_dccp.c; packet types of RFC 4340 section 5.1. */
import type { PortRange } from '../../../net/index.ts';
import { defineMatch, type MatchExtension, OptionError, type OptionSpec } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { formatPortRange, parsePortRange } from '../../names/services.ts';
import { didYouMean } from '../../suggestion.ts';
import { boundedNumber } from '../../text/bounded.ts';
import { refuse } from '../../uapi/errno.ts';

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

/** XT_DCCP_* */
const Flag = { SOURCE: 0x1, DESTINATION: 0x2, TYPE: 0x4, OPTION: 0x8 } as const;
const ALL_FLAGS = 0xf;

const INVALID = TYPES.indexOf('INVALID');
/** The numbers from INVALID on, as far as a mask of 16 bits goes. */
const EVERY_INVALID = 0xfc00;

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
    mask |= type === INVALID ? EVERY_INVALID : 1 << type;
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
  // struct xt_dccp_info
  abi: [
    {
      name: 'dccp',
      revision: 0,
      size: 16,
      decode(view) {
        const [flags, invert] = [view.getUint16(8, true), view.getUint16(10, true)];
        if ((flags & ~ALL_FLAGS) !== 0 || (invert & ~ALL_FLAGS) !== 0 || (invert & flags) !== invert)
          refuse('dccp has unknown flags');
        const condition = <T>(flag: number, value: T): Condition<T> | undefined =>
          (flags & flag) === 0 ? undefined : { value, negate: (invert & flag) !== 0 };
        const range = (at: number): PortRange => ({
          min: view.getUint16(at, true),
          max: view.getUint16(at + 2, true),
        });
        return {
          source: condition(Flag.SOURCE, range(4)),
          destination: condition(Flag.DESTINATION, range(0)),
          types: condition(Flag.TYPE, view.getUint16(12, true)),
          option: condition(Flag.OPTION, view.getUint8(14)),
        };
      },
      encode({ source, destination, types, option }, view) {
        let flags = 0;
        let invert = 0;
        const set = <T>(
          flag: number,
          condition: Condition<T> | undefined,
          write: (value: T) => void,
        ): void => {
          if (condition === undefined) return;
          flags |= flag;
          if (condition.negate) invert |= flag;
          write(condition.value);
        };
        const range = (at: number) => (value: PortRange) => {
          view.setUint16(at, value.min, true);
          view.setUint16(at + 2, value.max, true);
        };
        set(Flag.SOURCE, source, range(4));
        set(Flag.DESTINATION, destination, range(0));
        set(Flag.TYPE, types, (mask) => view.setUint16(12, mask, true));
        set(Flag.OPTION, option, (number) => view.setUint8(14, number));
        view.setUint16(8, flags, true);
        view.setUint16(10, invert, true);
      },
    },
  ],
});
