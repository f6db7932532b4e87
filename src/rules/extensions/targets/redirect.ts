/** `-j REDIRECT`: net/netfilter/xt_REDIRECT.c. */
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

export const redirect: TargetExtension = defineTarget<NatRange>({
  name: 'REDIRECT',
  families: ['ipv4', 'ipv6'],
  summary: 'Sends the connection to this host',
  where: { tables: ['nat'], hooks: [Hook.PRE_ROUTING, Hook.LOCAL_OUT] },
  options: [
    natPortsOption('The destination port, one of several where it is a range'),
    natFlagOption('random'),
  ],
  initial: emptyNatRange,
  print: (range) => printNatRange('to-ports', range),
  abi: [natForm('REDIRECT', 0, 'compat', ['ipv4']), natForm('REDIRECT', 0, 'range', ['ipv6'])],
  effect: (range, _packet, host) => host.translate({ kind: 'redirect', range }),
});
