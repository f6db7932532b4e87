/** The hook lists of one namespace. Source: net/netfilter/core.c; include/net/netns/netfilter.h. */
import { NetstackError } from '../errno.ts';
import type { NetDevice } from '../skb.ts';
import { growEntries, type HookEntries, shrinkEntries } from './entries.ts';
import {
  NF_ARP_NUMHOOKS,
  NF_INET_INGRESS,
  NF_INET_NUMHOOKS,
  NF_NETDEV_EGRESS,
  NF_NETDEV_INGRESS,
  NFPROTO_ARP,
  NFPROTO_BRIDGE,
  NFPROTO_INET,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFPROTO_NETDEV,
} from './family.ts';
import type { NfHookOps } from './state.ts';

/** One hook list and what was made of it; `run` belongs to whoever runs it. */
export interface HookList {
  readonly entries: HookEntries;
}

const EMPTY: HookEntries = [];
const HOOKS_PER_FAMILY = 8;
/** More than all families have together. */
const LISTS_PER_DEVICE = 256;

/** Called when a list changed, with the list before and after; the generator and the queue listen. */
export interface RegistryListener {
  /** `key` tells lists apart: family, hook, and device where there is one. */
  listChanged(key: number, before: HookEntries, after: HookEntries): void;
  /** A hook function is gone: what it may have queued has to go too. */
  hookRemoved(ops: NfHookOps): void;
}

/** Registration and look-up of hook functions. */
export class HookRegistry {
  readonly #lists = new Map<number, HookEntries>();
  readonly #listeners: RegistryListener[] = [];
  readonly #owns: (dev: NetDevice) => boolean;

  /** @param owns whether a device belongs to this namespace */
  constructor(owns: (dev: NetDevice) => boolean) {
    this.#owns = owns;
  }

  listen(listener: RegistryListener): void {
    this.#listeners.push(listener);
  }

  /** The functions at a hook, in order; empty when there are none. */
  entries(pf: number, hooknum: number, dev?: NetDevice): HookEntries {
    return this.#lists.get(listKey(pf, hooknum, dev)) ?? EMPTY;
  }

  /**
   * Registers a hook function; family INET stands for IPV4 and IPV6 (nf_register_net_hook).
   *
   * @throws NetstackError EINVAL for a hook that the family does not have or a device of another namespace; EBUSY, E2BIG
   *   see growEntries. Nothing is registered then.
   */
  register(ops: NfHookOps): void {
    const families = this.#families(ops);
    const grown = families.map((pf) => {
      this.#check(pf, ops);
      const key = listKey(pf, ops.hooknum, ops.dev);
      const before = this.#lists.get(key) ?? EMPTY;
      return { key, before, after: growEntries(before, ops) };
    });
    for (const { key, before, after } of grown) this.#replace(key, before, after);
  }

  /**
   * Takes a hook function out; packets it queued are dropped (nf_unregister_net_hook).
   * @throws NetstackError ENOENT when it is not registered
   */
  unregister(ops: NfHookOps): void {
    const shrunk = this.#families(ops).map((pf) => {
      const key = listKey(pf, ops.hooknum, ops.dev);
      const before = this.#lists.get(key) ?? EMPTY;
      const after = shrinkEntries(before, ops);
      if (after === undefined)
        throw new NetstackError(
          'ENOENT',
          `hook ${ops.name} is not registered`,
          'unregister the same object that was registered, once',
        );
      return { key, before, after };
    });
    for (const { key, before, after } of shrunk) this.#replace(key, before, after);
    for (const listener of this.#listeners) listener.hookRemoved(ops);
  }

  /** Forgets the lists of a device that goes. */
  forgetDevice(dev: NetDevice): void {
    for (const [pf, hooknum] of [
      [NFPROTO_NETDEV, NF_NETDEV_INGRESS],
      [NFPROTO_NETDEV, NF_NETDEV_EGRESS],
      [NFPROTO_INET, NF_INET_INGRESS],
    ] as const)
      for (const ops of this.entries(pf, hooknum, dev)) this.unregister(ops);
  }

  #replace(key: number, before: HookEntries, after: HookEntries): void {
    if (after.length === 0) this.#lists.delete(key);
    else this.#lists.set(key, after);
    for (const listener of this.#listeners) listener.listChanged(key, before, after);
  }

  #families(ops: NfHookOps): number[] {
    if (ops.pf === NFPROTO_INET && ops.hooknum !== NF_INET_INGRESS) return [NFPROTO_IPV4, NFPROTO_IPV6];
    return [ops.pf];
  }

  #check(pf: number, ops: NfHookOps): void {
    const needsDevice = pf === NFPROTO_NETDEV || pf === NFPROTO_INET;
    if (needsDevice && (ops.dev === undefined || !this.#owns(ops.dev)))
      throw new NetstackError(
        'EINVAL',
        `hook ${ops.name} needs a device of this namespace`,
        'name a device that exists here',
      );
    if (
      ops.hooknum < 0 ||
      ops.hooknum >= hookCount(pf) ||
      (pf === NFPROTO_INET && ops.hooknum !== NF_INET_INGRESS)
    )
      throw new NetstackError('EINVAL', `family ${pf} has no hook ${ops.hooknum}`, 'see linux/netfilter.h');
  }
}

function hookCount(pf: number): number {
  switch (pf) {
    case NFPROTO_IPV4:
    case NFPROTO_IPV6:
    case NFPROTO_BRIDGE:
      return NF_INET_NUMHOOKS;
    case NFPROTO_ARP:
      return NF_ARP_NUMHOOKS;
    case NFPROTO_NETDEV:
      return NF_NETDEV_EGRESS + 1;
    case NFPROTO_INET:
      return NF_INET_INGRESS + 1;
    default:
      return 0;
  }
}

/** One number for family, hook and, where lists are by device, device: asked for by every packet at every hook. */
function listKey(pf: number, hooknum: number, dev: NetDevice | undefined): number {
  const byDevice = pf === NFPROTO_NETDEV || pf === NFPROTO_INET;
  return (byDevice ? (dev?.ifindex ?? 0) * LISTS_PER_DEVICE : 0) + pf * HOOKS_PER_FAMILY + hooknum;
}
