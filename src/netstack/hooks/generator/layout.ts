/**
 * Memory that a generated program reads: the hook state it is called with, and the hook list. The list is read at run time, never
 * baked in, so that one program serves every namespace with the same functions. Offsets in bytes, little endian.
 */

/** struct nf_hook_state as the series extends it: the hook's place, its argument and the packet become members. */
export const STATE = {
  hook: 0,
  pf: 1,
  /** u16: which hook to go on with. */
  hookIndex: 2,
  in: 8,
  out: 16,
  sk: 24,
  net: 32,
  okfn: 40,
  /** The argument of the hook function that runs; on entry, the hook list. */
  priv: 48,
  skb: 56,
  bytes: 64,
} as const;

/** struct nf_hook_entries: a count, then pairs of function and argument. */
export const ENTRIES = {
  count: 0,
  first: 8,
  stride: 16,
  /** Of a pair. */
  hook: 0,
  priv: 8,
} as const;

/** Offset of the argument of hook `index` in a hook list. */
export function privOffset(index: number): number {
  return ENTRIES.first + index * ENTRIES.stride + ENTRIES.priv;
}
