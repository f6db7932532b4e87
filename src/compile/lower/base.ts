/** The conditions of struct ipt_ip and ip6t_ip6 as predicates, in the order in which ip_packet_match asks them. */
import type { Predicate } from '../../ir/index.ts';
import type { Family } from '../../net/index.ts';
import type { BaseMatch, DeviceName, MaskedAddress } from '../../rules/index.ts';

const LAST_FRAGMENT_OFFSET = 0x1fff;

export function lowerBase(base: BaseMatch, family: Family): Predicate[] {
  const predicates: Predicate[] = [];
  if (base.source !== undefined) predicates.push(...lowerAddress('ip.source', base.source));
  if (base.destination !== undefined) predicates.push(...lowerAddress('ip.destination', base.destination));
  if (base.inDevice !== undefined) predicates.push(lowerDevice('in', base.inDevice));
  if (base.outDevice !== undefined) predicates.push(lowerDevice('out', base.outDevice));
  if (base.protocol !== undefined) {
    const { number, negate } = base.protocol;
    predicates.push({ kind: 'scalar', field: 'ip.protocol', mask: 0xff, ranges: [[number, number]], negate });
  }
  if (base.fragment !== undefined && family === 'ipv4') {
    const { negate } = base.fragment;
    predicates.push({
      kind: 'scalar',
      field: 'ip.fragmentOffset',
      mask: LAST_FRAGMENT_OFFSET,
      ranges: [[1, LAST_FRAGMENT_OFFSET]],
      negate,
    });
  }
  return predicates;
}

function lowerAddress(field: 'ip.source' | 'ip.destination', given: MaskedAddress): Predicate[] {
  const { address, mask, negate } = given;
  // 0/0 says nothing, and its negation can never be true; the comparison says just that, at no cost.
  if (mask.every((byte) => byte === 0) && address.every((byte) => byte === 0) && !negate) return [];
  return [{ kind: 'address', field, value: address, mask, negate }];
}

function lowerDevice(side: 'in' | 'out', device: DeviceName): Predicate {
  return { kind: 'device', side, name: device.name, wildcard: device.wildcard, negate: device.negate };
}
