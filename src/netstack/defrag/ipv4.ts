/**
 * IPv4 reassembly as Linux does it. Source: net/ipv4/ip_fragment.c; RFC 791, RFC 5722 (applied to IPv4 too).
 */
import { internetChecksum } from '../../wire/index.ts';
import { Errno } from '../errno.ts';
import { ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED } from '../icmp-error.ts';
import { CbFlag, ETH_P_IP, type SkBuff } from '../skb.ts';
import type { DefragContext } from './context.ts';
import { ecnBit, reassembledEcn } from './ecn.ts';
import { Ipv4FragmentQueue } from './ipv4-queue.ts';
import type { FragmentQueue } from './queue.ts';
import type { DiscardReason } from './trace.ts';
import { expiresSilently, IpDefragUser } from './users.ts';

const IP_DF = 0x4000;
const IP_MF = 0x2000;
const IP_OFFSET = 0x1fff;
const IP_MAX_PACKET = 65535;

/** True when the packet is a piece of a datagram (MF set, or an offset). `data` begins with an IPv4 header. */
export function isIpv4Fragment(data: Uint8Array): boolean {
  return (((data[6]! << 8) | data[7]!) & (IP_MF | IP_OFFSET)) !== 0;
}

/**
 * Takes a fragment (ip_defrag). `skb.data` holds a checked IPv4 header and ends with the packet.
 *
 * @param user one of IpDefragUser, plus a zone where it has zones
 * @returns 0 when the datagram is whole: `skb` is that datagram now. Else a negative errno and the queue owns or has
 *   dropped `skb`: EINPROGRESS waits for more, ENOMEM over the threshold, EINVAL unusable, E2BIG longer than 65535
 */
export function ipDefrag(net: DefragContext, skb: SkBuff, user: number): number {
  net.counters.IpReasmReqds++;
  const vif = skb.dev?.l3mdevIfindex ?? 0;
  const directory = net.fragments.ipv4;
  const key = queueKey(skb.data, user, vif);
  const queue = directory.find(key, () => {
    const created = new Ipv4FragmentQueue(key, user, (expired) => expire(net, expired as Ipv4FragmentQueue));
    if (directory.limits.maxDist > 0) created.peer = net.peers.acquire(peerKey(skb.data, vif));
    return created;
  });
  if (queue === undefined) {
    net.counters.IpReasmFails++;
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
  return enqueue(net, queue, skb);
}

/**
 * What packet sockets and macvlan call: reassembles when the packet is a fragment of a sane IPv4 packet, else leaves it
 * alone (ip_check_defrag).
 *
 * @returns the errno that ipDefrag gave, 0 also when nothing was to be done
 */
export function ipCheckDefrag(net: DefragContext, skb: SkBuff, user: number): number {
  const { data } = skb;
  if (skb.protocol !== ETH_P_IP || data.length < 20) return 0;
  const headerLength = (data[0]! & 15) * 4;
  const totalLength = (data[2]! << 8) | data[3]!;
  if (data[0]! >> 4 !== 4 || headerLength < 20) return 0;
  if (data.length < totalLength || totalLength < headerLength) return 0;
  if (!isIpv4Fragment(data)) return 0;
  skb.data = data.subarray(0, totalLength);
  skb.cbFlags = 0;
  skb.fragMaxSize = 0;
  return ipDefrag(net, skb, user);
}

function queueKey(data: Uint8Array, user: number, vif: number): string {
  const half = (at: number): number => (data[at]! << 8) | data[at + 1]!;
  return String.fromCharCode(
    half(12),
    half(14),
    half(16),
    half(18),
    half(4),
    data[9]!,
    user >>> 16,
    user & 0xffff,
    vif >>> 16,
    vif & 0xffff,
  );
}

function peerKey(data: Uint8Array, vif: number): string {
  return String.fromCharCode(
    (data[12]! << 8) | data[13]!,
    (data[14]! << 8) | data[15]!,
    vif >>> 16,
    vif & 0xffff,
  );
}

/** Stores one fragment; ip_frag_queue. */
function enqueue(net: DefragContext, queue: Ipv4FragmentQueue, skb: SkBuff): number {
  const { data } = skb;
  const directory = net.fragments.ipv4;
  if ((skb.cbFlags & CbFlag.IPSKB_FRAG_COMPLETE) === 0 && isTooFar(net, queue)) {
    net.counters.IpReasmFails++;
    report(net, queue, 'too-far', skb, true);
    restart(net, queue);
  }
  const frag = (data[6]! << 8) | data[7]!;
  const offset = (frag & IP_OFFSET) * 8;
  const headerLength = (data[0]! & 15) * 4;
  let end = offset + data.length - headerLength;

  if ((frag & IP_MF) === 0) {
    if (end < queue.len || (queue.lastIn && end !== queue.len)) return discard(net, queue, 'mismatch', skb);
    queue.lastIn = true;
    queue.len = end;
  } else {
    // Bytes beyond the last multiple of 8 could not be continued: they are cut off.
    end &= ~7;
    if (end > queue.len) {
      if (queue.lastIn) return discard(net, queue, 'mismatch', skb);
      queue.len = end;
    }
  }
  if (end === offset) return discard(net, queue, 'empty', skb);

  const length = end - offset;
  const fragment = { skb, offset, start: headerLength, length, next: undefined };
  switch (queue.runs.insert(fragment)) {
    case 'duplicate':
      report(net, queue, 'duplicate', skb, true);
      return -Errno.EINVAL;
    case 'overlap':
      net.counters.IpExtReasmOverlaps++;
      return discard(net, queue, 'overlap', skb);
    case 'ok':
  }
  if (skb.dev !== undefined) queue.iif = skb.dev.ifindex;
  queue.stampNs = skb.timestampNs;
  queue.meat += length;
  queue.ecn |= ecnBit(data[1]!);
  directory.charge(skb.truesize);
  if (offset === 0) queue.firstIn = true;
  const fragmentSize = length + headerLength;
  queue.maxSize = Math.max(queue.maxSize, fragmentSize);
  if ((frag & IP_DF) !== 0) queue.maxDfSize = Math.max(queue.maxDfSize, fragmentSize);

  if (queue.whole) return reassemble(net, queue, skb);
  net.traceDefrag?.({ kind: 'queued', skb });
  return -Errno.EINPROGRESS;
}

/** More than max_dist fragments of this source came since this datagram's last one; ip_frag_too_far. */
function isTooFar(net: DefragContext, queue: Ipv4FragmentQueue): boolean {
  const { maxDist } = net.fragments.ipv4.limits;
  const { peer } = queue;
  if (peer === undefined || maxDist === 0) return false;
  const before = queue.lastFragment;
  queue.lastFragment = ++peer.fragments;
  return !queue.runs.empty && queue.lastFragment - before > maxDist;
}

/** Begins the datagram anew; ip_frag_reinit. The largest sizes seen stay, as they do there. */
function restart(net: DefragContext, queue: Ipv4FragmentQueue): void {
  net.fragments.ipv4.restart(queue);
  queue.firstIn = false;
  queue.lastIn = false;
  queue.len = 0;
  queue.meat = 0;
  queue.iif = 0;
  queue.ecn = 0;
}

/** Turns `skb`, the fragment that came last, into the datagram; ip_frag_reasm. */
function reassemble(net: DefragContext, queue: Ipv4FragmentQueue, skb: SkBuff): number {
  const directory = net.fragments.ipv4;
  directory.kill(queue);
  const ecn = reassembledEcn(queue.ecn);
  const first = queue.runs.head!;
  const headerLength = first.start;
  const total = headerLength + queue.len;
  if (ecn === undefined || total > IP_MAX_PACKET) {
    net.counters.IpReasmFails++;
    report(net, queue, ecn === undefined ? 'ecn' : 'oversize', skb, false);
    free(net, queue);
    return ecn === undefined ? -Errno.EINVAL : -Errno.E2BIG;
  }
  const datagram = new Uint8Array(total);
  datagram.set(first.skb.data.subarray(0, headerLength));
  const lengths: number[] = [];
  let truesize = 0;
  queue.runs.forEach((fragment) => {
    const { start, length } = fragment;
    datagram.set(fragment.skb.data.subarray(start, start + length), headerLength + fragment.offset);
    lengths.push(length);
    truesize += fragment.skb.truesize;
  });
  // Everything of the packet that is not bytes comes from the first fragment; device and time from the last to come.
  skb.takeMetadata(first.skb);
  skb.data = datagram;
  skb.truesize = truesize;
  skb.timestampNs = queue.stampNs;
  skb.fragMaxSize = Math.max(queue.maxDfSize, queue.maxSize);
  // Local delivery coalesces the pieces into pages; the other users keep them as they came.
  skb.fragmentLengths = queue.user === IpDefragUser.LOCAL_DELIVER ? undefined : lengths;
  datagram[1]! |= ecn;
  const view = new DataView(datagram.buffer);
  view.setUint16(2, total);
  // DF only when the largest piece had it: else a small piece with DF would forbid what the sender did itself.
  const keepDf = queue.maxDfSize === queue.maxSize;
  if (keepDf) skb.cbFlags |= CbFlag.IPSKB_FRAG_PMTU;
  view.setUint16(6, keepDf ? IP_DF : 0);
  view.setUint16(10, 0);
  view.setUint16(10, internetChecksum(datagram.subarray(0, headerLength)));
  net.counters.IpReasmOKs++;
  free(net, queue);
  net.traceDefrag?.({ kind: 'completed', skb, fragments: lengths.length });
  return 0;
}

/** ip_expire: the datagram did not complete in time. */
function expire(net: DefragContext, queue: Ipv4FragmentQueue): void {
  if (queue.complete) return;
  net.fragments.ipv4.kill(queue);
  net.counters.IpReasmFails++;
  net.counters.IpReasmTimeout++;
  const head = queue.firstIn ? queue.runs.head : undefined;
  report(net, queue, 'timeout', head?.skb, false);
  free(net, queue);
  if (head === undefined) return;
  const dev = net.deviceByIndex(queue.iif);
  if (dev === undefined) return;
  const { data } = head.skb;
  const route = net.routeInput(data.subarray(12, 16), data.subarray(16, 20), dev);
  if (route === undefined || (expiresSilently(queue.user) && route !== 'local')) return;
  net.sendIcmpError({
    family: 'ipv4',
    type: ICMP_TIME_EXCEEDED,
    code: ICMP_EXC_FRAGTIME,
    info: 0,
    packet: data.subarray(0, head.start + head.length),
    dev,
    pktType: head.skb.pktType,
  });
}

function discard(net: DefragContext, queue: Ipv4FragmentQueue, reason: DiscardReason, skb: SkBuff): number {
  net.counters.IpReasmFails++;
  net.fragments.ipv4.kill(queue);
  report(net, queue, reason, skb, false);
  free(net, queue);
  return -Errno.EINVAL;
}

function free(net: DefragContext, queue: Ipv4FragmentQueue): void {
  net.fragments.ipv4.release(queue);
  if (queue.peer !== undefined) net.peers.release(queue.peer);
  queue.peer = undefined;
}

function report(
  net: DefragContext,
  queue: FragmentQueue,
  reason: DiscardReason,
  skb: SkBuff | undefined,
  queueKept: boolean,
): void {
  net.traceDefrag?.({ kind: 'discarded', reason, skb, queueKept, stored: queue.runs.count, key: queue.key });
}
