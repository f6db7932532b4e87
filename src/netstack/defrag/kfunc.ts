/**
 * Reassembly called by tc programs, as the attempt of February 2023 proposed it: bpf_ip_check_defrag and bpf_ipv6_frag_rcv.
 * It was refused for its copy of every packet and for sending ICMP errors from within a program; netfilter links with the
 * defragmentation flag came instead. Here both can be compared. Source: "bpf: Support defragmenting IPv(4|6) fragments",
 * v2; no kernel has these functions.
 */
import { type Machine, packetArgument, u64 } from '../../vm/index.ts';
import { Errno } from '../errno.ts';
import { findFragmentHeader, IPV6_HEADER_BYTES } from '../ipv6-header.ts';
import { ETH_P_IP, ETH_P_IPV6, type NetDevice, SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { ipCheckDefrag } from './ipv4.ts';
import { ipv6FragRcv } from './ipv6.ts';
import { Ip6DefragUser, IpDefragUser } from './users.ts';

const S32_MAX = 0x7fffffffn;

/** Where a program runs, and which namespaces it can name. */
export interface DefragKfuncHost {
  /** The namespace of the packet's device. */
  readonly net: DefragContext;
  /** The device the packet came by. */
  readonly device: NetDevice;
  /** Another namespace by the id that `net` knows it by (NETNSA_NSID). */
  namespaceById(id: number): DefragContext | undefined;
}

/** The packet as the program has it: a frame, and where its network header begins. */
export interface DefragKfuncPacket {
  readonly frame: Uint8Array;
  readonly networkOffset: number;
  /** Host order. */
  readonly protocol: number;
}

/** What a call gives: 0 with the frame that replaces the program's, or a negative errno and the packet stays as it was. */
export interface DefragKfuncResult {
  readonly code: number;
  readonly frame?: Uint8Array;
}

/**
 * Reassembles an IPv4 packet on a copy.
 *
 * @param netns negative as a signed 32-bit number: the packet's namespace; else an id
 * @returns 0: whole now, or it was no fragment; the frame has zeros for its link header. EINPROGRESS: wait, drop the packet.
 *   EINVAL: no such namespace, or an unusable fragment. ENOMEM: over the threshold
 */
export function bpfIpCheckDefrag(
  host: DefragKfuncHost,
  packet: DefragKfuncPacket,
  netns: bigint,
): DefragKfuncResult {
  const net = namespaceOf(host, netns);
  if (net === undefined) return { code: -Errno.EINVAL };
  const skb = copyOf(packet, host.device);
  const code = ipCheckDefrag(net, skb, IpDefragUser.BPF);
  return code === 0 ? { code, frame: framed(skb, packet.networkOffset) } : { code };
}

/**
 * As {@link bpfIpCheckDefrag}, for IPv6: the host's reassembly, which answers what it cannot use. The packet is routed
 * first; one that has no route gives EINVAL.
 */
export function bpfIpv6FragRcv(
  host: DefragKfuncHost,
  packet: DefragKfuncPacket,
  netns: bigint,
): DefragKfuncResult {
  const net = namespaceOf(host, netns);
  if (net === undefined) return { code: -Errno.EINVAL };
  const skb = copyOf(packet, host.device);
  const { data } = skb;
  if (packet.protocol !== ETH_P_IPV6 || data.length < IPV6_HEADER_BYTES || data[0]! >> 4 !== 6)
    return { code: -Errno.EINVAL };
  if (net.routeInput(data.subarray(8, 24), data.subarray(24, 40), host.device) === undefined)
    return { code: -Errno.EINVAL };
  const position = findFragmentHeader(data);
  if (position === undefined) return { code: 0, frame: framed(skb, packet.networkOffset) };
  skb.transportOffset = position.offset;
  skb.nhoff = position.nhoffset;
  const result = ipv6FragRcv(net, skb, Ip6DefragUser.BPF);
  return result === 1 ? { code: 0, frame: framed(skb, packet.networkOffset) } : { code: result };
}

/** Lets programs of type SCHED_CLS on this machine call both functions. */
export function defineDefragKfuncs(machine: Machine, host: DefragKfuncHost): void {
  const define = (name: string, protocol: number, body: typeof bpfIpCheckDefrag): void =>
    machine.defineKfunc(name, {
      types: ['BPF_PROG_TYPE_SCHED_CLS'],
      function: (running) => {
        const packet = packetArgument(running, 1);
        const { bytes, networkOffset } = packet;
        const given = { frame: bytes, networkOffset, protocol: protocolOf(bytes, networkOffset, protocol) };
        const { code, frame } = body(host, given, u64(running, 2));
        if (frame === undefined) return code;
        if (packet.data + frame.length > packet.limit) return -Errno.ENOMEM;
        packet.set(frame, networkOffset);
        running.packetMoved();
        return 0;
      },
    });
  define('bpf_ip_check_defrag', ETH_P_IP, bpfIpCheckDefrag);
  define('bpf_ipv6_frag_rcv', ETH_P_IPV6, bpfIpv6FragRcv);
}

/** Ethertype before the network header; at layer 3 the function's own. */
function protocolOf(frame: Uint8Array, networkOffset: number, own: number): number {
  return networkOffset < 2 ? own : (frame[networkOffset - 2]! << 8) | frame[networkOffset - 1]!;
}

function namespaceOf(host: DefragKfuncHost, netns: bigint): DefragContext | undefined {
  if (BigInt.asIntN(32, netns) < 0n) return host.net;
  return netns > S32_MAX ? undefined : host.namespaceById(Number(netns));
}

/** The copy that keeps the program's packet valid whatever becomes of it: a queue keeps what it is given. */
function copyOf({ frame, networkOffset, protocol }: DefragKfuncPacket, device: NetDevice): SkBuff {
  return new SkBuff(frame.slice(networkOffset), { protocol, dev: device });
}

/** Reassembly knows nothing of link headers: zeros take the place of the one that was there. */
function framed(skb: SkBuff, networkOffset: number): Uint8Array {
  const frame = new Uint8Array(networkOffset + skb.data.length);
  frame.set(skb.data, networkOffset);
  return frame;
}
