/** `-j DNAT`: net/netfilter/xt_nat.c, revision 2. */
import { Hook } from '../../../ir/index.ts';
import { defineTarget, type TargetExtension } from '../../extension.ts';
import { requireAll } from '../../text/requirement.ts';
import {
  emptyNatRange,
  type NatRange,
  natAddressOption,
  natFlagOption,
  natForm,
  printNatRange,
} from '../nat-range.ts';

export const dnat: TargetExtension = defineTarget<NatRange>({
  name: 'DNAT',
  families: ['ipv4', 'ipv6'],
  summary: 'Gives the connection another destination',
  where: { tables: ['nat'], hooks: [Hook.PRE_ROUTING, Hook.LOCAL_OUT] },
  options: [
    natAddressOption('to-destination', 'destination', true),
    natFlagOption('random'),
    natFlagOption('persistent'),
  ],
  initial: emptyNatRange,
  finish: (range) => requireAll('DNAT', { 'to-destination': range.given }),
  print: (range) => printNatRange('to-destination', range),
  // struct nf_nat_range2, nf_nat_range, nf_nat_ipv4_multi_range_compat
  abi: [natForm('DNAT', 2, 'range2'), natForm('DNAT', 1, 'range'), natForm('DNAT', 0, 'compat', ['ipv4'])],
  effect: (range, _packet, host) => host.translate({ kind: 'range', range }),
});
