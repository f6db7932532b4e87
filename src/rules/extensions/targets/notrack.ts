/** `-j NOTRACK`: another name of `-j CT --notrack`, net/netfilter/xt_CT.c. */
import { defineTarget, type TargetExtension } from '../../extension.ts';

export const notrack: TargetExtension = defineTarget<Record<string, never>>({
  name: 'NOTRACK',
  families: ['ipv4', 'ipv6'],
  summary: 'The packet is not tracked',
  where: { tables: ['raw'] },
  options: [],
  initial: () => ({}),
  print: () => '',
  effect(_state, _packet, host) {
    host.untrack();
    return 'continue';
  },
});
