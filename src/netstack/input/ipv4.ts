/**
 * The first look at an IPv4 packet, and its delivery to this host up to the upper protocol.
 * Source: net/ipv4/ip_input.c (ip_rcv_core, ip_local_deliver).
 */
import { internetChecksum } from '../../wire/index.ts';
import type { DefragContext } from '../defrag/context.ts';
import { ipDefrag, isIpv4Fragment } from '../defrag/ipv4.ts';
import { IpDefragUser } from '../defrag/users.ts';
import { PacketType, type SkBuff } from '../skb.ts';

/** Why a packet is not taken in. */
export type InputDrop = 'other-host' | 'header' | 'checksum' | 'truncated' | 'options';

/**
 * Checks the header and trims what follows the packet (ip_rcv_core).
 * @returns undefined when the packet may go on; else why it was dropped, counted
 */
export function receiveIpv4(net: DefragContext, skb: SkBuff): InputDrop | undefined {
  const { counters } = net;
  const { data } = skb;
  if (skb.pktType === PacketType.OTHERHOST) return 'other-host';
  counters.IpInReceives++;
  const headerLength = ((data[0] ?? 0) * 4) & 0x3c;
  if (data.length < 20 || data[0]! >> 4 !== 4 || headerLength < 20 || data.length < headerLength) {
    counters.IpInHdrErrors++;
    return 'header';
  }
  if (internetChecksum(data.subarray(0, headerLength)) !== 0) {
    counters.IpExtInCsumErrors++;
    counters.IpInHdrErrors++;
    return 'checksum';
  }
  const totalLength = (data[2]! << 8) | data[3]!;
  if (data.length < totalLength) {
    counters.IpExtInTruncatedPkts++;
    return 'truncated';
  }
  if (totalLength < headerLength) {
    counters.IpInHdrErrors++;
    return 'header';
  }
  skb.data = data.subarray(0, totalLength);
  skb.transportOffset = headerLength;
  skb.cbFlags = 0;
  skb.fragMaxSize = 0;
  skb.iif = skb.dev?.ifindex ?? 0;
  return undefined;
}

/**
 * Reassembles what comes for this host; before the LOCAL_IN hook (ip_local_deliver).
 * @returns true when `skb` is a whole datagram now; false when it waits or was dropped
 */
export function gatherLocalIpv4(net: DefragContext, skb: SkBuff): boolean {
  if (!isIpv4Fragment(skb.data)) return true;
  if (ipDefrag(net, skb, IpDefragUser.LOCAL_DELIVER) !== 0) return false;
  skb.transportOffset = (skb.data[0]! & 15) * 4;
  return true;
}
