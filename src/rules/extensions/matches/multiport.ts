/** `-m multiport`: net/netfilter/xt_multiport.c ports_match_v1. */
import type { Predicate, ScalarRange } from '../../../ir/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import {
  defineMatch,
  type MatchExtension,
  OptionError,
  type OptionSpec,
  type RuleContext,
} from '../../extension.ts';
import { Protocol, protocolName } from '../../names/protocols.ts';
import { parsePort } from '../../names/services.ts';
import { refuse, unwritten } from '../../uapi/errno.ts';
import { readBoolean } from '../../uapi/payload.ts';
import { fieldIn, hasBytes, readUint16 } from '../header.ts';

interface MultiportState {
  side: 'source' | 'destination' | 'either' | undefined;
  ranges: readonly ScalarRange[];
  negate: boolean;
}

/** XT_MULTI_PORTS; a range takes two places. */
const MAXIMUM_PLACES = 15;
const PORT_BYTES = 4;
/** By number of enum xt_multiport_flags. */
const PLACE_SIDES = ['source', 'destination', 'either'] as const;
const PROTOCOLS = [Protocol.TCP, Protocol.UDP, Protocol.UDPLITE, Protocol.SCTP, Protocol.DCCP];
const OPTION_NAMES = { source: 'sports', destination: 'dports', either: 'ports' } as const;

/** The protocol whose service names are looked up; the option needs to know it already. */
function serviceProtocol(context: RuleContext): string {
  const protocol = context.protocol;
  if (protocol === undefined || protocol.negate || !(PROTOCOLS as number[]).includes(protocol.number))
    throw new OptionError('ports need -p tcp, udp, udplite, sctp or dccp before them', { argument: -1 });
  return protocolName(protocol.number)!;
}

function parseRanges(text: string, protocol: string): readonly ScalarRange[] {
  const ranges = text.split(',').map((part): ScalarRange => {
    const colon = part.indexOf(':');
    if (colon < 0) {
      const port = parsePort(part, protocol);
      return [port, port];
    }
    const min = parsePort(part.slice(0, colon), protocol);
    const max = parsePort(part.slice(colon + 1), protocol);
    if (min >= max)
      throw new OptionError(`port range ${part} is ${min === max ? 'one port' : 'backwards'}`, {
        hint: `write ${min === max ? min : `${max}:${min}`}`,
      });
    return [min, max];
  });
  const places = ranges.reduce((sum, [min, max]) => sum + (min === max ? 1 : 2), 0);
  if (places > MAXIMUM_PLACES)
    throw new OptionError(`${places} ports, but at most ${MAXIMUM_PLACES} fit, where a range counts as two`, {
      hint: 'use several rules',
    });
  return ranges;
}

function option(
  side: 'source' | 'destination' | 'either',
  name: string,
  aliases: readonly string[],
  summary: string,
): OptionSpec<MultiportState> {
  return {
    name,
    aliases,
    arguments: 1,
    negatable: true,
    syntax: 'port[:port][,…]',
    summary,
    apply(state, [value], negated, context) {
      if (state.side !== undefined)
        throw new OptionError(`cannot be used together with --${OPTION_NAMES[state.side]}`, { argument: -1 });
      state.ranges = parseRanges(value!, serviceProtocol(context));
      state.side = side;
      state.negate = negated;
    },
  };
}

function contains(state: MultiportState, port: number): boolean {
  return state.ranges.some(([min, max]) => port >= min && port <= max);
}

function matches(state: MultiportState, packet: EvaluationPacket): boolean {
  const source = readUint16(packet, packet.transportOffset);
  const destination = readUint16(packet, packet.transportOffset + 2);
  const found =
    (state.side !== 'destination' && contains(state, source)) ||
    (state.side !== 'source' && contains(state, destination));
  return found !== state.negate;
}

/** As `iptables -L` names them. */
const LIST_NAMES = { source: 'sports', destination: 'dports', either: 'ports' } as const;

function formatRanges(state: MultiportState): string {
  return state.ranges.map(([min, max]) => (min === max ? `${min}` : `${min}:${max}`)).join(',');
}

export const multiport: MatchExtension = defineMatch<MultiportState>({
  name: 'multiport',
  families: ['ipv4', 'ipv6'],
  summary: 'Up to 15 ports or ranges of ports; never matches later fragments',
  where: { protocols: PROTOCOLS },
  options: [
    option('source', 'source-ports', ['sports'], 'The source port is one of these'),
    option('destination', 'destination-ports', ['dports'], 'The destination port is one of these'),
    option('either', 'ports', [], 'The source or the destination port is one of these'),
  ],
  initial: () => ({ side: undefined, ranges: [], negate: false }),
  finish(state) {
    if (state.side === undefined)
      throw new OptionError('an option is missing', { hint: 'one of --sports, --dports, --ports' });
  },
  list: (state) => ` multiport ${LIST_NAMES[state.side!]} ${state.negate ? ' !' : ''}${formatRanges(state)}`,
  print: (state) => `${state.negate ? ' !' : ''} --${OPTION_NAMES[state.side!]} ${formatRanges(state)}`,
  // struct xt_multiport_v1
  abi: [
    {
      name: 'multiport',
      revision: 1,
      size: 48,
      decode(view) {
        const side = PLACE_SIDES[view.getUint8(0)];
        const count = view.getUint8(1);
        if (side === undefined || count > MAXIMUM_PLACES) refuse('multiport: unknown side or too many ports');
        const ranges: ScalarRange[] = [];
        let single = false;
        for (let place = 0; place < count; place++) {
          const min = view.getUint16(2 + 2 * place, true);
          if (!readBoolean(view, 32 + place)) {
            ranges.push([min, min]);
            continue;
          }
          place++;
          if (place >= count || readBoolean(view, 32 + place)) refuse('multiport: a range has no end');
          const max = view.getUint16(2 + 2 * place, true);
          if (min > max) refuse(`multiport: the range ${min}:${max} runs backwards`);
          single ||= min === max;
          ranges.push([min, max]);
        }
        if (single) unwritten('multiport: a range is one port');
        return { side, ranges, negate: readBoolean(view, 47) };
      },
      encode(state, view) {
        let place = 0;
        for (const [min, max] of state.ranges) {
          view.setUint16(2 + 2 * place, min, true);
          if (min !== max) {
            view.setUint8(32 + place++, 1);
            view.setUint16(2 + 2 * place, max, true);
          }
          place++;
        }
        view.setUint8(0, PLACE_SIDES.indexOf(state.side!));
        view.setUint8(1, place);
        view.setUint8(47, state.negate ? 1 : 0);
      },
    },
  ],
  semantics: {
    evaluate(state, packet) {
      if (packet.fragmentOffset !== 0) return false;
      if (!hasBytes(packet, packet.transportOffset, PORT_BYTES)) return 'hotdrop';
      return matches(state, packet);
    },
    lower(state) {
      const header: Predicate = {
        kind: 'transport',
        minimumBytes: PORT_BYTES,
        dropOffsetOne: false,
        onShort: 'hotdrop',
      };
      if (state.side === 'source') return [header, fieldIn('l4.sourcePort', state.ranges, state.negate)];
      if (state.side === 'destination')
        return [header, fieldIn('l4.destinationPort', state.ranges, state.negate)];
      return [
        header,
        {
          kind: state.negate ? 'all' : 'any',
          of: [
            fieldIn('l4.sourcePort', state.ranges, state.negate),
            fieldIn('l4.destinationPort', state.ranges, state.negate),
          ],
        },
      ];
    },
    explain(state, packet) {
      if (packet.fragmentOffset !== 0) return 'a later fragment has no ports';
      if (!hasBytes(packet, packet.transportOffset, PORT_BYTES)) return 'the ports are cut short';
      const source = readUint16(packet, packet.transportOffset);
      const destination = readUint16(packet, packet.transportOffset + 2);
      const ports =
        state.side === 'either'
          ? `ports ${source} and ${destination} are`
          : state.side === 'source'
            ? `sport ${source} is`
            : `dport ${destination} is`;
      return `${ports} ${state.negate ? '' : 'not '}among ${formatRanges(state)}`;
    },
  },
});
