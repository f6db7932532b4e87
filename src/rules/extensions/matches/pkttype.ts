/** `-m pkttype`: net/netfilter/xt_pkttype.c. Looped-back packets count as multicast or broadcast by their address. */
import type { Predicate } from '../../../ir/index.ts';
import type { Family } from '../../../net/index.ts';
import type { EvaluationPacket } from '../../evaluate/packet.ts';
import { defineMatch, type MatchExtension, OptionError } from '../../extension.ts';
import { didYouMean } from '../../suggestion.ts';
import { requireAll } from '../../text/requirement.ts';
import { unwritten } from '../../uapi/errno.ts';
import { addressOf, fieldIs } from '../header.ts';

interface PkttypeState {
  /** PACKET_*; -1 until the option was seen. */
  type: number;
  negate: boolean;
}

const PACKET_BROADCAST = 1;
const PACKET_MULTICAST = 2;
const PACKET_LOOPBACK = 5;
const NAMES: readonly string[] = ['unicast', 'broadcast', 'multicast', 'otherhost'];
const ALIASES: Readonly<Record<string, string>> = { host: 'unicast', bcast: 'broadcast', mcast: 'multicast' };

function isMulticast4(address: Uint8Array): boolean {
  return (address[0]! & 0xf0) === 0xe0;
}

function typeOf(packet: EvaluationPacket): number {
  if (packet.packetType !== PACKET_LOOPBACK) return packet.packetType;
  const multicast = packet.family === 'ipv6' || isMulticast4(addressOf(packet, 'destination'));
  return multicast ? PACKET_MULTICAST : PACKET_BROADCAST;
}

function lowerType(type: number, family: Family): Predicate {
  const plain = fieldIs('meta.packetType', type);
  const loopback = fieldIs('meta.packetType', PACKET_LOOPBACK);
  if (family === 'ipv6') return type === PACKET_MULTICAST ? { kind: 'any', of: [plain, loopback] } : plain;
  if (type !== PACKET_MULTICAST && type !== PACKET_BROADCAST) return plain;
  const multicast: Predicate = {
    kind: 'address',
    field: 'ip.destination',
    value: Uint8Array.of(0xe0, 0, 0, 0),
    mask: Uint8Array.of(0xf0, 0, 0, 0),
    negate: type === PACKET_BROADCAST,
  };
  return { kind: 'any', of: [plain, { kind: 'all', of: [loopback, multicast] }] };
}

export const pkttype: MatchExtension = defineMatch<PkttypeState>({
  name: 'pkttype',
  families: ['ipv4', 'ipv6'],
  summary: 'Whether the link layer delivered the packet as unicast, broadcast or multicast',
  options: [
    {
      name: 'pkt-type',
      arguments: 1,
      negatable: true,
      syntax: 'type',
      summary: 'unicast, broadcast, multicast or otherhost',
      apply(state, [value], negated) {
        const lower = value!.toLowerCase();
        const type = NAMES.indexOf(ALIASES[lower] ?? lower);
        if (type < 0)
          throw new OptionError(`"${value}" is not a packet type`, {
            hint: didYouMean(value!, NAMES) ?? `types are ${NAMES.join(', ')}`,
          });
        state.type = type;
        state.negate = negated;
      },
    },
  ],
  initial: () => ({ type: -1, negate: false }),
  finish: (state) => requireAll('pkttype', { 'pkt-type': state.type >= 0 }),
  list: (state) => ` PKTTYPE ${state.negate ? '!=' : '='} ${NAMES[state.type]}`,
  print: (state) => `${state.negate ? ' !' : ''} --pkt-type ${NAMES[state.type]}`,
  // struct xt_pkttype_info
  abi: [
    {
      name: 'pkttype',
      revision: 0,
      everyFamily: true,
      size: 8,
      decode(view) {
        const type = view.getInt32(0, true);
        if (NAMES[type] === undefined) unwritten(`pkttype ${type} has no name`);
        return { type, negate: view.getInt32(4, true) !== 0 };
      },
      encode(state, view) {
        view.setInt32(0, state.type, true);
        view.setInt32(4, state.negate ? 1 : 0, true);
      },
    },
  ],
  semantics: {
    evaluate: (state, packet) => (typeOf(packet) === state.type) !== state.negate,
    lower(state, context) {
      const predicate = lowerType(state.type, context.family);
      return [state.negate ? { kind: 'not', of: predicate } : predicate];
    },
    explain: (state, packet) =>
      `packet type ${NAMES[typeOf(packet)] ?? typeOf(packet)} is ${state.negate ? '' : 'not '}${NAMES[state.type]}`,
  },
});
