/**
 * The hooks of one namespace in one place: where stations of the packet path call in, where packets queued come back.
 * Source: include/linux/netfilter.h (nf_hook, NF_HOOK), include/linux/netfilter_netdev.h.
 */
import type { NetDevice, SkBuff } from '../skb.ts';
import type { HookEntries } from './entries.ts';
import { NF_NETDEV_EGRESS, NF_NETDEV_INGRESS, NFPROTO_NETDEV } from './family.ts';
import { PacketQueues } from './nfqueue.ts';
import { nfQueue, nfReinject, type QueueHandler, type QueueWorld } from './queue.ts';
import { HookRegistry } from './registry.ts';
import { type HookActions, nfHookSlow } from './slow.ts';
import type { HookNamespace, NfHookOps, NfHookState } from './state.ts';

/** Runs a hook list that is not empty: nfHookSlow, or a program generated from the list. */
export type HookRunner = (skb: SkBuff, state: NfHookState, entries: HookEntries) => number;

/** What happens to packets that leave the hooks; all of it is injected. */
export interface NetfilterWorld {
  owns(dev: NetDevice): boolean;
  /** A packet was dropped by a hook, or its queue gave it up. */
  freed(skb: SkBuff, state: NfHookState): void;
  /** A locally made packet whose routing key changed while it was queued: 0, or -errno. */
  reroute(skb: SkBuff, state: NfHookState): number;
  /** A hook function returned NF_REPEAT, NF_STOP or nonsense. The packet is lost, as in the kernel. */
  warnVerdict(verdict: number, state: NfHookState): void;
}

/** Where a packet is when it meets a hook. */
export interface HookPlace {
  readonly in?: NetDevice | undefined;
  readonly out?: NetDevice | undefined;
  readonly sk?: unknown;
}

export class Netfilter {
  readonly registry: HookRegistry;
  /** The numbered queues; the handler until another one is set. */
  readonly queues: PacketQueues;
  readonly actions: HookActions;
  readonly #net: HookNamespace;
  #handler: QueueHandler | undefined;
  #runner: HookRunner;

  constructor(net: HookNamespace, world: NetfilterWorld) {
    this.#net = net;
    this.registry = new HookRegistry((dev) => world.owns(dev));
    const registry = this.registry;
    const self = this;
    const queueWorld: QueueWorld = {
      get handler() {
        return self.#handler;
      },
      entries: (pf, hooknum) => registry.entries(pf, hooknum),
      free: (skb, state) => world.freed(skb, state),
      reroute: (skb, state) => world.reroute(skb, state),
    };
    this.queues = new PacketQueues((entry, verdict) => nfReinject(queueWorld, entry, verdict));
    this.#handler = this.queues;
    this.actions = {
      free: (skb, state) => world.freed(skb, state),
      queue: (skb, state, _entries, index, verdict) => nfQueue(queueWorld, skb, state, index, verdict),
      warnVerdict: (verdict, state) => world.warnVerdict(verdict, state),
    };
    this.#runner = (skb, state, entries) => nfHookSlow(skb, state, entries, 0, this.actions);
    registry.listen({ listChanged: () => {}, hookRemoved: () => this.#handler?.flush() });
  }

  /** Replaces who takes queued packets; `undefined`: nobody, every NF_QUEUE without bypass drops. */
  setQueueHandler(handler: QueueHandler | undefined): void {
    this.#handler = handler;
  }

  /** Replaces how hook lists are run. */
  setRunner(runner: HookRunner): void {
    this.#runner = runner;
  }

  register(ops: NfHookOps): void {
    this.registry.register(ops);
  }

  unregister(ops: NfHookOps): void {
    this.registry.unregister(ops);
  }

  /**
   * Passes a packet through a hook (nf_hook).
   * @returns 1: the caller goes on itself. 0: consumed. Negative: dropped, -errno
   */
  run(pf: number, hook: number, skb: SkBuff, place: HookPlace, okfn: (skb: SkBuff) => void): number {
    return this.#run(pf, hook, skb, place, okfn, undefined);
  }

  /** Passes a packet through a hook and on (NF_HOOK). @returns what the hook gave, 0 once `okfn` was called */
  pass(pf: number, hook: number, skb: SkBuff, place: HookPlace, okfn: (skb: SkBuff) => void): number {
    const result = this.run(pf, hook, skb, place, okfn);
    if (result !== 1) return result;
    okfn(skb);
    return 0;
  }

  /** Netdev ingress of a device (nf_hook_ingress). @returns 1: go on; negative: consumed or dropped */
  ingress(skb: SkBuff, dev: NetDevice, okfn: (skb: SkBuff) => void): number {
    const result = this.#run(NFPROTO_NETDEV, NF_NETDEV_INGRESS, skb, { in: dev }, okfn, dev);
    return result === 0 ? -1 : result;
  }

  /** Netdev egress of a device (nf_hook_egress). @returns 'pass'; 'drop' (NET_XMIT_DROP); 'consumed' (NET_XMIT_SUCCESS) */
  egress(skb: SkBuff, dev: NetDevice, okfn: (skb: SkBuff) => void): 'pass' | 'drop' | 'consumed' {
    const result = this.#run(NFPROTO_NETDEV, NF_NETDEV_EGRESS, skb, { out: dev }, okfn, dev);
    if (result === 1) return 'pass';
    return result < 0 ? 'drop' : 'consumed';
  }

  #run(
    pf: number,
    hook: number,
    skb: SkBuff,
    place: HookPlace,
    okfn: (skb: SkBuff) => void,
    dev: NetDevice | undefined,
  ): number {
    const entries = this.registry.entries(pf, hook, dev);
    if (entries.length === 0) return 1;
    const state: NfHookState = {
      hook,
      pf,
      in: place.in,
      out: place.out,
      sk: place.sk,
      net: this.#net,
      okfn,
    };
    return this.#runner(skb, state, entries);
  }
}
