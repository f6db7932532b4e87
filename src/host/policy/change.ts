/** Changes of a live policy that make no programs: confirming it, moving its counters to zero, taking it away. */
import { rmSync } from 'node:fs';
import { GATE_OPEN } from '../../compile/index.ts';
import { findBpffs, requireKernel } from '../../kernel/index.ts';
import { PolicyError } from './error.ts';
import { policiesRoot, policyNames, withPolicyLock } from './place.ts';
import type { NetnsRecord } from './record.ts';
import {
  dropNamespace,
  lookLater,
  pathOf,
  removeStrayGenerations,
  removeUnwantedLinks,
  repair,
  repairAll,
} from './repair.ts';
import type { Selection } from './state.ts';
import { PolicyStore } from './store.ts';

/** Confirms what waits for it; returns the policies and namespaces. @throws {PolicyError} `HOST_POLICY_CONFIRM` */
export async function confirmPolicy(selection: Selection): Promise<string[]> {
  requireKernel();
  return await withPolicyLock(() => {
    const confirmed: string[] = [];
    // Before anything is repaired: what is too late by now has been given up by the programs already.
    const late: string[] = [];
    for (const store of stores(selection)) {
      const selected = store.records
        .all()
        .filter(({ cookie, gate }) => gate !== 0 && (selection.cookie ?? cookie) === cookie);
      const name = ({ cookie }: NetnsRecord): string =>
        `${store.name} in ${store.netns(cookie)?.name || cookie}`;
      late.push(...selected.filter((record) => record.isClosed()).map(name));
      const waiting = selected.filter((record) => record.isWaiting());
      // Those that went live together are confirmed together, by one store.
      for (const gate of new Set(waiting.map((record) => record.gate))) {
        const others = store.records.all().filter((record) => record.gate === gate);
        if (others.every(({ cookie }) => waiting.some((record) => record.cookie === cookie)))
          store.records.setGate(gate, GATE_OPEN);
      }
      for (const record of waiting) {
        record.commit(record.root);
        record.inFlight = 0;
        removeUnwantedLinks(store, record);
        confirmed.push(name(record));
      }
      removeStrayGenerations(store);
      store.close();
    }
    if (confirmed.length > 0) return confirmed;
    if (late.length > 0)
      throw new PolicyError(
        'HOST_POLICY_CONFIRM',
        `too late: ${late.join(', ')} has been given up`,
        'apply it again',
      );
    const elsewhere = waitingPolicies();
    throw new PolicyError(
      'HOST_POLICY_CONFIRM',
      elsewhere.length === 0 ? 'no policy waits for confirmation' : 'no policy waits for confirmation here',
      elsewhere.length === 0
        ? 'apply one with --confirm SECONDS'
        : elsewhere.map((policy) => `sluice confirm --policy ${policy}`).join(', or '),
    );
  });
}

/** Names of the policies that wait in any namespace. */
function waitingPolicies(): string[] {
  const names: string[] = [];
  for (const store of stores({})) {
    if (store.records.all().some((record) => record.isWaiting())) names.push(store.name);
    store.close();
  }
  return names;
}

/** Lets the counters of a policy start from zero. */
export async function zeroCounters(selection: Selection): Promise<number> {
  requireKernel();
  return await withPolicyLock(() => {
    repairAll();
    let zeroed = 0;
    for (const store of stores(selection)) {
      for (const record of store.records.all()) {
        if (selection.cookie !== undefined && record.cookie !== selection.cookie) continue;
        const document = store.documentAt(record.running);
        if (document === undefined) continue;
        const generation = store.generation(record.running);
        for (let index = 0; index < document.counters; index++)
          generation.setCounter(index, { packets: 0n, bytes: 0n });
        zeroed++;
      }
      store.close();
    }
    if (zeroed === 0) throw none(selection);
    return zeroed;
  });
}

/** Takes policies away; returns what was removed. @throws {PolicyError} `HOST_POLICY_NONE` */
export async function removePolicies(selection: Selection): Promise<string[]> {
  requireKernel();
  return await withPolicyLock(() => {
    const removed: string[] = [];
    const reachable = lookLater();
    const bpffs = findBpffs();
    for (const name of selected(selection)) {
      let store: PolicyStore | undefined;
      try {
        store = PolicyStore.open(bpffs!, name);
      } catch (error) {
        // What cannot be read can still be taken away whole: nothing but pins holds it.
        if (!(error instanceof PolicyError) || selection.policy === undefined) throw error;
        rmSync(`${policiesRoot(bpffs!)}/${name}`, { recursive: true, force: true });
        removed.push(name);
        continue;
      }
      if (store === undefined) continue;
      for (const record of store.records.all()) {
        if (selection.cookie !== undefined && record.cookie !== selection.cookie) continue;
        const about = store.netns(record.cookie);
        removed.push(`${name} in ${about?.name || record.cookie}`);
        dropNamespace(store, record, pathOf(store, record.cookie, reachable) ?? '');
      }
      repair(store, reachable);
      if (store.records.all().length === 0) store.destroy();
      else store.close();
    }
    if (removed.length === 0) throw none(selection);
    return removed;
  });
}

/** Repairs everything, takes the policies of namespaces that have gone away. */
export async function collectGarbage(): Promise<readonly string[]> {
  requireKernel();
  if (findBpffs() === undefined) return [];
  return await withPolicyLock(() => repairAll().done);
}

/**
 * Lets the rules of all policies see the addresses and devices of their namespaces as they are now; puts everything in
 * order, as every command that changes policies does. Returns the policies, with their namespaces, for which that changed.
 */
export async function refreshPolicies(): Promise<readonly string[]> {
  requireKernel();
  if (findBpffs() === undefined) return [];
  return await withPolicyLock(() => repairAll().refreshed);
}

function selected({ policy }: Selection): string[] {
  return policyNames().filter((name) => policy === undefined || name === policy);
}

function* stores(selection: Selection): Generator<PolicyStore> {
  const bpffs = findBpffs();
  if (bpffs === undefined) return;
  for (const name of selected(selection)) {
    const store = PolicyStore.open(bpffs, name);
    if (store !== undefined) yield store;
  }
}

function none({ policy, cookie }: Selection): PolicyError {
  const here = cookie === undefined ? '' : ' in this namespace';
  return new PolicyError(
    'HOST_POLICY_NONE',
    `there is no policy${policy === undefined ? '' : ` ${policy}`}${here}`,
    'see: sluice status',
  );
}
