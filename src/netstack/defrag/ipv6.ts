/**
 * IPv6 reassembly of the host: handler of the fragment header, after LOCAL_IN.
 * Source: net/ipv6/reassembly.c (ipv6_frag_rcv); RFC 8200 §4.5, RFC 5722, RFC 6946, RFC 7112.
 */
import { Errno } from '../errno.ts';
import { ICMPV6_HDR_FIELD, ICMPV6_HDR_INCOMP, ICMPV6_PARAMPROB } from '../icmp-error.ts';
import { FRAGMENT_HEADER_BYTES, IPV6_HEADER_BYTES, lacksUpperHeader } from '../ipv6-header.ts';
import { CbFlag, type SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { reassembledEcn } from './ecn.ts';
import {
  account,
  expireIpv6,
  glue,
  IPV6_MAXPLEN,
  ipv6QueueKey,
  isAtomic,
  payloadLength,
  readPiece,
  reassembledPayloadLength,
  reportDiscard,
} from './ipv6-common.ts';
import { Ipv6FragmentQueue } from './ipv6-queue.ts';
import type { DiscardReason } from './trace.ts';
import { Ip6DefragUser } from './users.ts';

/** Offset of payload_len in the IPv6 header: what a fragment of odd length is blamed on. */
const PAYLOAD_LENGTH_AT = 4;

/**
 * Handles the fragment header at `skb.transportOffset`; `skb.nhoff` points at the byte that named it.
 *
 * @returns 1 to go on with the header that `skb.nhoff` names now (it is whole, or was never cut); else a negative errno
 *   and `skb` is gone: queued (-EINPROGRESS), dropped, or answered
 */
export function ipv6FragRcv(
  net: DefragContext,
  skb: SkBuff,
  user: number = Ip6DefragUser.LOCAL_DELIVER,
): number {
  const { data } = skb;
  const at = skb.transportOffset;
  if ((skb.cbFlags & CbFlag.IP6SKB_FRAGMENTED) !== 0) return refuseHeader(net, skb);
  net.counters.Ip6ReasmReqds++;
  if (payloadLength(data) === 0 || at + FRAGMENT_HEADER_BYTES > data.length) return refuseHeader(net, skb);
  if (isAtomic(data, at)) {
    skb.transportOffset += FRAGMENT_HEADER_BYTES;
    net.counters.Ip6ReasmOKs++;
    skb.nhoff = at;
    skb.cbFlags |= CbFlag.IP6SKB_FRAGMENTED;
    skb.fragMaxSize = payloadLength(data) + IPV6_HEADER_BYTES;
    net.traceDefrag?.({ kind: 'completed', skb, fragments: 1 });
    return 1;
  }
  if (lacksUpperHeader(data, IPV6_HEADER_BYTES, data[6]!)) {
    net.traceDefrag?.({
      kind: 'discarded',
      reason: 'incomplete-header',
      skb,
      queueKept: true,
      stored: 0,
      key: undefined,
    });
    answer(net, skb, ICMPV6_HDR_INCOMP, 0);
    return -1;
  }
  const directory = net.fragments.ipv6;
  const iif = skb.dev?.ifindex ?? 0;
  const key = ipv6QueueKey(data, at, user, iif);
  const queue = directory.find(
    key,
    () =>
      new Ipv6FragmentQueue(key, user, (expired) => expireIpv6(net, directory, expired as Ipv6FragmentQueue)),
  );
  if (queue === undefined) {
    net.counters.Ip6ReasmFails++;
    net.traceDefrag?.({
      kind: 'discarded',
      reason: 'memory',
      skb,
      queueKept: false,
      stored: 0,
      key: undefined,
    });
    return -1;
  }
  queue.iif = iif;
  return enqueue(net, queue, skb);
}

function enqueue(net: DefragContext, queue: Ipv6FragmentQueue, skb: SkBuff): number {
  const directory = net.fragments.ipv6;
  const at = skb.transportOffset;
  const piece = readPiece(skb.data, at);
  const { offset, end } = piece;
  if (end > IPV6_MAXPLEN) {
    // The pointer shows the offset field of this fragment header.
    return refuse(net, queue, 'beyond-end', skb, at + 2);
  }
  if (!piece.more) {
    if (end < queue.len || (queue.lastIn && end !== queue.len)) return discard(net, queue, 'mismatch', skb);
    queue.lastIn = true;
    queue.len = end;
  } else {
    if ((end & 7) !== 0) return refuse(net, queue, 'unaligned', skb, PAYLOAD_LENGTH_AT);
    if (end > queue.len) {
      if (queue.lastIn) return discard(net, queue, 'mismatch', skb);
      queue.len = end;
    }
  }
  if (end === offset) return discard(net, queue, 'empty', skb);

  const start = at + FRAGMENT_HEADER_BYTES;
  switch (queue.runs.insert({ skb, offset, start, length: end - offset, next: undefined })) {
    case 'duplicate':
      reportDiscard(net, queue, 'duplicate', skb, true);
      return -Errno.EINVAL;
    case 'overlap':
      return discard(net, queue, 'overlap', skb);
    case 'ok':
  }
  account(directory, queue, skb, piece, skb.nhoff);
  queue.maxSize = Math.max(queue.maxSize, start + end - offset);
  if (queue.whole) return reassemble(net, queue, skb);
  net.traceDefrag?.({ kind: 'queued', skb });
  return -Errno.EINPROGRESS;
}

function reassemble(net: DefragContext, queue: Ipv6FragmentQueue, skb: SkBuff): number {
  const directory = net.fragments.ipv6;
  directory.kill(queue);
  const ecn = reassembledEcn(queue.ecn);
  const oversize = reassembledPayloadLength(queue) > IPV6_MAXPLEN;
  if (ecn === undefined || oversize) {
    net.counters.Ip6ReasmFails++;
    reportDiscard(net, queue, oversize ? 'oversize' : 'ecn', skb, false);
    directory.release(queue);
    return -1;
  }
  const lengths = glue(queue, skb, ecn);
  // The host coalesces the pieces: nothing remembers them.
  skb.fragmentLengths = undefined;
  skb.nhoff = queue.nhoffset;
  skb.fragMaxSize = queue.maxSize;
  net.counters.Ip6ReasmOKs++;
  directory.release(queue);
  net.traceDefrag?.({ kind: 'completed', skb, fragments: lengths.length });
  return 1;
}

function discard(net: DefragContext, queue: Ipv6FragmentQueue, reason: DiscardReason, skb: SkBuff): number {
  net.counters.Ip6ReasmFails++;
  reportDiscard(net, queue, reason, skb, false);
  net.fragments.ipv6.discard(queue);
  return -Errno.EINVAL;
}

/** Answers one fragment with a parameter problem; its datagram lives on. */
function refuse(
  net: DefragContext,
  queue: Ipv6FragmentQueue,
  reason: DiscardReason,
  skb: SkBuff,
  pointer: number,
): number {
  reportDiscard(net, queue, reason, skb, true);
  answer(net, skb, ICMPV6_HDR_FIELD, pointer);
  return -1;
}

/** A fragment header that is cut off, nested, or in a jumbogram: blamed on the byte where it begins. */
function refuseHeader(net: DefragContext, skb: SkBuff): number {
  net.traceDefrag?.({ kind: 'discarded', reason: 'header', skb, queueKept: true, stored: 0, key: undefined });
  answer(net, skb, ICMPV6_HDR_FIELD, skb.transportOffset);
  return -1;
}

function answer(net: DefragContext, skb: SkBuff, code: number, pointer: number): void {
  net.counters.Ip6InHdrErrors++;
  net.sendIcmpError({
    family: 'ipv6',
    type: ICMPV6_PARAMPROB,
    code,
    info: pointer,
    packet: skb.data,
    dev: skb.dev,
    pktType: skb.pktType,
  });
}
