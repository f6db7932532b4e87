/**
 * A namespace of a replay's own with the policy in it, as `apply` would attach it: the same programs and dispatchers on
 * netfilter links at the same priorities, the same action chains and backstops, conntrack on where rules ask for it.
 * It has no name, and nothing is pinned: all of it ends with this process, however that ends.
 */
import { type CompiledPolicy, entryIndex } from '../../../compile/index.ts';
import { Hook } from '../../../ir/index.ts';
import {
  attachNetfilter,
  createNetns,
  currentNetnsCookie,
  type Fd,
  type Link,
  RawSender,
  withNetns,
  writeSysctl,
} from '../../../kernel/index.ts';
import type { Family } from '../../../net/index.ts';
import { needsConntrack, type Ruleset } from '../../../rules/index.ts';
import { ensureAids } from '../../policy/aids.ts';
import { aidsOf } from '../../policy/apply.ts';
import { priorityOf } from '../../policy/links.ts';
import type { ReplayOptions } from '../engine.ts';
import { generationAddresses } from '../host.ts';
import { LoadedPolicy } from '../loaded.ts';
import { Devices, type Frame, type Reach } from './devices.ts';
import { SENDER_PRIORITY, type Station, Stations } from './stations.ts';

/** Name of the only policy there, which its nf_tables tables have. */
export const REPLAY_POLICY = 'run';
const OWNER = { name: REPLAY_POLICY, about: { order: 0 } } as const;
const BACKSTOP_AFTER = 2;
/** A frame that went out by lo comes back in the softirq, which may have to wait for its thread. */
const LOOPBACK_MS = 100;
const ALL_HOOKS: readonly Hook[] = [
  Hook.PRE_ROUTING,
  Hook.LOCAL_IN,
  Hook.FORWARD,
  Hook.LOCAL_OUT,
  Hook.POST_ROUTING,
];

export class ReplayPlace {
  readonly policy: LoadedPolicy;
  /** Hooks whose tables run. */
  readonly hooks: readonly Hook[];
  readonly #netns: Fd;
  readonly #closing: { close(): void }[] = [];
  readonly #devices: Devices;
  readonly #stations: Stations;
  readonly #senders = new Map<Family, RawSender>();
  readonly #groups = new Set<string>();

  /**
   * @param only the one hook that is asked; absent: all
   * @throws {KernelError} having closed everything
   */
  constructor(policy: CompiledPolicy, options: ReplayOptions, only: Hook | undefined) {
    const families = options.rulesets.map(({ family }) => family);
    this.hooks = only === undefined ? ALL_HOOKS : [only];
    this.#netns = createNetns();
    const keep = <T extends { close(): void }>(thing: T): T => {
      this.#closing.unshift(thing);
      return thing;
    };
    try {
      [this.policy, this.#stations, this.#devices] = withNetns(this.#netns, () => {
        const stations = keep(new Stations(families, this.hooks));
        const devices = keep(new Devices(options, families, reachOf(only)));
        const loaded = keep(
          new LoadedPolicy(policy, {
            cookie: currentNetnsCookie(),
            addresses: generationAddresses(options),
            sets: options.sets,
          }),
        );
        for (const link of attachPolicy(loaded, options.rulesets, this.hooks)) keep(link);
        if (options.rulesets.some(needsConntrack))
          writeSysctl('net/netfilter/nf_conntrack_checksum', options.verifyChecksums ? 1 : 0);
        for (const family of families)
          this.#senders.set(family, keep(new RawSender({ family, priority: SENDER_PRIORITY })));
        return [loaded, stations, devices] as const;
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Lets a packet come in; its way. */
  receive(device: string, frame: Frame, group: Uint8Array | undefined): Station[] {
    return withNetns(this.#netns, () => {
      if (group !== undefined) this.#join(frame.family, group, this.#devices.indexFor(device, frame));
      this.#devices.inject(device, frame);
      if (device === 'lo') this.#waitForLoopback();
      return this.#stations.take();
    });
  }

  /**
   * Sends a packet as a process here would; its way.
   * @param outDevice where addresses of the link alone are meant; with `bound`, where every packet is to leave
   */
  send(
    family: Family,
    bytes: Uint8Array,
    destination: Uint8Array,
    outDevice: string,
    bound: boolean,
  ): Station[] {
    return withNetns(this.#netns, () => {
      this.#devices.prepareSending();
      // What the kernel does not take, or a hook drops, is told by the stations.
      const sender = this.#senders.get(family)!;
      const index = this.#devices.index(outDevice);
      sender.bind(bound ? index : 0);
      sender.send(bytes, destination, index);
      this.#devices.drain();
      return this.#stations.take();
    });
  }

  close(): void {
    for (const thing of this.#closing.splice(0)) thing.close();
    this.#netns.close();
  }

  #join(family: Family, group: Uint8Array, index: number): void {
    const key = `${index} ${group}`;
    if (this.#groups.has(key)) return;
    this.#groups.add(key);
    this.#senders.get(family)!.join(group, index);
  }

  #waitForLoopback(): void {
    const deadline = performance.now() + LOOPBACK_MS;
    while (!this.#stations.reached && performance.now() < deadline);
  }
}

function reachOf(only: Hook | undefined): Reach {
  if (only === undefined) return 'as-told';
  return only === Hook.LOCAL_IN ? 'all-local' : 'none-local';
}

/** Links, action chains and backstops in the calling thread's namespace. */
export function attachPolicy(
  loaded: LoadedPolicy,
  rulesets: readonly Ruleset[],
  hooks: readonly Hook[],
): Link[] {
  const { policy } = loaded;
  const links: Link[] = [];
  const aids = aidsOf(rulesets, policy, ['netfilter']);
  const chains = aids.chains.filter(({ hook }) => hooks.includes(hook));
  ensureAids({ ...OWNER, filter: (filter) => loaded.filter(filter) }, { ...aids, chains });
  const backstop = chains.length === 0 ? undefined : loaded.backstop();
  for (const { point } of policy.programs) {
    if (point.flavour !== 'netfilter' || !hooks.includes(point.hook)) continue;
    const { family, hook } = point;
    const priority = priorityOf(point, OWNER.about.order);
    // Fragments are put together where conntrack or delivery does it, as with iptables' own tables.
    links.push(attachNetfilter(loaded.dispatchers.get(entryIndex(point))!, { family, hook, priority }));
    if (backstop !== undefined && chains.some((other) => entryIndex(other) === entryIndex(point)))
      links.push(attachNetfilter(backstop, { family, hook, priority: priority + BACKSTOP_AFTER }));
  }
  return links;
}
