/** Links of a policy in a namespace: made from wanted ones, pinned at once, taken down by name. */
import { type AttachPoint, GROUP_PRIORITY } from '../../compile/index.ts';
import {
  attachCgroup,
  attachNetfilter,
  attachTcx,
  attachXdp,
  type Link,
  type LinkDescription,
  openPinnedLink,
  type Program,
  pin,
  unpin,
  withNetns,
} from '../../kernel/index.ts';
import type { Manner } from './manner.ts';
import { entriesOf } from './place.ts';
import { roleOf } from './roles.ts';
import type { PolicyStore } from './store.ts';
import type { Target, WantedLink } from './target.ts';
import { tcxPlace } from './tcxposition.ts';

/** Policies at one hook: each takes a place for its dispatcher, one for its action chain, one for its backstop. */
export const MAX_ORDER = 10;
const PRIORITIES_EACH = 4;

/** Netfilter priority of a policy's dispatcher; its action chain is at the next one, its backstop after that. */
export function priorityOf(point: AttachPoint & { flavour: 'netfilter' }, order: number): number {
  return GROUP_PRIORITY[point.group] + order * PRIORITIES_EACH;
}

export interface LinkOptions {
  /** Netfilter links: the kernel puts fragments together first. */
  readonly defragment: boolean;
  readonly cgroup: string | undefined;
  readonly manner: Manner;
}

/** Makes the wanted links that are not there, and calls `made` after each. */
export function makeLinks(
  store: PolicyStore,
  target: Target,
  wanted: readonly WantedLink[],
  points: readonly AttachPoint[],
  options: LinkOptions,
  made: (name: string) => void,
): void {
  const present = new Set(linkNames(store, target.cookie));
  for (const link of wanted) {
    if (present.has(link.name)) continue;
    const program =
      link.kind === 'backstop' ? store.backstop() : store.dispatcher(link.point, roleOf(link.point, points));
    const attached = withNetns(target.netns, () => attach(program, link, store.about.order, options));
    try {
      pin(attached, store.place.link(target.cookie, link.name));
    } catch (error) {
      attached.detach();
      throw error;
    } finally {
      attached.close();
    }
    made(link.name);
  }
}

function attach(program: Program, link: WantedLink, order: number, options: LinkOptions): Link {
  const { point } = link;
  switch (point.flavour) {
    case 'netfilter':
      return attachNetfilter(program, {
        family: point.family,
        hook: point.hook,
        priority: priorityOf(point, order) + (link.kind === 'backstop' ? 2 : 0),
        defragment: options.defragment && link.kind === 'dispatcher',
      });
    case 'xdp':
      return attachXdp(program, { ifindex: link.ifindex!, mode: options.manner.xdpMode });
    case 'tcx': {
      const at = { ifindex: link.ifindex!, direction: point.direction };
      return attachTcx(program, { ...at, position: tcxPlace(options.manner.tcxPosition, at) });
    }
    case 'cgroup':
      return attachCgroup(program, { path: options.cgroup!, direction: point.direction });
  }
}

/** Names of the links that are pinned for a namespace. */
export function linkNames(store: PolicyStore, cookie: bigint): string[] {
  return entriesOf(store.place.links(cookie));
}

/** What the pinned links of a namespace say of themselves. */
export function describeLinks(
  store: PolicyStore,
  cookie: bigint,
): { readonly name: string; readonly about: LinkDescription }[] {
  return linkNames(store, cookie).flatMap((name) => {
    const link = openPinnedLink(store.place.link(cookie, name));
    if (link === undefined) return [];
    try {
      return [{ name, about: link.describe() }];
    } finally {
      link.close();
    }
  });
}

/** Detaches and unpins. */
export function removeLink(store: PolicyStore, cookie: bigint, name: string): void {
  const path = store.place.link(cookie, name);
  const link = openPinnedLink(path);
  try {
    link?.detach();
  } finally {
    link?.close();
  }
  unpin(path);
}
