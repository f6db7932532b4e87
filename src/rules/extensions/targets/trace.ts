/** `-j TRACE`: net/netfilter/xt_TRACE.c. */
import { defineTarget, type TargetExtension } from '../../extension.ts';

export const trace: TargetExtension = defineTarget<Record<string, never>>({
  name: 'TRACE',
  families: ['ipv4', 'ipv6'],
  summary: 'Logs every rule that the packet matches from here on',
  where: { tables: ['raw'] },
  options: [],
  initial: () => ({}),
  print: () => '',
  // TRACE has no structure
  abi: [
    {
      name: 'TRACE',
      revision: 0,
      size: 0,
      decode: () => ({}),
      encode() {},
    },
  ],
  // Every evaluation can be explained; there is nothing to switch on.
  effect: () => 'continue',
});
