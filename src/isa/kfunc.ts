/**
 * Kernel functions that networking programs call (kfuncs), by name: there are no fixed numbers, a kernel's BTF gives them.
 *
 * Sources: `net/core/filter.c` (dynptr), `kernel/bpf/helpers.c` (common set), `net/netfilter/nf_conntrack_bpf.c`,
 * `net/core/xdp.c` (metadata).
 */
import type { ProgramType } from './types.ts';

/** Any program type that may call kernel functions at all. */
const ANY = 'any';

/** A kernel function: first kernel that has it, and the program types that may call it. */
export interface Kfunc {
  readonly since: string;
  readonly programs: typeof ANY | readonly ProgramType[];
}

const XDP: readonly ProgramType[] = ['BPF_PROG_TYPE_XDP'];
const TC: readonly ProgramType[] = ['BPF_PROG_TYPE_SCHED_CLS'];
const SKB: readonly ProgramType[] = [
  'BPF_PROG_TYPE_SCHED_CLS',
  'BPF_PROG_TYPE_CGROUP_SKB',
  'BPF_PROG_TYPE_SOCKET_FILTER',
  'BPF_PROG_TYPE_NETFILTER',
];

/** Known kernel functions. A name that is not here can still be called, if the kernel has it. */
export const KFUNCS: Readonly<Record<KfuncName, Kfunc>> = {
  bpf_dynptr_from_skb: { since: '6.4', programs: SKB },
  bpf_dynptr_from_xdp: { since: '6.4', programs: XDP },
  bpf_dynptr_slice: { since: '6.4', programs: ANY },
  bpf_dynptr_slice_rdwr: { since: '6.4', programs: ANY },
  bpf_dynptr_adjust: { since: '6.5', programs: ANY },
  bpf_dynptr_is_null: { since: '6.5', programs: ANY },
  bpf_dynptr_is_rdonly: { since: '6.5', programs: ANY },
  bpf_dynptr_size: { since: '6.5', programs: ANY },
  bpf_dynptr_clone: { since: '6.5', programs: ANY },
  bpf_cast_to_kern_ctx: { since: '6.2', programs: ANY },
  bpf_rdonly_cast: { since: '6.2', programs: ANY },
  bpf_rcu_read_lock: { since: '6.2', programs: ANY },
  bpf_rcu_read_unlock: { since: '6.2', programs: ANY },
  bpf_iter_num_new: { since: '6.4', programs: ANY },
  bpf_iter_num_next: { since: '6.4', programs: ANY },
  bpf_iter_num_destroy: { since: '6.4', programs: ANY },
  bpf_xdp_ct_alloc: { since: '6.0', programs: XDP },
  bpf_xdp_ct_lookup: { since: '5.18', programs: XDP },
  bpf_skb_ct_alloc: { since: '6.0', programs: TC },
  bpf_skb_ct_lookup: { since: '5.18', programs: TC },
  bpf_ct_insert_entry: { since: '6.0', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
  bpf_ct_release: { since: '5.18', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
  bpf_ct_set_timeout: { since: '6.0', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
  bpf_ct_change_timeout: { since: '6.0', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
  bpf_ct_set_status: { since: '6.0', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
  bpf_ct_change_status: { since: '6.0', programs: ['BPF_PROG_TYPE_XDP', 'BPF_PROG_TYPE_SCHED_CLS'] },
};

export type KfuncName =
  | 'bpf_dynptr_from_skb'
  | 'bpf_dynptr_from_xdp'
  | 'bpf_dynptr_slice'
  | 'bpf_dynptr_slice_rdwr'
  | 'bpf_dynptr_adjust'
  | 'bpf_dynptr_is_null'
  | 'bpf_dynptr_is_rdonly'
  | 'bpf_dynptr_size'
  | 'bpf_dynptr_clone'
  | 'bpf_cast_to_kern_ctx'
  | 'bpf_rdonly_cast'
  | 'bpf_rcu_read_lock'
  | 'bpf_rcu_read_unlock'
  | 'bpf_iter_num_new'
  | 'bpf_iter_num_next'
  | 'bpf_iter_num_destroy'
  | 'bpf_xdp_ct_alloc'
  | 'bpf_xdp_ct_lookup'
  | 'bpf_skb_ct_alloc'
  | 'bpf_skb_ct_lookup'
  | 'bpf_ct_insert_entry'
  | 'bpf_ct_release'
  | 'bpf_ct_set_timeout'
  | 'bpf_ct_change_timeout'
  | 'bpf_ct_set_status'
  | 'bpf_ct_change_status';

/** Whether a program of this type may call the function; `undefined` for a function that is not in the table. */
export function kfuncAllowed(type: ProgramType, name: string): boolean | undefined {
  if (!Object.hasOwn(KFUNCS, name)) return undefined;
  const { programs }: Kfunc = KFUNCS[name as KfuncName];
  return programs === ANY || programs.includes(type);
}
