/** `-m icmp` (IPv4): net/netfilter/xt_tcpudp.c icmp_match. Type 255 is "any". */
import { defineMatch, type MatchExtension } from '../../extension.ts';
import { ICMP_TYPES } from '../../names/icmp-types.ts';
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

export const icmp: MatchExtension = defineMatch<IcmpTypeState>({
  name: 'icmp',
  families: ['ipv4'],
  summary: 'Type and code of ICMP; never matches later fragments',
  where: { protocols: [Protocol.ICMP] },
  options: [
    {
      name: 'icmp-type',
      arguments: 1,
      negatable: true,
      syntax: 'type[/code]|name',
      summary: 'Type, or type and code, by name or number; "any" for all',
      apply(state, [value], negated) {
        setIcmpType(state, value!, negated, ICMP_TYPES);
      },
    },
  ],
  initial: noIcmpType,
  finish: (state) => requireAll('icmp', { 'icmp-type': state.type >= 0 }),
  list: (state) => ` icmp${listIcmpType(state)}`,
  print: (state) =>
    `${state.negate ? ' !' : ''} --icmp-type ${state.type === 255 ? 'any' : formatIcmpType(state)}`,
  abi: [icmpForm('icmp')],
  semantics: {
    evaluate: (state, packet) => icmpTypeMatches(state, packet, true),
    lower: (state) => lowerIcmpType(state, true),
    explain: explainIcmpType,
  },
});
