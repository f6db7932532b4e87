/** `--sport` and `--dport` of tcp, udp, udplite, sctp and dccp: one range each side, tested on the first 4 bytes of the header. */
import type { Predicate } from '../../ir/index.ts';
import { ALL_PORTS, type PortRange } from '../../net/index.ts';
import type { EvaluationPacket } from '../evaluate/packet.ts';
import type { OptionSpec } from '../extension.ts';
import { formatPortRange, parsePortRange } from '../names/services.ts';
import { fieldIn, inRange, readUint16 } from './header.ts';

/** Part of a match's state. */
export interface PortState {
  source: PortRange;
  sourceNegated: boolean;
  destination: PortRange;
  destinationNegated: boolean;
}

export function allPorts(): PortState {
  return { source: ALL_PORTS, sourceNegated: false, destination: ALL_PORTS, destinationNegated: false };
}

/** The two options. Service names are those of `protocol`, or of any when it is absent; `backwards` as in {@link parsePortRange}. */
export function portOptions<S extends PortState>(
  protocol?: string,
  backwards = false,
): readonly OptionSpec<S>[] {
  return [
    {
      name: 'source-port',
      aliases: ['sport'],
      arguments: 1,
      negatable: true,
      syntax: 'port[:port]',
      summary: 'Source port or range, by number or service name',
      apply(state, [value], negated) {
        state.source = parsePortRange(value!, protocol, backwards);
        state.sourceNegated = negated;
      },
    },
    {
      name: 'destination-port',
      aliases: ['dport'],
      arguments: 1,
      negatable: true,
      syntax: 'port[:port]',
      summary: 'Destination port or range, by number or service name',
      apply(state, [value], negated) {
        state.destination = parsePortRange(value!, protocol, backwards);
        state.destinationNegated = negated;
      },
    },
  ];
}

function isAll(range: PortRange): boolean {
  return range.min === 0 && range.max === 0xffff;
}

function printSide(option: string, range: PortRange, negate: boolean): string {
  return isAll(range) ? '' : `${negate ? ' !' : ''} --${option} ${formatPortRange(range)}`;
}

export function printPorts(state: PortState): string {
  return (
    printSide('sport', state.source, state.sourceNegated) +
    printSide('dport', state.destination, state.destinationNegated)
  );
}

/** One side of {@link listPorts}. */
export function listSide(name: string, range: PortRange, negate: boolean): string {
  return isAll(range) && !negate ? '' : listRange(name, range, negate);
}

/** ` spt:1`, ` spts:!1:2`: as `iptables -L` shows a range. */
export function listRange(
  name: string,
  { min, max }: { readonly min: number; readonly max: number },
  negate: boolean,
): string {
  const not = negate ? '!' : '';
  return min === max ? ` ${name}:${not}${min}` : ` ${name}s:${not}${min}:${max}`;
}

/** The ports as `iptables -L -n` shows them. */
export function listPorts(state: PortState): string {
  return (
    listSide('spt', state.source, state.sourceNegated) +
    listSide('dpt', state.destination, state.destinationNegated)
  );
}

/** The header's first 4 bytes must be there. */
export function portsMatch(state: PortState, packet: EvaluationPacket): boolean {
  const offset = packet.transportOffset;
  return (
    inRange(readUint16(packet, offset), state.source, state.sourceNegated) &&
    inRange(readUint16(packet, offset + 2), state.destination, state.destinationNegated)
  );
}

export function lowerPorts(state: PortState): Predicate[] {
  const predicates: Predicate[] = [];
  if (!isAll(state.source) || state.sourceNegated)
    predicates.push(fieldIn('l4.sourcePort', [[state.source.min, state.source.max]], state.sourceNegated));
  if (!isAll(state.destination) || state.destinationNegated)
    predicates.push(
      fieldIn(
        'l4.destinationPort',
        [[state.destination.min, state.destination.max]],
        state.destinationNegated,
      ),
    );
  return predicates;
}

/** The side that does not match, in words; `undefined` when both do. */
export function explainPorts(state: PortState, packet: EvaluationPacket): string | undefined {
  const sides = [
    ['sport', packet.transportOffset, state.source, state.sourceNegated],
    ['dport', packet.transportOffset + 2, state.destination, state.destinationNegated],
  ] as const;
  for (const [name, offset, range, negate] of sides) {
    const port = readUint16(packet, offset);
    if (!inRange(port, range, negate))
      return `${name} ${port} is ${negate ? '' : 'not '}${isAll(range) ? 'any' : formatPortRange(range)}`;
  }
  return undefined;
}

/** XT_TCP_INV_SRCPT and XT_UDP_INV_SRCPT. */
const INVERT_SOURCE = 1;
const INVERT_DESTINATION = 2;

/** `spts[2]` and `dpts[2]` at the beginning of struct xt_tcp, xt_udp. */
export function decodePorts(view: DataView, invertFlags: number): PortState {
  const range = (offset: number): PortRange => ({
    min: view.getUint16(offset, true),
    max: view.getUint16(offset + 2, true),
  });
  return {
    source: range(0),
    sourceNegated: (invertFlags & INVERT_SOURCE) !== 0,
    destination: range(4),
    destinationNegated: (invertFlags & INVERT_DESTINATION) !== 0,
  };
}

/** Writes what {@link decodePorts} reads and gives the flags. */
export function encodePorts(state: PortState, view: DataView): number {
  for (const [index, port] of [
    state.source.min,
    state.source.max,
    state.destination.min,
    state.destination.max,
  ].entries())
    view.setUint16(2 * index, port, true);
  return (state.sourceNegated ? INVERT_SOURCE : 0) | (state.destinationNegated ? INVERT_DESTINATION : 0);
}
