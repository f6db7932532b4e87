/** What both IPv6 models share: keys, reading the fragment header, gluing the pieces, timeouts. */
import { ICMPV6_EXC_FRAGTIME, ICMPV6_TIME_EXCEED } from '../icmp-error.ts';
import { FRAGMENT_HEADER_BYTES, IPV6_HEADER_BYTES } from '../ipv6-header.ts';
import { CbFlag, type SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { ecnBit } from './ecn.ts';
import type { Ipv6FragmentQueue } from './ipv6-queue.ts';
import type { FragmentDirectory } from './queue.ts';
import type { DiscardReason } from './trace.ts';

const IP6_MF = 1;
const IP6_OFFSET = 0xfff8;

export const IPV6_MAXPLEN = 65535;

/** Traffic class of an IPv6 header. */
export function dsField(data: Uint8Array): number {
  return ((data[0]! & 15) << 4) | (data[1]! >> 4);
}

export function payloadLength(data: Uint8Array): number {
  return (data[4]! << 8) | data[5]!;
}

/** A fragment's place in its datagram. */
export interface Ipv6Piece {
  readonly offset: number;
  readonly end: number;
  readonly more: boolean;
}

/** Reads the fragment header at `at`; the end follows from the payload length of the IPv6 header. */
export function readPiece(data: Uint8Array, at: number): Ipv6Piece {
  const field = (data[at + 2]! << 8) | data[at + 3]!;
  const offset = field & IP6_OFFSET;
  const end = offset + payloadLength(data) - (at + FRAGMENT_HEADER_BYTES - IPV6_HEADER_BYTES);
  return { offset, end, more: (field & IP6_MF) !== 0 };
}

/** True for offset 0 without MF: a datagram that was not cut at all (RFC 6946). */
export function isAtomic(data: Uint8Array, at: number): boolean {
  return (((data[at + 2]! << 8) | data[at + 3]!) & (IP6_OFFSET | IP6_MF)) === 0;
}

/** Multicast and link-local destinations mean something on one link only. */
function isScoped(data: Uint8Array): boolean {
  return data[24] === 0xff || (data[24] === 0xfe && (data[25]! & 0xc0) === 0x80);
}

/**
 * Addresses and identification as they stand, the user, and the device where the destination needs one. The upper protocol is
 * no part of it.
 */
export function ipv6QueueKey(data: Uint8Array, at: number, user: number, ifindex: number): string {
  const iif = isScoped(data) ? ifindex : 0;
  let key = String.fromCharCode(
    (data[at + 4]! << 8) | data[at + 5]!,
    (data[at + 6]! << 8) | data[at + 7]!,
    user >>> 16,
    user & 0xffff,
    iif >>> 16,
    iif & 0xffff,
  );
  for (let index = 8; index < IPV6_HEADER_BYTES; index += 2)
    key += String.fromCharCode((data[index]! << 8) | data[index + 1]!);
  return key;
}

/** What a stored fragment adds to its queue. */
export function account(
  directory: FragmentDirectory<Ipv6FragmentQueue>,
  queue: Ipv6FragmentQueue,
  skb: SkBuff,
  piece: Ipv6Piece,
  nhoffset: number,
): void {
  if (skb.dev !== undefined) queue.iif = skb.dev.ifindex;
  queue.stampNs = skb.timestampNs;
  queue.meat += piece.end - piece.offset;
  queue.ecn |= ecnBit(dsField(skb.data));
  directory.charge(skb.truesize);
  if (piece.offset === 0) {
    queue.nhoffset = nhoffset;
    queue.firstIn = true;
  }
}

/** Payload length that the datagram will have: the first fragment's extension headers and everything behind. */
export function reassembledPayloadLength(queue: Ipv6FragmentQueue): number {
  return queue.runs.head!.start - FRAGMENT_HEADER_BYTES - IPV6_HEADER_BYTES + queue.len;
}

/**
 * Makes `skb` the datagram: headers of the first fragment without the fragment header, the payload of all.
 *
 * @param ecn what to OR into the traffic class
 * @returns payload lengths of the pieces in order
 */
export function glue(queue: Ipv6FragmentQueue, skb: SkBuff, ecn: number): number[] {
  const first = queue.runs.head!;
  const headers = first.start - FRAGMENT_HEADER_BYTES;
  const datagram = new Uint8Array(headers + queue.len);
  datagram.set(first.skb.data.subarray(0, headers));
  datagram[queue.nhoffset] = first.skb.data[headers]!;
  const lengths: number[] = [];
  let truesize = 0;
  queue.runs.forEach(({ skb: piece, offset, start, length }) => {
    datagram.set(piece.data.subarray(start, start + length), headers + offset);
    lengths.push(length);
    truesize += piece.truesize;
  });
  const payload = datagram.length - IPV6_HEADER_BYTES;
  datagram[4] = payload >> 8;
  datagram[5] = payload & 0xff;
  datagram[1]! |= ecn << 4;
  skb.takeMetadata(first.skb);
  skb.data = datagram;
  skb.truesize = truesize;
  skb.timestampNs = queue.stampNs;
  skb.transportOffset = headers;
  skb.cbFlags |= CbFlag.IP6SKB_FRAGMENTED;
  return lengths;
}

/** Reports what was given up, before the queue is freed. */
export function reportDiscard(
  net: DefragContext,
  queue: Ipv6FragmentQueue,
  reason: DiscardReason,
  skb: SkBuff | undefined,
  queueKept: boolean,
): void {
  net.traceDefrag?.({ kind: 'discarded', reason, skb, queueKept, stored: queue.runs.count, key: queue.key });
}

/** ip6frag_expire_frag_queue: counted, and answered when the first fragment had come, as long as the device is there. */
export function expireIpv6(
  net: DefragContext,
  directory: FragmentDirectory<Ipv6FragmentQueue>,
  queue: Ipv6FragmentQueue,
): void {
  if (queue.complete) return;
  directory.kill(queue);
  const head = queue.firstIn ? queue.runs.head : undefined;
  reportDiscard(net, queue, 'timeout', head?.skb, false);
  directory.release(queue);
  const dev = net.deviceByIndex(queue.iif);
  if (dev === undefined) return;
  net.counters.Ip6ReasmFails++;
  net.counters.Ip6ReasmTimeout++;
  if (head === undefined) return;
  net.sendIcmpError({
    family: 'ipv6',
    type: ICMPV6_TIME_EXCEED,
    code: ICMPV6_EXC_FRAGTIME,
    info: 0,
    packet: head.skb.data.subarray(0, head.start + head.length),
    dev,
    pktType: head.skb.pktType,
  });
}
