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
import { ensureAids, removeAids, unionOfAids } from './aids.ts';
import { carryCounters } from './carry.ts';
import { type GenerationDocument, type Member, readDocument } from './document.ts';
import { OPEN_ROOT } from './generation.ts';
import { describeLinks, linkNames, removeLink } from './links.ts';
import { entriesOf, policyNames, unfinishedDirectories } from './place.ts';
import type { NetnsRecord } from './record.ts';
import { PolicyStore } from './store.ts';

export interface RepairReport {
  /** What was found and done, in words. */
  readonly done: readonly string[];
}

/** Repairs all policies. Needs the policy lock. */
export function repairAll(): RepairReport {
  const bpffs = findBpffs() ?? ensureBpffs();
  const done: string[] = [];
  for (const directory of unfinishedDirectories(bpffs)) {
    rmSync(directory, { recursive: true, force: true });
    done.push(`removed ${directory}, which was never finished`);
  }
  const reachable = reachableNetns();
  for (const name of policyNames()) {
    const store = PolicyStore.open(bpffs, name);
    if (store === undefined) {
      rmSync(`${bpffs}/sluice/policies/${name}`, { recursive: true, force: true });
      done.push(`removed policy ${name}, which has no document`);
      continue;
    }
    done.push(...repair(store, reachable).map((text) => `policy ${name}: ${text}`));
    if (store.records.all().length === 0) store.destroy();
    else store.close();
  }
  return { done };
}

/** Repairs one policy; what is left of it without a namespace is the caller's to destroy. */
export function repair(
  store: PolicyStore,
  reachable: ReadonlyMap<number, string> = reachableNetns(),
): string[] {
  const done: string[] = [];
  finishJournal(store, done);
  for (const record of store.records.all()) settle(store, record, done);
  for (const record of store.records.all()) {
    const path = pathOf(store, record.cookie, reachable);
    const neverBegan = record.root === OPEN_ROOT && record.previous === 0;
    if (path === undefined || neverBegan) {
      done.push(
        path === undefined ? `its namespace ${nameOf(store, record)} has gone` : `removed what was not begun`,
      );
      dropNamespace(store, record, path ?? '');
      continue;
    }
    removeUnwantedLinks(store, record);
    if (path !== '') restoreAids(store, record, path);
  }
  removeStrayNamespaces(store);
  removeStrayGenerations(store);
  return done;
}

function nameOf(store: PolicyStore, record: NetnsRecord): string {
  return store.netns(record.cookie)?.name || String(record.cookie);
}

/** A path to the namespace, empty when it lives but cannot be opened from here, `undefined` when it has gone. */
export function pathOf(
  store: PolicyStore,
  cookie: bigint,
  reachable: ReadonlyMap<number, string>,
): string | undefined {
  const inode = store.netns(cookie)?.inode;
  const path = inode === undefined ? undefined : reachable.get(inode);
  if (path === undefined || path === '') return path;
  try {
    // Inode numbers are used again, cookies are not.
    const netns = openNetnsFile(path);
    try {
      return withNetns(netns, currentNetnsCookie) === cookie ? path : undefined;
    } finally {
      netns.close();
    }
  } catch {
    return '';
  }
}

/** A commit to several namespaces that reached one of them goes to all; one that reached none is forgotten. */
function finishJournal(store: PolicyStore, done: string[]): void {
  const journal = readDocument<GenerationDocument>(store.place.journal);
  if (journal === undefined) return;
  const reached = ({ cookie, root, number }: Member): boolean => {
    const record = store.records.find(BigInt(cookie));
    return record?.root === root && store.generation(root).number === number;
  };
  if (journal.members.some(reached)) {
    for (const member of journal.members) {
      const { cookie, root, previous } = member;
      const record = store.records.find(BigInt(cookie));
      if (record === undefined || reached(member)) continue;
      record.commit(root, previous);
    }
    done.push('finished a commit that was broken off');
  }
  unpin(store.place.journal);
}

/** Gives up what nobody confirmed in time, and ends a commit that is still marked as under way. */
function settle(store: PolicyStore, record: NetnsRecord, done: string[]): void {
  if (record.isReverted()) {
    const { previous } = record;
    record.commit(previous, previous);
    record.deadlineNs = 0n;
    record.commit(previous, 0);
    done.push(`gave up an unconfirmed generation in ${nameOf(store, record)}`);
  }
  // A commit without a deadline of its own over an unconfirmed generation, broken off before it was tidied up.
  if (record.deadlineNs !== 0n && (record.previous === 0 || record.previous === record.root)) {
    record.deadlineNs = 0n;
    record.commit(record.root, 0);
  }
  if (record.inFlight !== 0) {
    waitForGracePeriod();
    endCommit(store, record);
  }
}

/** After the grace period: carries counters over and ends the commit. */
export function endCommit(store: PolicyStore, record: NetnsRecord): void {
  const { inFlight, root } = record;
  if (inFlight !== root) {
    const old = store.documentAt(inFlight);
    const fresh = store.documentAt(root);
    if (old !== undefined && fresh !== undefined) {
      carryCounters(
        { document: old, generation: store.generation(inFlight) },
        { document: fresh, generation: store.generation(root) },
      );
    }
  }
  record.inFlight = 0;
}

/** Detaches all links of a namespace, removes its record and its tables. `path` empty: it cannot be entered. */
export function dropNamespace(store: PolicyStore, record: NetnsRecord, path: string): void {
  record.deadlineNs = 0n;
  record.commit(OPEN_ROOT, 0);
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
    const number = root === OPEN_ROOT ? 0 : store.generation(root).number;
    const member = store.documentAt(root)?.members.find((one) => one.number === number);
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

function restoreAids(store: PolicyStore, record: NetnsRecord, path: string): void {
  const all = record.named.flatMap((root) => store.documentAt(root)?.aids ?? []);
  if (all.length === 0) return;
  const netns = openNetnsFile(path);
  try {
    withNetns(netns, () => ensureAids(store, unionOfAids(all)));
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
    for (const root of record.named) if (root !== OPEN_ROOT) live.add(store.generation(root).number);
  }
  for (const number of store.numbers) if (!live.has(number)) store.dropDocument(number);
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
