/** `-m icmp6` (IPv6): net/netfilter/xt_tcpudp.c icmp6_match. */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { ICMP6_TYPES } from '../../names/icmp-types.ts';
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
  noIcmpType,
  setIcmpType,
} from '../icmp-type.ts';

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
        setIcmpType(state, value!, negated, ICMP6_TYPES);
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
