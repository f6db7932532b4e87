/**
 * Putting a policy in order: run by every command that changes policies, before its own work. Whatever step an earlier
 * command was ended at, what is found here is either from before its commit (then what it made is taken away) or from
 * after it (then the rest is done).
 */
import { rmSync } from 'node:fs';
import { FIRST_PROGRAM_INDEX, PROGRAM_ARRAY_SIZE, programArrayName } from '../../compile/index.ts';
import {
  currentNetnsCookie,
  ensureBpffs,
  findBpffs,
  openNetnsFile,
  reachableNetns,
  unpin,
  waitForGracePeriod,
  withNetns,
} from '../../kernel/index.ts';
import { netnsPath } from '../netns.ts';
import { ensureAids, removeAids, unionOfAids } from './aids.ts';
import { carryCounters } from './carry.ts';
import { OPEN_ROOT } from './generation.ts';
import { describeLinks, linkNames, removeLink } from './links.ts';
import { entriesOf, policyNames, unfinishedDirectories } from './place.ts';
import type { NetnsRecord } from './record.ts';
import { releaseSets } from './setextents.ts';
import { PolicyStore } from './store.ts';
import { netnsTables, refreshSurroundings } from './surroundings.ts';

export interface RepairReport {
  /** What was found and done, in words. */
  readonly done: readonly string[];
  /** Policies whose rules see addresses and devices now that had changed, with the namespace. */
  readonly refreshed: readonly string[];
}

/** Repairs all policies. Needs the policy lock. */
export function repairAll(): RepairReport {
  const bpffs = findBpffs() ?? ensureBpffs();
  const done: string[] = [];
  const refreshed: string[] = [];
  for (const directory of unfinishedDirectories(bpffs)) {
    rmSync(directory, { recursive: true, force: true });
    done.push(`removed ${directory}, which was never finished`);
  }
  const reachable = lookLater();
  for (const name of policyNames()) {
    const store = PolicyStore.open(bpffs, name);
    if (store === undefined) {
      rmSync(`${bpffs}/sluice/policies/${name}`, { recursive: true, force: true });
      done.push(`removed policy ${name}, which has no document`);
      continue;
    }
    const report = repair(store, reachable);
    done.push(...report.done.map((text) => `policy ${name}: ${text}`));
    refreshed.push(...report.refreshed);
    if (store.records.all().length === 0) store.destroy();
    else store.close();
  }
  return { done, refreshed };
}

/** Repairs one policy; what is left of it without a namespace is the caller's to destroy. */
export function repair(store: PolicyStore, reachable: Reachable = lookLater()): RepairReport {
  const done: string[] = [];
  const refreshed: string[] = [];
  for (const record of store.records.all()) settle(store, record, done);
  for (const record of store.records.all()) {
    const path = pathOf(store, record.cookie, reachable);
    const neverBegan = record.root === OPEN_ROOT;
    if (path === undefined || neverBegan) {
      done.push(
        path === undefined ? `its namespace ${nameOf(store, record)} has gone` : `removed what was not begun`,
      );
      dropNamespace(store, record, path ?? '');
      continue;
    }
    removeUnwantedLinks(store, record);
    if (path !== '' && bringUpToDate(store, record, path))
      refreshed.push(`${store.name} in ${nameOf(store, record)}`);
  }
  removeStrayNamespaces(store);
  removeStrayGenerations(store);
  return { done, refreshed };
}

function nameOf(store: PolicyStore, record: NetnsRecord): string {
  return store.netns(record.cookie)?.name || String(record.cookie);
}

/**
 * A path to the namespace, empty when it lives but cannot be opened from here, `undefined` when it has gone. `reachable`
 * looks at every thread of the machine, and is asked only where the namespace does not answer to its own name.
 */
export function pathOf(store: PolicyStore, cookie: bigint, reachable: Reachable): string | undefined {
  const about = store.netns(cookie);
  if (about === undefined) return undefined;
  const usual = netnsPath(about.name);
  if (cookieAt(usual) === cookie) return usual;
  const path = reachable().get(about.inode);
  if (path === undefined || path === '') return path;
  // Inode numbers are used again, cookies are not.
  const found = cookieAt(path);
  return found === undefined ? '' : found === cookie ? path : undefined;
}

function cookieAt(path: string): bigint | undefined {
  try {
    const netns = openNetnsFile(path);
    try {
      return withNetns(netns, currentNetnsCookie);
    } finally {
      netns.close();
    }
  } catch {
    return undefined;
  }
}

/** Paths by inode number of every namespace that somebody can reach, looked for when it is first asked. */
export type Reachable = () => ReadonlyMap<number, string>;

export function lookLater(): Reachable {
  let found: ReadonlyMap<number, string> | undefined;
  return () => {
    found ??= reachableNetns();
    return found;
  };
}

/** Ends a commit that is still marked as under way, and gives up what nobody confirmed in time. */
function settle(store: PolicyStore, record: NetnsRecord, done: string[]): void {
  if (record.isClosed()) {
    const never = record.closesNs === 0n;
    record.commit(record.previous);
    done.push(
      `gave up ${never ? 'a commit that was broken off' : 'an unconfirmed generation'} in ${nameOf(store, record)}`,
    );
  } else if (record.gate !== 0 && !record.isWaiting()) record.commit(record.root);
  if (record.inFlight !== 0 && !(record.isWaiting() && record.inFlight === record.root)) {
    waitForGracePeriod();
    endCommit(store, record);
  }
}

/**
 * After the grace period: carries counters over and ends the commit. While it waits for confirmation packets go on being
 * noted, so that none sees two generations when its time passes.
 */
export function endCommit(store: PolicyStore, record: NetnsRecord): void {
  const { inFlight, root } = record;
  const replaced = inFlight !== root && ![root, inFlight].some((one) => one === 0 || one === OPEN_ROOT);
  const from = replaced ? store.generation(inFlight) : undefined;
  const to = store.generation(root);
  // What was given up goes before what counts again; an edit counts on in the same places.
  if (from !== undefined && from.number < to.number && from.extent !== to.extent) {
    const old = store.documentAt(inFlight);
    const fresh = store.documentAt(root);
    if (old !== undefined && fresh !== undefined)
      carryCounters({ document: old, generation: from }, { document: fresh, generation: to });
  }
  record.inFlight = record.isWaiting() ? root : 0;
}

/** Detaches all links of a namespace, removes its record and its tables. `path` empty: it cannot be entered. */
export function dropNamespace(store: PolicyStore, record: NetnsRecord, path: string): void {
  record.commit(OPEN_ROOT);
  for (const name of linkNames(store, record.cookie)) removeLink(store, record.cookie, name);
  if (path !== '') {
    const netns = openNetnsFile(path);
    try {
      withNetns(netns, () => removeAids(store.name));
    } finally {
      netns.close();
    }
  }
  record.free();
  rmSync(store.place.netns(record.cookie), { recursive: true, force: true });
}

/** Links that no generation of the record wants. */
export function removeUnwantedLinks(store: PolicyStore, record: NetnsRecord): void {
  const wanted = new Set<string>();
  for (const root of record.named) {
    const number = root === OPEN_ROOT ? 0 : store.loadedNumber(root);
    const member = store.loadedAt(root)?.members.find((one) => one.number === number);
    for (const name of member?.links ?? []) wanted.add(name);
  }
  for (const name of linkNames(store, record.cookie)) {
    if (!wanted.has(name)) removeLink(store, record.cookie, name);
  }
  // The device or cgroup of a link may have gone; its pin is of no more use.
  for (const { name, about } of describeLinks(store, record.cookie)) {
    const gone =
      ((about.kind === 'xdp' || about.kind === 'tcx') && about.ifindex === 0) ||
      (about.kind === 'cgroup' && about.cgroupId === 0n);
    if (gone) unpin(store.place.link(record.cookie, name));
  }
}

/** Mends what a namespace has of the kernel's own, and lets its generations see it as it is now; true when that changed. */
function bringUpToDate(store: PolicyStore, record: NetnsRecord, path: string): boolean {
  const roots = record.named.filter((root) => root !== OPEN_ROOT);
  if (roots.length === 0) return false;
  const aids = unionOfAids(roots.flatMap((root) => store.aidsAt(root)));
  const netns = openNetnsFile(path);
  try {
    return withNetns(netns, () => {
      ensureAids(store, aids);
      const tables = netnsTables();
      return roots.filter((root) => refreshSurroundings(store, root, tables)).length > 0;
    });
  } finally {
    netns.close();
  }
}

/** Directories of namespaces that have no record. */
function removeStrayNamespaces(store: PolicyStore): void {
  const directory = `${store.place.directory}/netns`;
  for (const name of entriesOf(directory)) {
    const cookie = BigInt(name);
    if (store.records.find(cookie) !== undefined) continue;
    for (const link of linkNames(store, cookie)) removeLink(store, cookie, link);
    rmSync(`${directory}/${name}`, { recursive: true, force: true });
  }
}

/** Documents and programs of generations that no record names. */
export function removeStrayGenerations(store: PolicyStore): void {
  const live = new Set<number>();
  for (const record of store.records.all()) {
    for (const root of record.named) if (root !== OPEN_ROOT) live.add(store.loadedNumber(root));
  }
  for (const number of store.numbers) if (!live.has(number)) store.dropDocument(number);
  releaseSets(
    store.arena.buffer,
    [...live].flatMap((number) => store.document(String(number)) ?? []),
  );
  const placed = [...live].flatMap((number) => store.document(String(number))?.programs ?? []);
  for (const point of [
    { flavour: 'netfilter', group: 'filter', family: 'ipv4', hook: 1 },
    { flavour: 'xdp' },
    { flavour: 'tcx', direction: 'ingress' },
    { flavour: 'tcx', direction: 'egress' },
    { flavour: 'cgroup', direction: 'ingress' },
    { flavour: 'cgroup', direction: 'egress' },
  ] as const) {
    const array = programArrayName(point);
    const used = new Set(placed.filter((one) => one.array === array).map(({ index }) => index));
    const map = store.map(array);
    if (map === undefined) continue;
    // Programs are put into the lowest free places, so that a gap as long as one generation ends the search.
    for (let index = FIRST_PROGRAM_INDEX, empty = 0; index < PROGRAM_ARRAY_SIZE && empty < 64; index++) {
      if (used.has(index)) empty = 0;
      else empty = map.delete(index) ? 0 : empty + 1;
    }
  }
}
