/** `-j SNAT`: net/netfilter/xt_nat.c. */
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

export const snat: TargetExtension = defineTarget<NatRange>({
  name: 'SNAT',
  families: ['ipv4', 'ipv6'],
  summary: 'Gives the connection another source',
  where: { tables: ['nat'], hooks: [Hook.POST_ROUTING, Hook.LOCAL_IN] },
  options: [
    natAddressOption('to-source', 'source', false),
    natFlagOption('random'),
    natFlagOption('randomFully'),
    natFlagOption('persistent'),
  ],
  initial: emptyNatRange,
  finish: (range) => requireAll('SNAT', { 'to-source': range.given }),
  print: (range) => printNatRange('to-source', range),
  abi: [natForm('SNAT', 0, 'compat', ['ipv4']), natForm('SNAT', 1, 'range'), natForm('SNAT', 2, 'range2')],
  effect: (range, _packet, host) => host.translate({ kind: 'range', range }),
});
