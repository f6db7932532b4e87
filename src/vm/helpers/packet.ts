/** Helpers that read, change and send packets (`net/core/filter.c`). */
import { SkbContext, XdpContext } from '../context.ts';
import type { Machine } from '../machine.ts';
import { EFAULT, EINVAL, ENOMEM, EOPNOTSUPP } from '../maps/map.ts';
import type { Packet } from '../packet.ts';
import {
  contextArgument,
  type HelperFunction,
  packetArgument,
  pointerOrNull,
  s32,
  u32,
  u64,
} from './arguments.ts';
import { checksumDifference, replaceChecksum } from './checksum.ts';

const ETH_HLEN = 14;
const TC_ACT_REDIRECT = 7;
const XDP_REDIRECT = 4;
const XDP_ABORTED = 0;
const TC_ACT_SHOT = 2;
const BPF_F_INGRESS = 1n;

// Flags of the checksum helpers.
const BPF_F_HDR_FIELD_MASK = 0xfn;
const BPF_F_PSEUDO_HDR = 0x10n;
const BPF_F_MARK_MANGLED_0 = 0x20n;
const BPF_F_MARK_ENFORCE = 0x40n;
const BPF_F_IPV6 = 0x80n;

const adjustHead: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const metadata = packet.data - packet.meta;
  const data = packet.data + s32(m, 2);
  // The buffer's first bytes hold struct xdp_frame when it is redirected.
  if (data < packet.hardStart + 40 + metadata || data > packet.end - ETH_HLEN) return -EINVAL;
  if (metadata > 0) m.memory.u8.copyWithin(data - metadata, packet.meta, packet.data);
  packet.data = data;
  packet.meta = data - metadata;
  m.packetMoved();
  return 0;
};

const adjustTail: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const end = packet.end + s32(m, 2);
  if (end > packet.limit - 320 || end < packet.data + ETH_HLEN) return -EINVAL;
  if (end > packet.end) m.memory.u8.fill(0, packet.end, end);
  packet.end = end;
  m.packetMoved();
  return 0;
};

const adjustMeta: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const meta = packet.meta + s32(m, 2);
  const length = packet.data - meta;
  if (meta < packet.hardStart + 40 || meta > packet.data || (length & 3) !== 0 || length > 252)
    return -EINVAL;
  packet.meta = meta;
  m.packetMoved();
  return 0;
};

/** Bytes of the packet from an offset; `undefined` when it does not have them. */
function within(packet: Packet, offset: number, bytes: number): number | undefined {
  return offset >= 0 && bytes >= 0 && offset + bytes <= packet.length ? packet.data + offset : undefined;
}

const loadBytes: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const bytes = u32(m, 4);
  const to = pointerOrNull(m, 3, bytes, 'write');
  const from = within(packet, u32(m, 2), bytes);
  if (from === undefined) {
    m.memory.u8.fill(0, to, to + bytes);
    return -EFAULT;
  }
  m.memory.u8.copyWithin(to, from, from + bytes);
  return 0;
};

/** Offsets count from the link header (0), where there is one, or the network header (1). */
const loadBytesRelative: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const bytes = u32(m, 4);
  const to = pointerOrNull(m, 3, bytes, 'write');
  const start = headerStart(packet, u32(m, 5));
  const at = u32(m, 2) + (start ?? 0);
  const from = start === undefined || packet.data + at + bytes > packet.end ? undefined : packet.data + at;
  if (from === undefined) {
    m.memory.u8.fill(0, to, to + bytes);
    return -EFAULT;
  }
  m.memory.u8.copyWithin(to, from, from + bytes);
  return 0;
};

/** From the packet's first byte; a link header of a packet at layer 3 lies before it. */
function headerStart(packet: Packet, from: number): number | undefined {
  if (from === 1) return packet.networkOffset;
  if (from !== 0 || !packet.hasLinkHeader) return undefined;
  return -packet.linkHeaderBytes;
}

const storeBytes: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const bytes = u32(m, 4);
  const from = pointerOrNull(m, 3, bytes, 'read');
  if (u64(m, 5) > 3n) return -EINVAL;
  const to = within(packet, u32(m, 2), bytes);
  if (to === undefined) return -EFAULT;
  m.memory.u8.copyWithin(to, from, from + bytes);
  return 0;
};

const pullData: HelperFunction = (m) => (u32(m, 2) > packetArgument(m, 1).length ? -ENOMEM : 0);

const changeTail: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const length = u32(m, 2);
  if (u64(m, 3) !== 0n) return -EINVAL;
  if (length < packet.networkOffset || packet.data + length > packet.limit) return -EINVAL;
  if (packet.data + length > packet.end) m.memory.u8.fill(0, packet.end, packet.data + length);
  packet.end = packet.data + length;
  packet.meta = packet.data;
  m.packetMoved();
  return 0;
};

const changeHead: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const room = u32(m, 2);
  if (u64(m, 3) !== 0n || room > packet.data - packet.hardStart) return -EINVAL;
  packet.data -= room;
  packet.meta = packet.data;
  m.memory.u8.fill(0, packet.data, packet.data + room);
  m.packetMoved();
  return 0;
};

const BPF_ADJ_ROOM_NET = 0;
const BPF_ADJ_ROOM_MAC = 1;
const MAX_ROOM = 0xfff;
const MAX_LENGTH = 0xffff;

/** Bytes more or less behind the link header (mode MAC), or behind the fixed network header (NET). */
const adjustRoom: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const room = s32(m, 2);
  const mode = u32(m, 3);
  if (u64(m, 4) !== 0n) return -EINVAL;
  if (Math.abs(room) > MAX_ROOM) return -EFAULT;
  const version = m.memory.u8[packet.data + packet.networkOffset]! >> 4;
  if ((version !== 4 && version !== 6) || mode > BPF_ADJ_ROOM_MAC) return -EOPNOTSUPP;
  const header = version === 4 ? 20 : 40;
  const payload = packet.length - packet.networkOffset;
  if (payload + room < header || payload + room > MAX_LENGTH) return -EOPNOTSUPP;
  const kept = packet.networkOffset + (mode === BPF_ADJ_ROOM_NET ? header : 0);
  if (packet.data - room < packet.hardStart) return -ENOMEM;
  m.memory.u8.copyWithin(packet.data - room, packet.data, packet.data + kept);
  packet.data -= room;
  packet.meta = packet.data;
  if (room > 0) m.memory.u8.fill(0, packet.data + kept, packet.data + kept + room);
  m.packetMoved();
  return 0;
};

// struct __sk_buff: the tag that the device took out of the frame.
const SKB_VLAN_PRESENT = 20;
const SKB_VLAN_END = 32;

/** Takes off the tag that the device took out of the frame; tags in the frame are not for here. */
const vlanPop: HelperFunction = (m) => {
  const context = contextArgument(m, 1);
  if (!(context instanceof SkbContext)) return -EINVAL;
  m.memory.u8.fill(0, context.address + SKB_VLAN_PRESENT, context.address + SKB_VLAN_END);
  return 0;
};

const l3Replace: HelperFunction = (m) => {
  const flags = u64(m, 5);
  if ((flags & ~BPF_F_HDR_FIELD_MASK) !== 0n) return -EINVAL;
  return replaceIn(m, flags, false);
};

const l4Replace: HelperFunction = (m) => {
  const flags = u64(m, 5);
  const known =
    BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE | BPF_F_PSEUDO_HDR | BPF_F_HDR_FIELD_MASK | BPF_F_IPV6;
  if ((flags & ~known) !== 0n) return -EINVAL;
  return replaceIn(m, flags, true);
};

/** Field size 0: `to` is a difference to add; 2 and 4: `from` and `to` are old and new field. */
function replaceIn(m: Machine, flags: bigint, transport: boolean): number {
  const packet = packetArgument(m, 1);
  const offset = u32(m, 2);
  const at = within(packet, offset, 2);
  if ((offset & 1) !== 0 || at === undefined) return -EFAULT;
  const { view } = m.memory;
  const old = view.getUint16(at, true);
  const mangledZero = transport && (flags & BPF_F_MARK_MANGLED_0) !== 0n;
  // A UDP checksum of 0 says that there is none.
  if (mangledZero && (flags & BPF_F_MARK_ENFORCE) === 0n && old === 0) return 0;
  const size = Number(flags & BPF_F_HDR_FIELD_MASK);
  if (size !== 0 && size !== 2 && size !== 4) return -EINVAL;
  if (size === 0 && u64(m, 3) !== 0n) return -EINVAL;
  const mask = size === 2 ? 0xffff : 0xffffffff;
  const fresh = replaceChecksum(old, u32(m, 3) & mask, u32(m, 4) & mask);
  view.setUint16(at, mangledZero && fresh === 0 ? 0xffff : fresh, true);
  return 0;
}

const csumDiff: HelperFunction = (m) => {
  const fromBytes = u32(m, 2);
  const toBytes = u32(m, 4);
  if (((fromBytes | toBytes) & 3) !== 0) return -EINVAL;
  const from = pointerOrNull(m, 1, fromBytes, 'read');
  const to = pointerOrNull(m, 3, toBytes, 'read');
  return BigInt(checksumDifference(m.memory.view, from, fromBytes, to, toBytes, u32(m, 5)));
};

const csumUpdate: HelperFunction = (m) => {
  packetArgument(m, 1);
  // Received packets here carry no CHECKSUM_COMPLETE value that could be brought up to date.
  return -EOPNOTSUPP;
};

const redirect: HelperFunction = (m) => {
  const flags = u64(m, 2);
  const isXdp = m.context instanceof XdpContext;
  if (isXdp ? flags !== 0n : (flags & ~BPF_F_INGRESS) !== 0n) return isXdp ? XDP_ABORTED : TC_ACT_SHOT;
  m.redirection = { ifindex: u32(m, 1), flags: Number(flags) };
  return isXdp ? XDP_REDIRECT : TC_ACT_REDIRECT;
};

const redirectPeer: HelperFunction = (m) => {
  if (u64(m, 2) !== 0n) return TC_ACT_SHOT;
  m.redirection = { ifindex: u32(m, 1), flags: 0 };
  return TC_ACT_REDIRECT;
};

const redirectNeighbour: HelperFunction = (m) => {
  const length = u32(m, 3);
  pointerOrNull(m, 2, length, 'read');
  if (u64(m, 4) !== 0n) return TC_ACT_SHOT;
  m.redirection = { ifindex: u32(m, 1), flags: 0 };
  return TC_ACT_REDIRECT;
};

const cloneRedirect: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const flags = u64(m, 3);
  if ((flags & ~BPF_F_INGRESS) !== 0n) return -EINVAL;
  return m.environment.cloneRedirect?.(packet, u32(m, 2), Number(flags)) ?? -EINVAL;
};

const hashRecalc: HelperFunction = (m) => {
  const context = contextArgument(m, 1);
  return context instanceof SkbContext ? BigInt(m.memory.u32[(context.address + 68) >> 2]!) : 0;
};

const xdpStoreBytes: HelperFunction = (m) => {
  const packet = packetArgument(m, 1);
  const bytes = u32(m, 4);
  const from = pointerOrNull(m, 3, bytes, 'read');
  const to = within(packet, u32(m, 2), bytes);
  if (to === undefined) return -EINVAL;
  m.memory.u8.copyWithin(to, from, from + bytes);
  return 0;
};

export const PACKET_HELPERS: Readonly<Record<string, HelperFunction>> = {
  bpf_xdp_adjust_head: adjustHead,
  bpf_xdp_adjust_tail: adjustTail,
  bpf_xdp_adjust_meta: adjustMeta,
  bpf_xdp_get_buff_len: (m) => packetArgument(m, 1).length,
  bpf_xdp_load_bytes: (m) => (loadBytes(m) === 0 ? 0 : -EINVAL),
  bpf_xdp_store_bytes: xdpStoreBytes,
  bpf_skb_load_bytes: loadBytes,
  bpf_skb_load_bytes_relative: loadBytesRelative,
  bpf_skb_store_bytes: storeBytes,
  bpf_skb_pull_data: pullData,
  bpf_skb_change_tail: changeTail,
  bpf_skb_change_head: changeHead,
  bpf_skb_adjust_room: adjustRoom,
  bpf_skb_vlan_pop: vlanPop,
  bpf_l3_csum_replace: l3Replace,
  bpf_l4_csum_replace: l4Replace,
  bpf_csum_diff: csumDiff,
  bpf_csum_update: csumUpdate,
  bpf_redirect: redirect,
  bpf_redirect_peer: redirectPeer,
  bpf_redirect_neigh: redirectNeighbour,
  bpf_clone_redirect: cloneRedirect,
  bpf_get_hash_recalc: hashRecalc,
};
