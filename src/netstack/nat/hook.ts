/**
 * The nat hooks: four hook functions a family, each with a list of its own that is asked about new connections only.
 * Source: net/netfilter/nf_nat_core.c (nf_nat_inet_fn, nf_nat_register_fn), nf_nat_proto.c (nf_nat_ipv4_ops); the loop over
 * the inner list as a helper of its own is patch 2 of the hook generator series.
 */
import type { Entry } from '../conntrack/entry.ts';
import { Tracking } from '../conntrack/tracking.ts';
import { growEntries, type HookEntries, shrinkEntries } from '../hooks/entries.ts';
import {
  NF_INET_LOCAL_IN,
  NF_INET_LOCAL_OUT,
  NF_INET_POST_ROUTING,
  NF_INET_PRE_ROUTING,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  Priority,
} from '../hooks/family.ts';
import type { HookRegistry } from '../hooks/registry.ts';
import type { NfHookOps, NfHookState } from '../hooks/state.ts';
import { NF_ACCEPT, NF_DROP, nfDropErr } from '../hooks/verdict.ts';
import type { SkBuff } from '../skb.ts';
import { isIcmpPacket, manipOfHook, type Nat } from './nat.ts';
import type { Manip } from './range.ts';

/** Finds a new route for a packet of this host whose destination has changed: 0, or -errno (ip_route_me_harder). */
export type Reroute = (skb: SkBuff, state: NfHookState) => number;

const PRIORITIES: readonly (readonly [hook: number, priority: number])[] = [
  [NF_INET_PRE_ROUTING, Priority.NAT_DST],
  [NF_INET_POST_ROUTING, Priority.NAT_SRC],
  [NF_INET_LOCAL_OUT, Priority.NAT_DST],
  [NF_INET_LOCAL_IN, Priority.NAT_SRC],
];

/** One hook function of nat with the functions that decide about new connections. */
interface NatHook {
  readonly ops: NfHookOps;
  inner: HookEntries;
}

/** The nat hooks of one namespace. They are registered while somebody has an inner function. */
export class NatHooks {
  readonly #nat: Nat;
  readonly #registry: HookRegistry;
  readonly #reroute: Reroute;
  readonly #hooks = new Map<string, NatHook>();

  constructor(nat: Nat, registry: HookRegistry, reroute: Reroute) {
    this.#nat = nat;
    this.#registry = registry;
    this.#reroute = reroute;
  }

  /** Adds an inner function; its priority orders it among the others of the hook (nf_nat_register_fn). */
  register(ops: NfHookOps): void {
    if (![...this.#hooks.values()].some((hook) => hook.ops.pf === ops.pf)) this.#enable(ops.pf);
    const hook = this.#hooks.get(`${ops.pf}/${ops.hooknum}`);
    if (hook === undefined) throw new RangeError(`hook ${ops.hooknum} translates nothing`);
    hook.inner = growEntries(hook.inner, ops);
  }

  unregister(ops: NfHookOps): void {
    const hook = this.#hooks.get(`${ops.pf}/${ops.hooknum}`);
    const left = hook === undefined ? undefined : shrinkEntries(hook.inner, ops);
    if (hook === undefined || left === undefined) throw new RangeError(`${ops.name} is not registered`);
    hook.inner = left;
    const ofFamily = [...this.#hooks.entries()].filter(([, other]) => other.ops.pf === ops.pf);
    if (ofFamily.some(([, other]) => other.inner.length > 0)) return;
    for (const [key, other] of ofFamily) {
      this.#registry.unregister(other.ops);
      this.#hooks.delete(key);
    }
  }

  #enable(pf: number): void {
    if (pf !== NFPROTO_IPV4 && pf !== NFPROTO_IPV6) throw new RangeError(`family ${pf} has no nat`);
    for (const [hooknum, priority] of PRIORITIES) {
      const hook: NatHook = {
        inner: [],
        ops: {
          hook: (_priv, skb, state) => this.#run(hook.inner, skb, state),
          pf,
          hooknum,
          priority,
          name: 'nf_nat_inet_fn',
        },
      };
      this.#hooks.set(`${pf}/${hooknum}`, hook);
      this.#registry.register(hook.ops);
    }
  }

  #run(inner: HookEntries, skb: SkBuff, state: NfHookState): number {
    const before = state.hook === NF_INET_LOCAL_OUT ? skb.data : undefined;
    const verdict = natPacket(this.#nat, inner, skb, state);
    if (before === undefined || verdict !== NF_ACCEPT || before === skb.data) return verdict;
    const error = this.#reroute(skb, state);
    return error < 0 ? nfDropErr(-error) : NF_ACCEPT;
  }
}

/** What a nat hook does with a packet (nf_nat_inet_fn). */
export function natPacket(nat: Nat, inner: HookEntries, skb: SkBuff, state: NfHookState): number {
  const tracking = skb.nfct;
  if (!(tracking instanceof Tracking) || tracking.connection === undefined) return NF_ACCEPT;
  const { connection: entry, direction } = tracking;
  const manip = manipOfHook(state.hook);
  if (tracking.state === 'RELATED' && isIcmpPacket(skb))
    return nat.translateError(skb, tracking, manip) ? NF_ACCEPT : NF_DROP;
  if (tracking.state === 'NEW' && !nat.isSettled(entry, manip)) {
    const verdict = settleNew(nat, inner, entry, manip, skb, state);
    if (verdict !== NF_ACCEPT) return verdict;
  } else if (leavesElsewhere(entry, direction, state)) {
    nat.conntrack.kill(entry);
    return NF_DROP;
  }
  return nat.translate(skb, entry, direction, manip);
}

/**
 * Asks the inner functions about a new connection until one has settled this end or does not accept; what none wants
 * changed is settled as it is.
 */
export function settleNew(
  nat: Nat,
  inner: HookEntries,
  entry: Entry,
  manip: Manip,
  skb: SkBuff,
  state: NfHookState,
): number {
  for (const { hook, priv } of inner) {
    const verdict = hook(priv, skb, state);
    if (verdict !== NF_ACCEPT) return verdict;
    if (nat.isSettled(entry, manip)) return NF_ACCEPT;
  }
  return nat.setupNull(entry, manip);
}

/** A masqueraded connection whose packets now leave by another device has lost its address (nf_nat_oif_changed). */
function leavesElsewhere(entry: Entry, direction: 'original' | 'reply', { hook, out }: NfHookState): boolean {
  return (
    hook === NF_INET_POST_ROUTING &&
    direction === 'original' &&
    entry.masqueradeIfindex !== undefined &&
    entry.masqueradeIfindex !== out?.ifindex
  );
}
