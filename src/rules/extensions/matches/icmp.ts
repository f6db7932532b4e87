/** `-m icmp` (IPv4): net/netfilter/xt_tcpudp.c icmp_match. Type 255 is "any". */
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
  ['any', 255, 0, 255],
  ['echo-reply', 0, 0, 255],
  ['pong', 0, 0, 255],
  ['destination-unreachable', 3, 0, 255],
  ['network-unreachable', 3, 0, 0],
  ['host-unreachable', 3, 1, 1],
  ['protocol-unreachable', 3, 2, 2],
  ['port-unreachable', 3, 3, 3],
  ['fragmentation-needed', 3, 4, 4],
  ['source-route-failed', 3, 5, 5],
  ['network-unknown', 3, 6, 6],
  ['host-unknown', 3, 7, 7],
  ['network-prohibited', 3, 9, 9],
  ['host-prohibited', 3, 10, 10],
  ['TOS-network-unreachable', 3, 11, 11],
  ['TOS-host-unreachable', 3, 12, 12],
  ['communication-prohibited', 3, 13, 13],
  ['host-precedence-violation', 3, 14, 14],
  ['precedence-cutoff', 3, 15, 15],
  ['source-quench', 4, 0, 255],
  ['redirect', 5, 0, 255],
  ['network-redirect', 5, 0, 0],
  ['host-redirect', 5, 1, 1],
  ['TOS-network-redirect', 5, 2, 2],
  ['TOS-host-redirect', 5, 3, 3],
  ['echo-request', 8, 0, 255],
  ['ping', 8, 0, 255],
  ['router-advertisement', 9, 0, 255],
  ['router-solicitation', 10, 0, 255],
  ['time-exceeded', 11, 0, 255],
  ['ttl-exceeded', 11, 0, 255],
  ['ttl-zero-during-transit', 11, 0, 0],
  ['ttl-zero-during-reassembly', 11, 1, 1],
  ['parameter-problem', 12, 0, 255],
  ['ip-header-bad', 12, 0, 0],
  ['required-option-missing', 12, 1, 1],
  ['timestamp-request', 13, 0, 255],
  ['timestamp-reply', 14, 0, 255],
  ['address-mask-request', 17, 0, 255],
  ['address-mask-reply', 18, 0, 255],
];

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
        setIcmpType(state, value!, negated, NAMED_TYPES);
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
