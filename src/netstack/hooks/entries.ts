/**
 * One hook list: an array that never changes. Registering and unregistering make another one, so that a packet on its way
 * goes on along the list that it met. Source: net/netfilter/core.c (nf_hook_entries_grow, __nf_hook_entries_try_shrink).
 */
import { NetstackError } from '../errno.ts';
import type { NfHookOps } from './state.ts';

export const MAX_HOOK_COUNT = 1024;

/** Hook functions in the order in which they run. */
export type HookEntries = readonly NfHookOps[];

/**
 * The list with `ops` in it: ascending priority, and before those of equal priority.
 *
 * @throws NetstackError EBUSY for a BPF hook at a priority that is taken; E2BIG beyond 1024
 */
export function growEntries(entries: HookEntries, ops: NfHookOps): HookEntries {
  if (ops.type === 'bpf' && entries.some((entry) => entry.priority === ops.priority))
    throw new NetstackError(
      'EBUSY',
      `priority ${ops.priority} is taken at this hook`,
      'choose a priority that no other hook function has',
    );
  if (entries.length >= MAX_HOOK_COUNT)
    throw new NetstackError(
      'E2BIG',
      `more than ${MAX_HOOK_COUNT} functions at one hook`,
      'detach what is not needed, or put several policies into one program',
    );
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle]!.priority < ops.priority) low = middle + 1;
    else high = middle;
  }
  return entries.toSpliced(low, 0, ops);
}

/** The list without `ops`; `undefined` when it was not in it. */
export function shrinkEntries(entries: HookEntries, ops: NfHookOps): HookEntries | undefined {
  const at = entries.indexOf(ops);
  return at < 0 ? undefined : entries.toSpliced(at, 1);
}
