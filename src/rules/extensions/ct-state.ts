/** Connection states as `state` and `conntrack` see them: struct xt_conntrack_mtinfo3 and conntrack_mt (net/netfilter/xt_conntrack.c). */
import { CtStateBit, type ScalarPredicate } from '../../ir/index.ts';
import type { ConntrackView, EvaluationPacket } from '../evaluate/packet.ts';
import { OptionError } from '../extension.ts';
import { didYouMean } from '../suggestion.ts';

export type StateName = keyof typeof CtStateBit;

/** IPS_* bits that rules ask for (uapi/linux/netfilter/nf_conntrack_common.h). */
export const IPS_ASSURED = 0x4;
export const IPS_CONFIRMED = 0x8;
export const IPS_SRC_NAT = 0x10;
export const IPS_DST_NAT = 0x20;
/** Bits of `ct.state` of packets without a connection. */
export const NO_CONNECTION: number = CtStateBit.INVALID | CtStateBit.UNTRACKED;

/**
 * `name[,name…]` to bits. As in iptables, any beginning of a name stands for it, and of several that fit the first
 * in `order` wins. @throws {OptionError}
 */
export function parseNames(text: string, order: readonly (readonly [name: string, bits: number])[]): number {
  let bits = 0;
  for (const part of text.split(',')) {
    const upper = part.toUpperCase();
    const found = part === '' ? undefined : order.find(([name]) => name.startsWith(upper));
    if (found === undefined) {
      const names = order.map(([name]) => name);
      throw new OptionError(
        part === '' ? 'the list has an empty part' : `"${part}" is not one of the names`,
        {
          hint: didYouMean(part, names) ?? `names are ${names.join(', ')}; no blanks between them`,
        },
      );
    }
    bits |= found[1];
  }
  return bits;
}

/** The names whose bits are set, in the order iptables-save has them. */
export function formatStates(bits: number): string {
  const order: readonly StateName[] = [
    'INVALID',
    'NEW',
    'RELATED',
    'ESTABLISHED',
    'UNTRACKED',
    'SNAT',
    'DNAT',
  ];
  return order.filter((name) => (bits & CtStateBit[name]) !== 0).join(',');
}

/** The connection of a packet: none for INVALID and UNTRACKED packets, and before conntrack has looked. */
export function connectionOf(packet: EvaluationPacket): ConntrackView | undefined {
  const view = packet.conntrack;
  return view === undefined || view.state === 'INVALID' || view.state === 'UNTRACKED' ? undefined : view;
}

/** The bits of `ct.state` that hold for the packet. */
export function stateBits(packet: EvaluationPacket): number {
  const view = packet.conntrack;
  if (view === undefined) return CtStateBit.INVALID;
  const connection = connectionOf(packet);
  let bits: number = CtStateBit[view.state];
  if (connection !== undefined && (connection.status & IPS_SRC_NAT) !== 0) bits |= CtStateBit.SNAT;
  if (connection !== undefined && (connection.status & IPS_DST_NAT) !== 0) bits |= CtStateBit.DNAT;
  return bits;
}

/** Any of `bits` is among the packet's state bits, xor negate. */
export function stateIs(bits: number, negate: boolean): ScalarPredicate {
  return { kind: 'scalar', field: 'ct.state', mask: bits, ranges: [[1, 0xffff]], negate };
}
