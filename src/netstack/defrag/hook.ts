/**
 * nf_defrag as hook functions at priority -400, switched on per namespace and family while somebody needs it.
 * Source: net/ipv4/netfilter/nf_defrag_ipv4.c, net/ipv6/netfilter/nf_defrag_ipv6_hooks.c.
 */
import { Errno, NetstackError } from '../errno.ts';
import {
  NF_INET_LOCAL_OUT,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  Priority,
} from '../hooks/family.ts';
import type { HookRegistry } from '../hooks/registry.ts';
import type { NfHookOps, NfHookState } from '../hooks/state.ts';
import { NF_ACCEPT, NF_DROP, NF_STOLEN } from '../hooks/verdict.ts';
import type { SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { ipDefrag, isIpv4Fragment } from './ipv4.ts';
import { nfCtFrag6Gather } from './ipv6-netfilter.ts';
import { Ip6DefragUser, IpDefragUser } from './users.ts';

const USERS_MAX = 0xffffffff;

/** True when conntrack has seen the packet already, or must not see it: then its fragments stay apart too. */
function leaveAlone(skb: SkBuff): boolean {
  return skb.untracked || (skb.nfct !== undefined && !skb.nfctTemplate);
}

/** ipv4_conntrack_defrag. */
export function ipv4DefragHook(net: DefragContext, skb: SkBuff, state: NfHookState): number {
  if (skb.socketNoDefrag || leaveAlone(skb) || !isIpv4Fragment(skb.data)) return NF_ACCEPT;
  const base = state.hook === NF_INET_PRE_ROUTING ? IpDefragUser.CONNTRACK_IN : IpDefragUser.CONNTRACK_OUT;
  if (ipDefrag(net, skb, base + skb.zoneId) !== 0) return NF_STOLEN;
  skb.ignoreDf = true;
  return NF_ACCEPT;
}

/** ipv6_defrag. */
export function ipv6DefragHook(net: DefragContext, skb: SkBuff, state: NfHookState): number {
  if (leaveAlone(skb)) return NF_ACCEPT;
  const base = state.hook === NF_INET_PRE_ROUTING ? Ip6DefragUser.CONNTRACK_IN : Ip6DefragUser.CONNTRACK_OUT;
  const result = nfCtFrag6Gather(net, skb, base + skb.zoneId);
  if (result === -Errno.EINPROGRESS) return NF_STOLEN;
  return result === 0 ? NF_ACCEPT : NF_DROP;
}

// One function for all namespaces, which is its argument: generated hook programs can be shared then.
function runIpv4(priv: unknown, skb: SkBuff, state: NfHookState): number {
  return ipv4DefragHook(priv as DefragContext, skb, state);
}

function runIpv6(priv: unknown, skb: SkBuff, state: NfHookState): number {
  return ipv6DefragHook(priv as DefragContext, skb, state);
}

/** Families that defragmentation is switched on for, one by one. */
export type DefragFamily = 'ipv4' | 'ipv6';

/** The switch of one namespace: how many users each family has (net->nf.defrag_ipv{4,6}_users). */
export class DefragSwitch {
  readonly #registry: HookRegistry;
  readonly #ops: Readonly<Record<DefragFamily, readonly NfHookOps[]>>;
  readonly #users: Record<DefragFamily, number> = { ipv4: 0, ipv6: 0 };

  constructor(net: DefragContext, registry: HookRegistry) {
    this.#registry = registry;
    const at = (family: DefragFamily, hooknum: number): NfHookOps => ({
      hook: family === 'ipv4' ? runIpv4 : runIpv6,
      priv: net,
      pf: family === 'ipv4' ? NFPROTO_IPV4 : NFPROTO_IPV6,
      hooknum,
      priority: Priority.CONNTRACK_DEFRAG,
      name: `${family}_conntrack_defrag`,
    });
    const both = (family: DefragFamily): readonly NfHookOps[] => [
      at(family, NF_INET_PRE_ROUTING),
      at(family, NF_INET_LOCAL_OUT),
    ];
    this.#ops = { ipv4: both('ipv4'), ipv6: both('ipv6') };
  }

  users(family: DefragFamily): number {
    return this.#users[family];
  }

  /**
   * One user more; the first one registers the hooks (nf_defrag_ipv4_enable).
   * @throws NetstackError EOVERFLOW after 2^32 - 1 users, or what registration refuses; nothing changed then
   */
  enable(family: DefragFamily): void {
    if (this.#users[family] >= USERS_MAX)
      throw new NetstackError('EOVERFLOW', 'too many users of defragmentation', 'release some of them');
    if (this.#users[family] === 0) {
      const registered: NfHookOps[] = [];
      try {
        for (const ops of this.#ops[family]) {
          this.#registry.register(ops);
          registered.push(ops);
        }
      } catch (error) {
        for (const ops of registered) this.#registry.unregister(ops);
        throw error;
      }
    }
    this.#users[family]++;
  }

  /** One user less; the last one takes the hooks away. What is half reassembled then times out. */
  disable(family: DefragFamily): void {
    if (this.#users[family] === 0) throw new RangeError(`defragmentation of ${family} has no user`);
    if (--this.#users[family] === 0) for (const ops of this.#ops[family]) this.#registry.unregister(ops);
  }
}
