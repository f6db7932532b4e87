/** Helpers on sockets, namespaces and routes (`net/core/filter.c`, `net/core/sock_map.c`). */
import { SkLookupContext } from '../context.ts';
import type { FibResult, TupleRequest } from '../environment.ts';
import type { Machine } from '../machine.ts';
import { EEXIST, EINVAL } from '../maps/map.ts';
import { contextArgument, type HelperFunction, pointer, u32, u64 } from './arguments.ts';

const ESOCKTNOSUPPORT = 94;
const BPF_SK_LOOKUP_F_REPLACE = 1n;
const BPF_SK_LOOKUP_F_NO_REUSEPORT = 2n;
const BPF_F_CURRENT_NETNS = -1;
/** What a packet without a socket belongs to. */
const OVERFLOW_UID = 65_534;

/** A struct bpf_sock_tuple at `address`: 12 bytes for IPv4, 36 for IPv6; source first. */
export function readTuple(
  m: Machine,
  address: number,
  bytes: number,
  protocol: number,
): TupleRequest | undefined {
  if (bytes !== 12 && bytes !== 36) return undefined;
  const width = bytes === 12 ? 4 : 16;
  const { memory } = m;
  return {
    protocol,
    sourceAddress: memory.copy(address, width),
    destinationAddress: memory.copy(address + width, width),
    sourcePort: memory.view.getUint16(address + 2 * width),
    destinationPort: memory.view.getUint16(address + 2 * width + 2),
    netns: BPF_F_CURRENT_NETNS,
    flags: 0n,
  };
}

function lookup(protocol: number): HelperFunction {
  return (m) => {
    contextArgument(m, 1);
    const bytes = u32(m, 3);
    const tuple = readTuple(m, pointer(m, 2, bytes, 'read'), bytes, protocol);
    const flags = u64(m, 5);
    const netns = BigInt.asIntN(64, u64(m, 4));
    // Namespaces are 32-bit ids, or -1 for the own one.
    if (tuple === undefined || flags !== 0n || (netns !== -1n && (netns < 0n || netns > 0x7fffffffn)))
      return 0;
    return m.environment.lookupSocket?.({ ...tuple, netns: Number(netns), flags })?.address ?? 0;
  };
}

/** At sk_lookup the selection is the context's; at tc the environment steers the packet. */
const assign: HelperFunction = (m) => {
  const context = contextArgument(m, 1);
  const socket = u32(m, 2);
  const flags = u64(m, 3);
  if (!(context instanceof SkLookupContext)) {
    if (flags !== 0n) return -EINVAL;
    return m.environment.assignSocket?.(socket, 0) ?? -ESOCKTNOSUPPORT;
  }
  if ((flags & ~(BPF_SK_LOOKUP_F_REPLACE | BPF_SK_LOOKUP_F_NO_REUSEPORT)) !== 0n) return -EINVAL;
  const refusal = socket === 0 ? 0 : (m.environment.assignSocket?.(socket, Number(flags)) ?? 0);
  if (refusal < 0 && refusal !== -EEXIST) return refusal;
  if (context.selected !== 0 && (flags & BPF_SK_LOOKUP_F_REPLACE) === 0n) return -EEXIST;
  context.select(socket, (flags & BPF_SK_LOOKUP_F_NO_REUSEPORT) !== 0n);
  return 0;
};

/** struct bpf_fib_lookup, 64 bytes. */
const FIB_BYTES = 64;
const AF_INET = 2;
const AF_INET6 = 10;
const BPF_FIB_LOOKUP_SRC = 16;

const fibLookup: HelperFunction = (m) => {
  contextArgument(m, 1);
  const bytes = u32(m, 3);
  if (bytes < FIB_BYTES) return -EINVAL;
  const at = pointer(m, 2, bytes, 'write');
  const { memory } = m;
  const { view: asked } = memory;
  const flags = u32(m, 4);
  if ((flags & ~0x3f) !== 0) return -EINVAL;
  const family = asked.getUint8(at);
  if (family !== AF_INET && family !== AF_INET6) return -97;
  const v6 = family === AF_INET6;
  const result: FibResult = m.environment.fibLookup?.({
    family: v6 ? 'ipv6' : 'ipv4',
    protocol: asked.getUint8(at + 1),
    sourcePort: asked.getUint16(at + 2),
    destinationPort: asked.getUint16(at + 4),
    totalLength: asked.getUint16(at + 6, true),
    ifindex: asked.getUint32(at + 8, true),
    tos: v6 ? asked.getUint32(at + 12) & 0x0fffffff : asked.getUint8(at + 12),
    source: memory.copy(at + 16, v6 ? 16 : 4),
    destination: memory.copy(at + 32, v6 ? 16 : 4),
    flags,
  }) ?? { code: 4 };
  // Answering may have made the memory grow.
  const { view } = memory;
  if (result.ifindex !== undefined) view.setUint32(at + 8, result.ifindex, true);
  if (result.mtu !== undefined) view.setUint16(at + 6, result.mtu, true);
  if (result.metric !== undefined) view.setUint32(at + 12, result.metric, true);
  if (result.gateway !== undefined) {
    view.setUint8(at, (result.gatewayFamily ?? (v6 ? 'ipv6' : 'ipv4')) === 'ipv6' ? AF_INET6 : AF_INET);
    memory.u8.set(result.gateway, at + 32);
  }
  if ((flags & BPF_FIB_LOOKUP_SRC) !== 0 && result.sourceAddress !== undefined)
    memory.u8.set(result.sourceAddress, at + 16);
  if (result.sourceMac !== undefined) memory.u8.set(result.sourceMac, at + 52);
  if (result.destinationMac !== undefined) memory.u8.set(result.destinationMac, at + 58);
  return result.code;
};

export const SOCKET_HELPERS: Readonly<Record<string, HelperFunction>> = {
  bpf_sk_lookup_tcp: lookup(6),
  bpf_skc_lookup_tcp: lookup(6),
  bpf_sk_lookup_udp: lookup(17),
  // Sockets here are not counted: they live as long as their owner keeps them.
  bpf_sk_release: () => 0,
  bpf_sk_assign: assign,
  bpf_fib_lookup: fibLookup,
  bpf_get_netns_cookie: (m) => m.environment.netnsCookie?.() ?? 0n,
  bpf_get_socket_cookie: (m) => m.environment.socketCookie?.() ?? 0n,
  bpf_get_socket_uid: (m) => m.environment.socketUid?.() ?? OVERFLOW_UID,
};
