/**
 * Where members of kernel structures lie.
 *
 * Programs read `skb->mark` or `state->in->ifindex` through pointers. Compiled programs name such members, and linking
 * asks a layout for the offset: a kernel's BTF when they go to the kernel, the table below when they run here. The
 * table has the members that programs of this project and its helpers use; offsets are this machine's own.
 */

import type { Btf } from '../btf/index.ts';

/** A structure: its bytes, and where its members lie. Paths step into embedded structures by dots. */
export interface StructLayout {
  readonly size: number;
  member(path: string): readonly [offset: number, bytes: number] | undefined;
}

export interface KernelLayout {
  /** `undefined` for a structure that is not known. */
  struct(name: string): StructLayout | undefined;
}

function table(
  size: number,
  members: Readonly<Record<string, readonly [offset: number, bytes: number]>>,
): StructLayout {
  return { size, member: (path) => (Object.hasOwn(members, path) ? members[path] : undefined) };
}

/** Lays members out one after the other, each at a multiple of its size. */
function pack(members: Readonly<Record<string, number>>): StructLayout {
  const places: Record<string, readonly [number, number]> = {};
  let at = 0;
  for (const [name, bytes] of Object.entries(members)) {
    const align = Math.min(8, bytes);
    at = Math.ceil(at / align) * align;
    places[name] = [at, bytes];
    at += bytes;
  }
  return table((at + 7) & ~7, places);
}

const STRUCTS: Readonly<Record<string, StructLayout>> = {
  nf_hook_state: table(48, {
    hook: [0, 1],
    pf: [1, 1],
    in: [8, 8],
    out: [16, 8],
    sk: [24, 8],
    net: [32, 8],
    okfn: [40, 8],
  }),
  sk_buff: pack({
    dev: 8,
    sk: 8,
    tstamp: 8,
    _nfct: 8,
    _skb_refdst: 8,
    head: 8,
    data: 8,
    len: 4,
    data_len: 4,
    mark: 4,
    priority: 4,
    hash: 4,
    skb_iif: 4,
    tail: 4,
    end: 4,
    protocol: 2,
    vlan_proto: 2,
    vlan_tci: 2,
    queue_mapping: 2,
    transport_header: 2,
    network_header: 2,
    mac_header: 2,
    mac_len: 2,
    __pkt_type_offset: 1,
  }),
  net_device: pack({
    ifindex: 4,
    mtu: 4,
    flags: 4,
    type: 2,
    hard_header_len: 2,
    addr_len: 1,
    name: 16,
    dev_addr: 8,
    'nd_net.net': 8,
  }),
  // Memory as u64, for casts.
  rtnl_link_stats64: table(192, {}),
  net: pack({ net_cookie: 8, ifindex: 4, 'ns.inum': 4 }),
  xdp_buff: pack({ data: 8, data_end: 8, data_meta: 8, data_hard_start: 8, rxq: 8, frame_sz: 4, flags: 4 }),
  xdp_rxq_info: pack({ dev: 8, queue_index: 4 }),
  nf_conn: pack({
    status: 8,
    mark: 4,
    timeout: 4,
    'ct_general.use': 4,
    master: 8,
    // Both directions: 16 bytes of list, then struct nf_conntrack_tuple.
    tuplehash: 112,
    // Both sides, struct ip_ct_tcp_state.
    'proto.tcp.seen': 40,
    'proto.tcp.state': 1,
    'proto.tcp.last_dir': 1,
    'proto.tcp.last_index': 1,
  }),
  // include/uapi/linux/bpf.h: what programs see of a socket through PTR_TO_SOCKET.
  bpf_sock: table(80, {
    bound_dev_if: [0, 4],
    family: [4, 4],
    type: [8, 4],
    protocol: [12, 4],
    mark: [16, 4],
    priority: [20, 4],
    src_ip4: [24, 4],
    src_ip6: [28, 16],
    src_port: [44, 4],
    dst_port: [48, 2],
    dst_ip4: [52, 4],
    dst_ip6: [56, 16],
    state: [72, 4],
    rx_queue_mapping: [76, 4],
  }),
  sock: pack({
    '__sk_common.skc_daddr': 4,
    '__sk_common.skc_rcv_saddr': 4,
    '__sk_common.skc_dport': 2,
    '__sk_common.skc_num': 2,
    '__sk_common.skc_family': 2,
    '__sk_common.skc_state': 1,
    '__sk_common.skc_net.net': 8,
    '__sk_common.skc_cookie.counter': 8,
    sk_mark: 4,
    sk_protocol: 2,
    'sk_uid.val': 4,
    sk_socket: 8,
  }),
  socket: pack({ file: 8 }),
  file: pack({ f_cred: 8 }),
  cred: pack({ 'fsuid.val': 4, 'fsgid.val': 4 }),
};

export const DEFAULT_LAYOUT: KernelLayout = {
  struct: (name) => (Object.hasOwn(STRUCTS, name) ? STRUCTS[name] : undefined),
};

/** The layout of a real kernel, by its BTF: bytecode that was linked for that kernel then runs here as it is. */
export function btfLayout(btf: Btf): KernelLayout {
  return {
    struct(name) {
      const size = btf.structSize(name);
      if (size === undefined) return undefined;
      return {
        size,
        member(path) {
          const place = btf.member(name, path);
          return place === undefined || place.bits !== 0 ? undefined : [place.byteOffset, place.size];
        },
      };
    },
  };
}

/** Names that have a BTF id here: position in this list + 1. */
export const STRUCT_NAMES: readonly string[] = Object.keys(STRUCTS);
