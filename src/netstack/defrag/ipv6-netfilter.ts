/**
 * IPv6 reassembly of nf_defrag: what runs at priority -400 for conntrack and for links with BPF_F_NETFILTER_IP_DEFRAG.
 * It counts nothing but timeouts, and what it cannot use it leaves to the host, which answers.
 * Source: net/ipv6/netfilter/nf_conntrack_reasm.c.
 */
import { Errno } from '../errno.ts';
import {
  FRAGMENT_HEADER_BYTES,
  findFragmentHeader,
  IPV6_HEADER_BYTES,
  lacksUpperHeader,
  NEXTHDR_FRAGMENT,
} from '../ipv6-header.ts';
import type { SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { reassembledEcn } from './ecn.ts';
import {
  account,
  expireIpv6,
  glue,
  IPV6_MAXPLEN,
  ipv6QueueKey,
  payloadLength,
  readPiece,
  reassembledPayloadLength,
  reportDiscard,
} from './ipv6-common.ts';
import { Ipv6FragmentQueue } from './ipv6-queue.ts';
import type { DiscardReason } from './trace.ts';

/**
 * Gathers a fragment (nf_ct_frag6_gather). `skb.data` holds a checked IPv6 header and ends with the packet.
 *
 * @returns 0 to go on with `skb`: it is whole now, or no fragment, or left to the host; -EINPROGRESS when the queue keeps
 *   it or it was a duplicate; any other negative errno to drop it
 */
export function nfCtFrag6Gather(net: DefragContext, skb: SkBuff, user: number): number {
  const { data } = skb;
  // In a jumbogram a fragment header means nothing (RFC 2675 §3).
  if (payloadLength(data) === 0) return 0;
  const position = findFragmentHeader(data);
  if (position === undefined) return 0;
  const at = position.offset;
  if (lacksUpperHeader(data, at, NEXTHDR_FRAGMENT)) return 0;
  if (at + FRAGMENT_HEADER_BYTES > data.length) return -Errno.ENOMEM;

  const directory = net.fragments.netfilter6;
  const key = ipv6QueueKey(data, at, user, skb.dev?.ifindex ?? 0);
  const queue = directory.find(
    key,
    () =>
      new Ipv6FragmentQueue(key, user, (expired) => expireIpv6(net, directory, expired as Ipv6FragmentQueue)),
  );
  if (queue === undefined) {
    net.traceDefrag?.({
      kind: 'discarded',
      reason: 'memory',
      skb,
      queueKept: false,
      stored: 0,
      key: undefined,
    });
    return -Errno.ENOMEM;
  }
  return enqueue(net, queue, skb, at, position.nhoffset);
}

function enqueue(
  net: DefragContext,
  queue: Ipv6FragmentQueue,
  skb: SkBuff,
  at: number,
  nhoffset: number,
): number {
  const directory = net.fragments.netfilter6;
  const piece = readPiece(skb.data, at);
  const { offset, end } = piece;
  if (end > IPV6_MAXPLEN) return drop(net, queue, 'beyond-end', skb);
  if (!piece.more) {
    if (end < queue.len || (queue.lastIn && end !== queue.len)) return drop(net, queue, 'mismatch', skb);
    queue.lastIn = true;
    queue.len = end;
  } else {
    if ((end & 7) !== 0) {
      reportDiscard(net, queue, 'unaligned', skb, false);
      directory.discard(queue);
      return 0;
    }
    if (end > queue.len) {
      if (queue.lastIn) return drop(net, queue, 'mismatch', skb);
      queue.len = end;
    }
  }
  if (end === offset) return drop(net, queue, 'empty', skb);

  const start = at + FRAGMENT_HEADER_BYTES;
  switch (queue.runs.insert({ skb, offset, start, length: end - offset, next: undefined })) {
    case 'duplicate':
      reportDiscard(net, queue, 'duplicate', skb, true);
      return -Errno.EINPROGRESS;
    case 'overlap':
      reportDiscard(net, queue, 'overlap', skb, false);
      directory.discard(queue);
      return -Errno.EINVAL;
    case 'ok':
  }
  account(directory, queue, skb, piece, nhoffset);
  queue.maxSize = Math.max(queue.maxSize, payloadLength(skb.data));
  if (queue.whole) return reassemble(net, queue, skb);
  net.traceDefrag?.({ kind: 'queued', skb });
  return -Errno.EINPROGRESS;
}

/** A whole queue is gone whatever comes of it: the caller learns of a failure as if it waited on. */
function reassemble(net: DefragContext, queue: Ipv6FragmentQueue, skb: SkBuff): number {
  const directory = net.fragments.netfilter6;
  directory.kill(queue);
  const ecn = reassembledEcn(queue.ecn);
  const oversize = reassembledPayloadLength(queue) > IPV6_MAXPLEN;
  if (ecn === undefined || oversize) {
    reportDiscard(net, queue, oversize ? 'oversize' : 'ecn', skb, false);
    directory.release(queue);
    return -Errno.EINPROGRESS;
  }
  const lengths = glue(queue, skb, ecn);
  skb.fragmentLengths = lengths;
  skb.ignoreDf = true;
  skb.fragMaxSize = IPV6_HEADER_BYTES + queue.maxSize;
  directory.release(queue);
  net.traceDefrag?.({ kind: 'completed', skb, fragments: lengths.length });
  return 0;
}

/** Drops one fragment; its datagram lives on. */
function drop(net: DefragContext, queue: Ipv6FragmentQueue, reason: DiscardReason, skb: SkBuff): number {
  reportDiscard(net, queue, reason, skb, true);
  return -Errno.EINVAL;
}
