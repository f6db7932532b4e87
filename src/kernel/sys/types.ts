/** Attach and link types (include/uapi/linux/bpf.h); program and map types are those of `src/isa`. */

/** `enum bpf_attach_type`, those that Sluice attaches. */
export const AttachType = {
  BPF_CGROUP_INET_INGRESS: 0,
  BPF_CGROUP_INET_EGRESS: 1,
  BPF_SK_LOOKUP: 36,
  BPF_XDP: 37,
  BPF_SK_REUSEPORT_SELECT: 39,
  BPF_NETFILTER: 45,
  BPF_TCX_INGRESS: 46,
  BPF_TCX_EGRESS: 47,
} as const;
export type AttachType = (typeof AttachType)[keyof typeof AttachType];

/** `enum bpf_link_type`. */
export const LinkType = {
  BPF_LINK_TYPE_CGROUP: 3,
  BPF_LINK_TYPE_NETNS: 5,
  BPF_LINK_TYPE_XDP: 6,
  BPF_LINK_TYPE_NETFILTER: 10,
  BPF_LINK_TYPE_TCX: 11,
} as const;
export type LinkType = (typeof LinkType)[keyof typeof LinkType];

/** `enum bpf_map_type`, those with which this folder deals by name. */
export const MapType = {
  BPF_MAP_TYPE_HASH: 1,
  BPF_MAP_TYPE_ARRAY: 2,
  BPF_MAP_TYPE_PROG_ARRAY: 3,
  BPF_MAP_TYPE_PERCPU_HASH: 5,
  BPF_MAP_TYPE_PERCPU_ARRAY: 6,
  BPF_MAP_TYPE_LRU_HASH: 9,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: 10,
  BPF_MAP_TYPE_LPM_TRIE: 11,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: 12,
  BPF_MAP_TYPE_HASH_OF_MAPS: 13,
  BPF_MAP_TYPE_SOCKMAP: 15,
  BPF_MAP_TYPE_SOCKHASH: 18,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: 20,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: 21,
  BPF_MAP_TYPE_QUEUE: 22,
  BPF_MAP_TYPE_STACK: 23,
  BPF_MAP_TYPE_RINGBUF: 27,
  BPF_MAP_TYPE_ARENA: 33,
} as const;

/** `enum bpf_prog_type`, those that Sluice loads. */
export const ProgramType = {
  BPF_PROG_TYPE_SOCKET_FILTER: 1,
  BPF_PROG_TYPE_SCHED_CLS: 3,
  BPF_PROG_TYPE_XDP: 6,
  BPF_PROG_TYPE_CGROUP_SKB: 8,
  BPF_PROG_TYPE_SK_REUSEPORT: 21,
  BPF_PROG_TYPE_SK_LOOKUP: 30,
  BPF_PROG_TYPE_SYSCALL: 31,
  BPF_PROG_TYPE_NETFILTER: 32,
} as const;
