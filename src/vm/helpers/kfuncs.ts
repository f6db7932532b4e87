/** Kernel functions: dynptrs, casts, connection look-ups (`kernel/bpf/helpers.c`, `net/netfilter/nf_conntrack_bpf.c`). */
import type { Machine } from '../machine.ts';
import { E2BIG, EINVAL, ENOENT } from '../maps/map.ts';
import {
  contextArgument,
  type HelperFunction,
  packetArgument,
  pointer,
  pointerOrNull,
  s32,
  u32,
  u64,
} from './arguments.ts';
import { readTuple } from './socket.ts';

/** struct bpf_dynptr here: u64 address of the data, u32 size and flags, u32 kind (not zero). */
const DYNPTR_BYTES = 16;
const READ_ONLY = 0x80000000;
const SIZE_MASK = 0x00ffffff;
const KIND_PACKET = 1;

/** Netfilter programs may read packets, not write them. */
function fromPacket(m: Machine, readOnly: boolean): number {
  const packet = packetArgument(m, 1);
  const at = pointer(m, 3, DYNPTR_BYTES, 'write');
  const { view } = m.memory;
  if (u64(m, 2) !== 0n) {
    m.memory.u8.fill(0, at, at + DYNPTR_BYTES);
    return -EINVAL;
  }
  m.memory.writeU64(at, BigInt(packet.data));
  view.setUint32(at + 8, (packet.length & SIZE_MASK) | (readOnly ? READ_ONLY : 0), true);
  view.setUint32(at + 12, KIND_PACKET, true);
  return 0;
}

interface Dynptr {
  readonly data: number;
  readonly size: number;
  readonly readOnly: boolean;
}

/** `undefined` for a null dynptr. */
function dynptr(m: Machine, argument: number): Dynptr | undefined {
  const at = pointer(m, argument, DYNPTR_BYTES, 'read');
  const { view } = m.memory;
  if (view.getUint32(at + 12, true) === 0) return undefined;
  const size = view.getUint32(at + 8, true);
  return { data: view.getUint32(at, true), size: size & SIZE_MASK, readOnly: size >= READ_ONLY };
}

/** A pointer into the packet where the bytes lie together, else the buffer with a copy of them. */
function slice(write: boolean): HelperFunction {
  return (m) => {
    const from = dynptr(m, 1);
    const offset = u32(m, 2);
    const bytes = u32(m, 4);
    const buffer = u64(m, 3) === 0n ? 0 : pointerOrNull(m, 3, bytes, 'write');
    if (from === undefined || offset + bytes > from.size || (write && from.readOnly)) return 0;
    const at = from.data + offset;
    const packet = m.context?.packet;
    if (packet === undefined || at + bytes <= packet.data + packet.linearBytes) return at;
    if (buffer !== 0) m.memory.u8.copyWithin(buffer, at, at + bytes);
    return buffer;
  };
}

/** bpf_dynptr_read(dst, len, src, offset, flags) copies `len` bytes, or none at all. */
const read: HelperFunction = (m) => {
  const bytes = u32(m, 2);
  const to = pointer(m, 1, bytes, 'write');
  const from = dynptr(m, 3);
  const offset = u32(m, 4);
  if (from === undefined || u64(m, 5) !== 0n) return -EINVAL;
  if (offset + bytes > from.size) return -E2BIG;
  m.memory.u8.copyWithin(to, from.data + offset, from.data + offset + bytes);
  return 0;
};

/** Helpers, not kernel functions, that take dynptrs. */
export const DYNPTR_HELPERS: Readonly<Record<string, HelperFunction>> = { bpf_dynptr_read: read };

const adjust: HelperFunction = (m) => {
  const from = dynptr(m, 1);
  const start = u32(m, 2);
  const end = u32(m, 3);
  if (from === undefined || start > end) return -EINVAL;
  if (end > from.size) return -34;
  const at = u32(m, 1);
  m.memory.writeU64(at, BigInt(from.data + start));
  m.memory.view.setUint32(at + 8, (end - start) | (from.readOnly ? READ_ONLY : 0), true);
  return 0;
};

const clone: HelperFunction = (m) => {
  const at = pointer(m, 1, DYNPTR_BYTES, 'read');
  const to = pointer(m, 2, DYNPTR_BYTES, 'write');
  m.memory.u8.copyWithin(to, at, at + DYNPTR_BYTES);
  return dynptr(m, 1) === undefined ? -EINVAL : 0;
};

const BPF_CT_OPTS_BYTES = [12, 16] as const;

/** Tuple in, `struct nf_conn *` out; errors go to opts->error. */
const connectionLookup: HelperFunction = (m) => {
  contextArgument(m, 1);
  const tupleBytes = u32(m, 3);
  const optsBytes = u32(m, 5);
  const at = pointer(m, 2, tupleBytes, 'read');
  if (!BPF_CT_OPTS_BYTES.some((bytes) => bytes === optsBytes)) return 0;
  const opts = pointer(m, 4, optsBytes, 'write');
  const { view } = m.memory;
  const refuse = (errno: number): number => {
    m.memory.view.setInt32(opts + 4, -errno, true);
    return 0;
  };
  const netns = view.getInt32(opts, true);
  const protocol = view.getUint8(opts + 8);
  const reserved = view.getUint8(opts + 10) | view.getUint8(opts + 11);
  if (reserved !== 0 || netns < -1) return refuse(EINVAL);
  if (protocol !== 6 && protocol !== 17) return refuse(71);
  const tuple = readTuple(m, at, tupleBytes, protocol);
  if (tuple === undefined) return refuse(EINVAL);
  const found = m.environment.lookupConnection?.({ ...tuple, netns });
  if (found === undefined) return refuse(ENOENT);
  // Making the connection may have made the memory grow.
  m.memory.view.setInt32(opts + 4, 0, true);
  m.memory.view.setUint8(opts + 9, found.direction === 'reply' ? 1 : 0);
  return found.connection.address;
};

const ITER_BYTES = 8;

const iterNew: HelperFunction = (m) => {
  const at = pointer(m, 1, ITER_BYTES, 'write');
  const start = s32(m, 2);
  const end = s32(m, 3);
  m.memory.view.setInt32(at, 0, true);
  m.memory.view.setInt32(at + 4, 0, true);
  if (start > end) return -EINVAL;
  if (end - start > 8_388_608) return -E2BIG;
  m.memory.view.setInt32(at, start - 1, true);
  m.memory.view.setInt32(at + 4, end, true);
  return 0;
};

/** Gives a pointer to the number, or null at the end. */
const iterNext: HelperFunction = (m) => {
  const at = pointer(m, 1, ITER_BYTES, 'write');
  const { view } = m.memory;
  const current = view.getInt32(at, true) + 1;
  if (current >= view.getInt32(at + 4, true)) {
    view.setInt32(at, 0, true);
    view.setInt32(at + 4, 0, true);
    return 0;
  }
  view.setInt32(at, current, true);
  return at;
};

const iterDestroy: HelperFunction = (m) => {
  pointer(m, 1, ITER_BYTES, 'write');
  return 0;
};

const fromSkb: HelperFunction = (m) => fromPacket(m, !m.context?.types.includes('BPF_PROG_TYPE_SCHED_CLS'));

/** By name; programs carry the position in this table. */
export const KFUNC_TABLE: Readonly<Record<string, HelperFunction>> = {
  bpf_dynptr_from_skb: fromSkb,
  bpf_dynptr_from_xdp: (m) => fromPacket(m, false),
  bpf_dynptr_slice: slice(false),
  bpf_dynptr_slice_rdwr: slice(true),
  bpf_dynptr_size: (m) => dynptr(m, 1)?.size ?? -EINVAL,
  bpf_dynptr_is_null: (m) => (dynptr(m, 1) === undefined ? 1 : 0),
  bpf_dynptr_is_rdonly: (m) => (dynptr(m, 1)?.readOnly ? 1 : 0),
  bpf_dynptr_adjust: adjust,
  bpf_dynptr_clone: clone,
  bpf_cast_to_kern_ctx: (m) => contextArgument(m, 1).kernelAddress,
  bpf_rdonly_cast: (m) => u64(m, 1),
  bpf_rcu_read_lock: () => 0,
  bpf_rcu_read_unlock: () => 0,
  bpf_iter_num_new: iterNew,
  bpf_iter_num_next: iterNext,
  bpf_iter_num_destroy: iterDestroy,
  bpf_xdp_ct_lookup: connectionLookup,
  bpf_skb_ct_lookup: connectionLookup,
  bpf_ct_release: () => 0,
};
