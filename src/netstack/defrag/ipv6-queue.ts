/** IPv6's own part of a fragment queue. */
import { type FragmentLimits, FragmentQueue } from './queue.ts';

/** sizeof(struct frag_queue), Linux 6.18 on x86_64. */
export const FRAG_QUEUE_BYTES = 184;

/** include/net/ipv6.h, IPV6_FRAG_*: of the host and of nf_defrag alike. */
export const IPV6_FRAGMENT_LIMITS: FragmentLimits = {
  highThresh: 4_194_304,
  lowThresh: 3_145_728,
  timeoutMs: 60_000,
  maxDist: 0,
};

export class Ipv6FragmentQueue extends FragmentQueue {
  /** In the first fragment: offset of the next-header byte that names the fragment header. */
  nhoffset = 0;
}
