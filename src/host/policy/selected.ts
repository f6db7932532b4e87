/** The stores of the policies that a command is about. */
import { findBpffs } from '../../kernel/index.ts';
import { policyNames } from './place.ts';
import type { Selection } from './state.ts';
import { PolicyStore } from './store.ts';

/** Opens those that have the namespace, if one is given. The caller closes them. */
export function openSelected({ policy, cookie }: Selection): PolicyStore[] {
  const bpffs = findBpffs();
  if (bpffs === undefined) return [];
  const stores: PolicyStore[] = [];
  for (const name of policyNames()) {
    if (policy !== undefined && name !== policy) continue;
    const store = PolicyStore.open(bpffs, name);
    if (store === undefined) continue;
    if (cookie === undefined || store.records.find(cookie) !== undefined) stores.push(store);
    else store.close();
  }
  return stores;
}
