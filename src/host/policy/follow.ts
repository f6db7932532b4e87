/**
 * Following the namespaces that have policies: whoever is called here lets rules see addresses and devices as they are.
 * Nothing of a policy is kept open meanwhile, and a namespace only for as long as it can be reached: following keeps
 * nothing alive.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AddressEvents,
  findBpffs,
  openNetnsFile,
  reachableNetns,
  waitForAddressEvents,
  withNetns,
} from '../../kernel/index.ts';
import { type NetnsDocument, readDocument } from './document.ts';
import { entriesOf, PolicyPlace, policyNames } from './place.ts';

/** News wake at once; policies that came or went are looked for this often. */
const LOOK_MS = 1000;
/** What keeps a namespace alive is asked of every thread of the machine: not that often. */
const REACH_LOOKS = 5;

/**
 * Calls `refresh` after news from any of the namespaces, and when one comes or goes, until `signal` says to end. Of news that
 * come while it works there is one more call. What it throws ends the following.
 */
export async function followAddresses(refresh: () => Promise<void>, signal: AbortSignal): Promise<void> {
  const following = new Following();
  try {
    while (!signal.aborted) {
      const moved = following.look();
      const changed = following.subscriptions.filter((events) => events.drain()).length > 0;
      if (moved || changed) await refresh();
      else if (following.subscriptions.length > 0)
        await waitForAddressEvents(following.subscriptions, LOOK_MS);
      else await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    following.close();
  }
}

class Following {
  /** By netns cookie. */
  readonly #followed = new Map<string, { readonly inode: number; readonly events: AddressEvents }>();
  #wanted = new Map<string, number>();
  #looks = 0;

  get subscriptions(): AddressEvents[] {
    return [...this.#followed.values()].map(({ events }) => events);
  }

  /** Subscribes where policies have come, lets go where they or their namespaces have gone; true when there was either. */
  look(): boolean {
    const before = this.#wanted;
    this.#wanted = namespacesWithPolicies();
    const same =
      this.#wanted.size === before.size && [...before.keys()].every((key) => this.#wanted.has(key));
    this.#looks++;
    if (same && (this.#wanted.size === 0 || this.#looks % REACH_LOOKS !== 0)) return false;
    // A subscription keeps its namespace alive: one that nobody else can reach any more is let go.
    const paths = reachableNetns();
    const gone = this.#letGo(paths);
    return this.#subscribe(paths) || gone;
  }

  close(): void {
    for (const events of this.subscriptions) events.close();
  }

  #letGo(paths: ReadonlyMap<number, string>): boolean {
    const gone = [...this.#followed].filter(
      ([cookie, { inode }]) => !this.#wanted.has(cookie) || !paths.has(inode),
    );
    for (const [cookie, { events }] of gone) {
      events.close();
      this.#followed.delete(cookie);
    }
    return gone.length > 0;
  }

  #subscribe(paths: ReadonlyMap<number, string>): boolean {
    let came = false;
    for (const [cookie, inode] of this.#wanted) {
      const path = paths.get(inode);
      if (this.#followed.has(cookie) || path === undefined || path === '') continue;
      const netns = openNetnsFile(path);
      try {
        this.#followed.set(cookie, { inode, events: withNetns(netns, () => new AddressEvents()) });
        came = true;
      } finally {
        netns.close();
      }
    }
    return came;
  }
}

/** Inodes of the namespaces that have policies, by cookie. */
function namespacesWithPolicies(): Map<string, number> {
  const found = new Map<string, number>();
  const bpffs = findBpffs();
  for (const name of bpffs === undefined ? [] : policyNames()) {
    const place = new PolicyPlace(bpffs!, name);
    for (const cookie of entriesOf(`${place.directory}/netns`)) {
      const about = readDocument<NetnsDocument>(place.netnsDocument(BigInt(cookie)));
      if (about !== undefined) found.set(cookie, about.inode);
    }
  }
  return found;
}
