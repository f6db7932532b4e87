/**
 * Conntrack as hook functions: look-up behind raw, confirmation behind everything.
 * Source: net/netfilter/nf_conntrack_core.c (nf_conntrack_in), nf_conntrack_proto.c (nf_confirm and the hook tables).
 */
import { Tracking } from '../conntrack/tracking.ts';
import {
  NF_INET_LOCAL_IN,
  NF_INET_LOCAL_OUT,
  NF_INET_POST_ROUTING,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  Priority,
} from '../hooks/family.ts';
import type { NfHookOps, NfHookState } from '../hooks/state.ts';
import { NF_ACCEPT, NF_DROP } from '../hooks/verdict.ts';
import type { SkBuff } from '../skb.ts';
import type { NetworkStack } from './stack.ts';

/** Switches conntrack on for both families, and defragmentation with it. */
export function registerConntrack(stack: NetworkStack): void {
  const { defrag, netfilter } = stack.net;
  defrag.enable('ipv4');
  defrag.enable('ipv6');
  const table = (hooknum: number, priority: number, hook: NfHookOps['hook'], name: string): void => {
    for (const pf of [NFPROTO_IPV4, NFPROTO_IPV6])
      netfilter.register({ hook, priv: stack, pf, hooknum, priority, name });
  };
  table(NF_INET_PRE_ROUTING, Priority.CONNTRACK, lookUp, 'nf_conntrack_in');
  table(NF_INET_LOCAL_OUT, Priority.CONNTRACK, lookUp, 'nf_conntrack_in');
  table(NF_INET_LOCAL_IN, Priority.LAST, confirm, 'nf_confirm');
  table(NF_INET_POST_ROUTING, Priority.LAST, confirm, 'nf_confirm');
}

// One function for all namespaces, which is its argument: generated hook programs can be shared then.
function lookUp(priv: unknown, skb: SkBuff, state: NfHookState): number {
  const stack = priv as NetworkStack;
  const { conntrack } = stack;
  // Looped back, or exempted by a rule: it has been decided what it is.
  if (conntrack === undefined || skb.untracked || (skb.nfct !== undefined && !skb.nfctTemplate))
    return NF_ACCEPT;
  skb.nfct = undefined;
  skb.nfctTemplate = false;
  const tracking = conntrack.track({
    family: state.pf === NFPROTO_IPV4 ? 'ipv4' : 'ipv6',
    bytes: skb.data,
    hook: state.hook === NF_INET_PRE_ROUTING ? 'pre-routing' : 'local-out',
    zone: skb.zoneId,
  });
  if (tracking === 'drop') {
    stack.explainDrop('conntrack-full');
    return NF_DROP;
  }
  stack.trace?.({ kind: 'conntrack', tracking });
  if (tracking.state === 'UNTRACKED') skb.untracked = true;
  else if (tracking.state !== 'INVALID') skb.nfct = tracking;
  return NF_ACCEPT;
}

function confirm(priv: unknown, skb: SkBuff): number {
  const stack = priv as NetworkStack;
  if (!(skb.nfct instanceof Tracking) || stack.conntrack?.confirm(skb.nfct) !== false) return NF_ACCEPT;
  stack.explainDrop('conntrack-clash');
  return NF_DROP;
}
