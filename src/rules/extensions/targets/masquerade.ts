/** `-j MASQUERADE`: net/netfilter/xt_MASQUERADE.c. */
import { Hook } from '../../../ir/index.ts';
import { defineTarget, type TargetExtension } from '../../extension.ts';
import {
  emptyNatRange,
  type NatRange,
  natFlagOption,
  natForm,
  natPortsOption,
  printNatRange,
} from '../nat-range.ts';

export const masquerade: TargetExtension = defineTarget<NatRange>({
  name: 'MASQUERADE',
  families: ['ipv4', 'ipv6'],
  summary: 'Gives the connection the address of the outgoing device as its source',
  where: { tables: ['nat'], hooks: [Hook.POST_ROUTING] },
  options: [
    natPortsOption('The source port, one of several where it is a range'),
    natFlagOption('random'),
    natFlagOption('randomFully'),
  ],
  initial: emptyNatRange,
  print: (range) => printNatRange('to-ports', range),
  abi: [natForm('MASQUERADE', 0, 'compat', ['ipv4']), natForm('MASQUERADE', 0, 'range', ['ipv6'])],
  effect: (range, _packet, host) => host.translate({ kind: 'masquerade', range }),
});
