/** `-m tcp`: net/netfilter/xt_tcpudp.c tcp_mt; options of iptables-extensions(8). */
import type { Predicate } from '../../../ir/index.ts';
import { ALL_PORTS } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import {
  defineMatch,
  type MatchExtension,
  type MatchOutcome,
  OptionError,
  type RuleContext,
} from '../../extension.ts';
import type { MatchUse } from '../../model.ts';
import { Protocol } from '../../names/protocols.ts';
import { didYouMean } from '../../suggestion.ts';
import { parseUnsigned } from '../../text/number.ts';
import { readFlags } from '../../uapi/payload.ts';
import { fieldIs, hasBytes } from '../header.ts';
import {
  decodePorts,
  encodePorts,
  explainPorts,
  listPorts,
  lowerPorts,
  type PortState,
  portOptions,
  portsMatch,
  printPorts,
} from '../ports.ts';

interface TcpState extends PortState {
  flagMask: number;
  flagValue: number;
  flagsNegated: boolean;
  flagsGiven: boolean;
  /** TCP option kind that must be present; 0 for none asked. */
  option: number;
  optionNegated: boolean;
}

const HEADER_BYTES = 20;
const FLAG_NAMES = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'] as const;
const FLAG_ALL = 0x3f;
/** --syn: SYN set, and FIN, RST and ACK clear. */
const SYN_MASK = 0x17;
const SYN = 0x02;
/** XT_TCP_INV_FLAGS, XT_TCP_INV_OPTION, XT_TCP_INV_MASK. */
const INVERT_FLAGS = 0x04;
const INVERT_OPTION = 0x08;
const INVERT_ALL = 0x0f;

function parseFlags(text: string, argument: number): number {
  let bits = 0;
  for (const name of text.split(',')) {
    const upper = name.toUpperCase();
    if (upper === 'ALL') bits |= FLAG_ALL;
    else if (upper !== 'NONE') {
      const bit = FLAG_NAMES.indexOf(upper as (typeof FLAG_NAMES)[number]);
      if (bit < 0) {
        const hint = didYouMean(name, [...FLAG_NAMES, 'ALL', 'NONE']);
        throw new OptionError(`unknown TCP flag "${name}"`, {
          argument,
          hint: hint ?? `flags are ${FLAG_NAMES.join(', ')}, ALL and NONE`,
        });
      }
      bits |= 1 << bit;
    }
  }
  return bits;
}

function formatFlags(bits: number): string {
  return FLAG_NAMES.filter((_, bit) => (bits & (1 << bit)) !== 0).join(',') || 'NONE';
}

function setFlags(state: TcpState, mask: number, value: number, negated: boolean): void {
  if (state.flagsGiven)
    throw new OptionError('only one of --syn and --tcp-flags is possible', { argument: -1 });
  state.flagsGiven = true;
  state.flagMask = mask;
  state.flagValue = value;
  state.flagsNegated = negated;
}

/** tcp_find_option: `undefined` when the options are cut short. */
function hasOption(packet: EvaluationPacket, option: number): boolean | undefined {
  const start = packet.transportOffset + HEADER_BYTES;
  const headerBytes = (packet.bytes[packet.transportOffset + 12]! >> 4) * 4;
  if (headerBytes < HEADER_BYTES) return undefined;
  const length = headerBytes - HEADER_BYTES;
  if (!hasBytes(packet, start, length)) return undefined;
  for (let index = 0; index < length; ) {
    const kind = packet.bytes[start + index]!;
    if (kind === option) return true;
    index += kind < 2 || index === length - 1 ? 1 : packet.bytes[start + index + 1]! || 1;
  }
  return false;
}

function evaluate(state: TcpState, packet: EvaluationPacket): MatchOutcome {
  if (packet.fragmentOffset !== 0) return packet.fragmentOffset === 1 ? 'hotdrop' : false;
  if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'hotdrop';
  if (!portsMatch(state, packet)) return false;
  const flags = packet.bytes[packet.transportOffset + 13]!;
  if (((flags & state.flagMask) === state.flagValue) === state.flagsNegated) return false;
  if (state.option === 0) return true;
  const found = hasOption(packet, state.option);
  return found === undefined ? 'hotdrop' : found !== state.optionNegated;
}

function lower(state: TcpState, context: RuleContext): Predicate[] {
  const predicates: Predicate[] = [
    {
      kind: 'transport',
      minimumBytes: HEADER_BYTES,
      // The test is for an offset of 1, which IPv6, counting bytes here, never has.
      dropOffsetOne: context.family === 'ipv4',
      onShort: 'hotdrop',
    },
    ...lowerPorts(state),
  ];
  if (state.flagMask !== 0 || state.flagsNegated || state.flagValue !== 0)
    predicates.push(fieldIs('tcp.flags', state.flagValue, state.flagsNegated, state.flagMask));
  if (state.option !== 0)
    predicates.push({ kind: 'tcp-option', option: state.option, negate: state.optionNegated });
  return predicates;
}

function hexByte(value: number): string {
  return value.toString(16).toUpperCase().padStart(2, '0');
}

export const tcp: MatchExtension = defineMatch<TcpState>({
  name: 'tcp',
  families: ['ipv4', 'ipv6'],
  summary: 'Fields of the TCP header; never matches later fragments',
  where: { protocols: [Protocol.TCP] },
  options: [
    ...portOptions<TcpState>('tcp'),
    {
      name: 'tcp-flags',
      arguments: 2,
      negatable: true,
      syntax: 'mask compare',
      summary: 'Of the flags in the first list exactly those in the second are set',
      apply(state, [mask, value], negated) {
        setFlags(state, parseFlags(mask!, 0), parseFlags(value!, 1), negated);
      },
    },
    {
      name: 'syn',
      arguments: 0,
      negatable: true,
      summary: 'SYN is set, and FIN, RST and ACK are not: the opening of a connection',
      apply(state, _values, negated) {
        setFlags(state, SYN_MASK, SYN, negated);
      },
    },
    {
      name: 'tcp-option',
      arguments: 1,
      negatable: true,
      syntax: 'kind',
      summary: 'A TCP option of this kind is present',
      apply(state, [value], negated) {
        const option = parseUnsigned(value!, 1, 255);
        if (option === undefined)
          throw new OptionError(`"${value}" is not a TCP option kind`, { hint: 'a number from 1 to 255' });
        state.option = option;
        state.optionNegated = negated;
      },
    },
  ],
  initial: () => ({
    source: ALL_PORTS,
    sourceNegated: false,
    destination: ALL_PORTS,
    destinationNegated: false,
    flagMask: 0,
    flagValue: 0,
    flagsNegated: false,
    flagsGiven: false,
    option: 0,
    optionNegated: false,
  }),
  list(state) {
    let text = ` tcp${listPorts(state)}`;
    if (state.option !== 0 || state.optionNegated)
      text += ` option=${state.optionNegated ? '!' : ''}${state.option}`;
    if (state.flagMask !== 0 || state.flagsNegated)
      text += ` flags:${state.flagsNegated ? '!' : ''}0x${hexByte(state.flagMask)}/0x${hexByte(state.flagValue)}`;
    return text;
  },
  print(state) {
    let text = printPorts(state);
    if (state.option !== 0) text += `${state.optionNegated ? ' !' : ''} --tcp-option ${state.option}`;
    if (state.flagMask !== 0 || state.flagsNegated)
      text += `${state.flagsNegated ? ' !' : ''} --tcp-flags ${formatFlags(state.flagMask)} ${formatFlags(state.flagValue)}`;
    return text;
  },
  // struct xt_tcp
  abi: [
    {
      name: 'tcp',
      revision: 0,
      size: 12,
      decode(view) {
        const invert = readFlags(view, 11, INVERT_ALL, 'tcp');
        const flagMask = view.getUint8(9);
        return {
          ...decodePorts(view, invert),
          option: view.getUint8(8),
          optionNegated: (invert & INVERT_OPTION) !== 0,
          flagMask,
          flagValue: view.getUint8(10),
          flagsNegated: (invert & INVERT_FLAGS) !== 0,
          flagsGiven: flagMask !== 0,
        };
      },
      encode(state, view) {
        const ports = encodePorts(state, view);
        view.setUint8(8, state.option);
        view.setUint8(9, state.flagMask);
        view.setUint8(10, state.flagValue);
        view.setUint8(
          11,
          ports | (state.flagsNegated ? INVERT_FLAGS : 0) | (state.optionNegated ? INVERT_OPTION : 0),
        );
      },
    },
  ],
  semantics: {
    evaluate,
    lower,
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no TCP header';
      if (!hasBytes(packet, packet.transportOffset, HEADER_BYTES)) return 'the TCP header is cut short';
      const ports = explainPorts(state, packet);
      if (ports !== undefined) return ports;
      const flags = packet.bytes[packet.transportOffset + 13]!;
      if (((flags & state.flagMask) === state.flagValue) === state.flagsNegated)
        return `TCP flags ${formatFlags(flags & FLAG_ALL)} are ${state.flagsNegated ? '' : 'not '}${formatFlags(state.flagValue)} of ${formatFlags(state.flagMask)}`;
      const found = hasOption(packet, state.option);
      return found === undefined
        ? 'the TCP options are cut short'
        : `TCP option ${state.option} is ${found ? '' : 'not '}present`;
    },
  },
});

/** find_syn_match (net/netfilter/xt_TCPMSS.c): the use is of tcp and asks for SYN. */
export function matchesSyn(use: MatchUse): boolean {
  if (use.extension !== tcp) return false;
  const state = use.state as TcpState;
  return (state.flagValue & SYN) !== 0 && !state.flagsNegated;
}
