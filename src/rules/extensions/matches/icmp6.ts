/** `-m icmp6` (IPv6): net/netfilter/xt_tcpudp.c icmp6_match. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { Protocol } from '../../names/protocols.ts';
import { requireAll } from '../../text/requirement.ts';
import {
  explainIcmpType,
  formatIcmpType,
  type IcmpTypeState,
  icmpForm,
  icmpTypeMatches,
  listIcmpType,
  lowerIcmpType,
  type NamedType,
  noIcmpType,
  setIcmpType,
} from '../icmp-type.ts';

export const NAMED_TYPES: readonly NamedType[] = [
  ['destination-unreachable', 1, 0, 255],
  ['no-route', 1, 0, 0],
  ['communication-prohibited', 1, 1, 1],
  ['beyond-scope', 1, 2, 2],
  ['address-unreachable', 1, 3, 3],
  ['port-unreachable', 1, 4, 4],
  ['failed-policy', 1, 5, 5],
  ['reject-route', 1, 6, 6],
  ['packet-too-big', 2, 0, 255],
  ['time-exceeded', 3, 0, 255],
  ['ttl-exceeded', 3, 0, 255],
  ['ttl-zero-during-transit', 3, 0, 0],
  ['ttl-zero-during-reassembly', 3, 1, 1],
  ['parameter-problem', 4, 0, 255],
  ['bad-header', 4, 0, 0],
  ['unknown-header-type', 4, 1, 1],
  ['unknown-option', 4, 2, 2],
  ['echo-request', 128, 0, 255],
  ['ping', 128, 0, 255],
  ['echo-reply', 129, 0, 255],
  ['pong', 129, 0, 255],
  ['router-solicitation', 133, 0, 255],
  ['router-advertisement', 134, 0, 255],
  ['neighbour-solicitation', 135, 0, 255],
  ['neighbor-solicitation', 135, 0, 255],
  ['neighbour-advertisement', 136, 0, 255],
  ['neighbor-advertisement', 136, 0, 255],
  ['redirect', 137, 0, 255],
];

export const icmp6: MatchExtension = defineMatch<IcmpTypeState>({
  name: 'icmp6',
  aliases: ['icmpv6', 'ipv6-icmp'],
  families: ['ipv6'],
  summary: 'Type and code of ICMPv6; never matches later fragments',
  where: { protocols: [Protocol.ICMPV6] },
  options: [
    {
      name: 'icmpv6-type',
      arguments: 1,
      negatable: true,
      syntax: 'type[/code]|name',
      summary: 'Type, or type and code, by name or number',
      apply(state, [value], negated) {
        setIcmpType(state, value!, negated, NAMED_TYPES);
      },
    },
  ],
  initial: noIcmpType,
  finish: (state) => requireAll('icmp6', { 'icmpv6-type': state.type >= 0 }),
  list: (state) => ` ipv6-icmp${listIcmpType(state)}`,
  print: (state) => `${state.negate ? ' !' : ''} --icmpv6-type ${formatIcmpType(state)}`,
  abi: [icmpForm('icmp6')],
  semantics: {
    evaluate: (state, packet) => icmpTypeMatches(state, packet, false),
    lower: (state) => lowerIcmpType(state, false),
    explain: explainIcmpType,
  },
});
