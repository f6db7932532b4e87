/**
 * A packet on its way through the netstack: what of `struct sk_buff` and its control block the path needs.
 * Source of the names: include/linux/skbuff.h, include/net/ip.h, include/linux/ipv6.h.
 */

/** Ethertypes as skb->protocol carries them (host order here). */
export const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
export const ETH_P_IPV6 = 0x86dd;

/** skb->pkt_type (uapi/linux/if_packet.h). */
export const PacketType = {
  HOST: 0,
  BROADCAST: 1,
  MULTICAST: 2,
  OTHERHOST: 3,
  OUTGOING: 4,
  LOOPBACK: 5,
} as const;

/** IPCB(skb)->flags and IP6CB(skb)->flags, one set: the families never share a packet. */
export const CbFlag = {
  /** The datagram was reassembled and keeps DF on refragmentation. */
  IPSKB_FRAG_PMTU: 1,
  /** Cut by our own fragmentation: max_dist does not count it. */
  IPSKB_FRAG_COMPLETE: 2,
  /** Came through an IPv6 fragment header. A second one in the same packet is an error. */
  IP6SKB_FRAGMENTED: 4,
} as const;

/** What the packet path knows of a device; the devices themselves live elsewhere. */
export interface NetDevice {
  readonly ifindex: number;
  readonly name: string;
  /** IFF_LOOPBACK. */
  readonly loopback: boolean;
  /** ifindex of the VRF (l3mdev master) it belongs to, 0 for none. */
  readonly l3mdevIfindex: number;
  readonly mtu: number;
}

/** sizeof(struct sk_buff) rounded to a cache line, and the tail of every data buffer (Linux 6.18, x86_64). */
const SKB_STRUCT_BYTES = 256;
const SHARED_INFO_BYTES = 320;
/** Objects of the skbuff_small_head cache. */
const SMALL_HEAD_BYTES = 576;
/** LL_RESERVED_SPACE of an Ethernet device plus its header, as a frame from a packet socket or over a veth has it. */
const HEADROOM_BYTES = 30;
const LARGEST_SLAB_BYTES = 8192;
const PAGE_BYTES = 4096;

/**
 * Memory that a received packet of `length` bytes (from the network header) is charged with: sk_buff plus the
 * slab object its data lies in (net/core/skbuff.c, __alloc_skb).
 */
export function skbTruesize(length: number): number {
  const wanted = ((length + HEADROOM_BYTES + 63) & ~63) + SHARED_INFO_BYTES;
  if (wanted <= SMALL_HEAD_BYTES) return SKB_STRUCT_BYTES + SMALL_HEAD_BYTES;
  let slab = 1024;
  while (slab < wanted && slab < LARGEST_SLAB_BYTES) slab *= 2;
  if (slab < wanted) slab = Math.ceil(wanted / PAGE_BYTES) * PAGE_BYTES;
  return SKB_STRUCT_BYTES + slab;
}

/** What is known of a packet's options once it was routed (struct ip_options in its control block). */
export interface PacketOptions {
  readonly recordRoute: number;
  /** An address of this host was written there; the device that the packet leaves by may replace it. */
  readonly recordRouteNeedsAddress: boolean;
  readonly timestamp: number;
  readonly timestampNeedsAddress: boolean;
  readonly timestampNeedsTime: boolean;
  /** The header checksum no longer fits. */
  readonly changed: boolean;
}

/** Credentials of the file behind a socket. */
export interface SocketOwner {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups?: readonly number[];
}

/** Fields a packet may start with; everything else starts as the kernel's receive path leaves it. */
export interface SkbInit {
  readonly protocol: number;
  readonly dev?: NetDevice | undefined;
  readonly mark?: number;
  readonly pktType?: number;
  readonly timestampNs?: bigint;
  /** Bytes of the link-layer header, when there was one. */
  readonly mac?: Uint8Array | undefined;
  /** What the driver's allocation charges; default: skbTruesize of the length. */
  readonly truesize?: number;
}

/**
 * One packet. `data` begins at the network header and ends with the packet: link-layer trailers are trimmed by the
 * receive path. Whoever is handed a packet owns its bytes; a hook that returns STOLEN keeps them.
 */
export class SkBuff {
  data: Uint8Array;
  /** Host order. */
  protocol: number;
  dev: NetDevice | undefined;
  mac: Uint8Array | undefined;
  mark: number;
  priority = 0;
  pktType: number;
  timestampNs: bigint;
  /** What it is charged with while it waits in a queue, bytes. */
  truesize: number;
  /** May be cut on output although DF is set, because it was in pieces when it came. */
  ignoreDf = false;
  /** A packet socket holds a clone: refragmentation may not reuse the received pieces. */
  cloned = false;

  /** CbFlag bits. */
  cbFlags = 0;
  /** Largest fragment it came in, with its IP header; 0 when it came whole. */
  fragMaxSize = 0;
  /**
   * Payload lengths of the pieces it was put together from, as long as the kernel would still have them as a frag_list;
   * refragmentation then keeps their geometry. Cleared by whatever linearizes the packet.
   */
  fragmentLengths: readonly number[] | undefined = undefined;
  /** IPv6: offset of the next-header byte that names the header at `transportOffset` (IP6CB nhoff). */
  nhoff = 6;
  /** Offset of the transport header from the network header. */
  transportOffset = 0;
  /** IPv4 options, read and filled in once it was routed; `undefined` when it has none. */
  options: PacketOptions | undefined = undefined;
  /** Device it came in by, when `dev` has changed since (skb_iif). */
  iif = 0;

  /** Where routing sends it: the device it leaves by (skb_dst); `undefined` before routing and for what is delivered here. */
  outDevice: NetDevice | undefined = undefined;

  /** The sending socket has IP_NODEFRAG. */
  socketNoDefrag = false;
  /** Who opened the socket that it was sent by; `undefined` for packets that no process sent. */
  sender: SocketOwner | undefined = undefined;
  /** The socket that it was assigned to before routing (skb_steal_sock); whoever assigns knows what it is. */
  socket: unknown = undefined;
  /** skb->_nfct: owned by conntrack, opaque here; `undefined` before conntrack has looked. */
  nfct: unknown = undefined;
  /** True while `nfct` is the UNTRACKED mark, which keeps defragmentation away. */
  untracked = false;
  /** True while `nfct` is only a template (-j CT), which does not. */
  nfctTemplate = false;
  /** Conntrack zone id that a template carries, per direction of the packet; 0 is the default zone. */
  zoneId = 0;

  constructor(data: Uint8Array, init: SkbInit) {
    this.data = data;
    this.protocol = init.protocol;
    this.dev = init.dev;
    this.mac = init.mac;
    this.mark = init.mark ?? 0;
    this.pktType = init.pktType ?? PacketType.HOST;
    this.timestampNs = init.timestampNs ?? 0n;
    this.truesize = init.truesize ?? skbTruesize(data.length);
    this.iif = init.dev?.ifindex ?? 0;
  }

  get length(): number {
    return this.data.length;
  }

  /** Becomes `other` in everything but its bytes, its device, its time and its charge (skb_morph). */
  takeMetadata(other: SkBuff): void {
    this.protocol = other.protocol;
    this.mac = other.mac;
    this.mark = other.mark;
    this.priority = other.priority;
    this.pktType = other.pktType;
    this.ignoreDf = other.ignoreDf;
    this.cbFlags = other.cbFlags;
    this.nhoff = other.nhoff;
    this.transportOffset = other.transportOffset;
    this.iif = other.iif;
    this.nfct = other.nfct;
    this.nfctTemplate = other.nfctTemplate;
    this.untracked = other.untracked;
    this.zoneId = other.zoneId;
    this.sender = other.sender;
    this.options = other.options;
  }
}
